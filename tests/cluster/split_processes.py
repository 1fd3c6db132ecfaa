"""Three node processes and a client whose every cable runs through relays, with senders on all nodes and moves going
on: what tests do to them, and the history that comes of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import cajun_fast as cf
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.ports import Ports
from cajun_fast.testing.etcd import free_ports
from tests.cluster.cables import STORE, Cables
from tests.cluster.conftest import eventually
from tests.cluster.histories import Faults, History, Kill, Verdict
from tests.cluster.test_processes import CLI, HOSTED

NAMES = "abc"
SCRIBES, TOMES = 4, 2
SETTINGS = {"membership.lease_ttl": 3.0, "membership.suspicion_timeout": 0.7}
PLUGIN = "[cajun_fast.stores]\ncuttable = hosted_splits:open_cuttable\n"


class SplitNodes:
    """See the module's text. ``etcd``: the URL of one; None: a sqlite file."""

    def __init__(self, folder: Path, etcd: str | None, seed: int) -> None:
        self.folder = folder
        self.etcd = etcd
        self.chance = random.Random(seed)
        self.cables = Cables()
        self.faults = Faults()
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.lives: dict[str, int] = dict.fromkeys(NAMES, 0)
        self.client: cf.ClusterActorSystem | None = None
        self.actors = [f"s{n}" for n in range(SCRIBES)] + [f"t{n}" for n in range(TOMES)]
        self.moves = 0
        self._ports: dict[str, int] = {}
        self._doors: dict[str, int] = {}
        self._stores: dict[str, str] = {}
        self._moving: asyncio.Task[None] | None = None

    # ---- life

    async def start(self) -> None:
        plugin = self.folder / "plugin" / "cuttable-1.0.dist-info"
        plugin.mkdir(parents=True)
        (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: cuttable\nVersion: 1.0\n")
        (plugin / "entry_points.txt").write_text(PLUGIN)
        for name in (*NAMES, "client"):
            await self._lay_cables(name)
        await asyncio.gather(*(self.start_node(name) for name in NAMES))
        self.client = await self._join()
        for n, actor in enumerate(self.actors):
            await self._create("scribe" if actor[0] == "s" else "tome", actor, NAMES[n % 3])
        for name in NAMES:
            await self.begin_sending(name)
        self._moving = asyncio.ensure_future(self._move_on())

    async def _lay_cables(self, name: str) -> None:
        self._ports[name] = free_ports(1)[0]
        self._doors[name] = await self.cables.door_of(name, self._ports[name])
        if self.etcd is not None:
            target = int(self.etcd.rpartition(":")[2])
            self._stores[name] = f"http://127.0.0.1:{await self.cables.store_of(name, target)}"
        else:
            scheme = "sqlite" if name == "client" else "cuttable"
            self._stores[name] = f"{scheme}:///{self.folder}/cluster.db"

    async def start_node(self, name: str, *, again: bool = True) -> None:
        await self.cables.open(name)
        temporary = self.folder / ("no-unix-socket-has-so-long-a-path-" * 4) / name
        temporary.mkdir(parents=True, exist_ok=True)
        settings = {**SETTINGS, "messaging.advertised_port": self._doors[name]}
        paths = [str(HOSTED), str(self.folder / "plugin"), os.environ.get("PYTHONPATH", "")]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", CLI, "node", "--id", name, "--store", self._stores[name]),
                *("--port", str(self._ports[name]), "--import", "hosted_splits"),
                *("--persistence", f"sqlite:///{self.folder}/states.db?synchronous=normal"),
                *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={
                    **{key: value for key, value in os.environ.items() if not key.startswith("CAJUN_")},
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                    "SPLITS_FOLDER": str(self.folder),
                    "SPLITS_NODE": name,
                    "TMPDIR": str(temporary),
                },
            )
        self.processes[name] = process
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        if not line and await process.wait() == -signal.SIGSEGV and again:
            return await self.start_node(name, again=False)  # seen once, in a thread of grpcio's own
        assert line, f"node {name} did not start: {self.log(name)[-2000:]}"
        assert json.loads(line)["event"] == "ready"

    async def _join(self) -> cf.ClusterActorSystem:
        builder = cf.ClusterConfig.Builder("client", self._stores["client"])
        builder.with_messaging_port(self._ports["client"]).as_client()
        for key, value in {**SETTINGS, "messaging.advertised_port": self._doors["client"]}.items():
            builder.with_setting(key, value)
        client = cf.ClusterActorSystem(builder.build(), ports=Ports(network=SocketNetwork(unix=False)))
        await client.start()
        return client

    async def begin_sending(self, name: str) -> None:
        assert self.client is not None
        self.lives[name] += 1
        sender = f"{name}.{self.lives[name]}"
        mark = self.folder / f"began-{sender}"
        async with asyncio.timeout(60):
            while not mark.exists():  # it may start just before its node is lost
                actor = f"sender-{sender}-{time.monotonic_ns()}"
                await self._create("sender", actor, name, name, sender, self.actors)

    async def _create(self, kind: str, actor: str, node: str, *args: Any) -> None:
        """On that node, as soon as it can be: one that is busy may stand still, or even be lost for a moment."""
        assert self.client is not None
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.client.create_actor_on_node(kind, actor, node, *args)
                    return
                except cf.ActorAlreadyExistsError:
                    return
                except cf.CajunError:
                    await asyncio.sleep(0.1)

    async def stop(self) -> None:
        self.heal()
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.gather(self._moving, return_exceptions=True)
        if self.client is not None:
            await self.client.stop()
        for process in self.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
        await self.cables.stop()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # ---- what happens to them

    def cut(self, one: str, other: str, *, back: bool = True) -> None:
        self.cables.cut(one, other)
        if back:
            self.cables.cut(other, one)

    def isolate(self, name: str, *, mute: bool = True, deaf: bool = True) -> None:
        """From all other members. ``mute``: nobody hears it; ``deaf``: it hears nobody."""
        for other in (*NAMES, "client"):
            if other != name and mute:
                self.cables.cut(name, other)
            if other != name and deaf:
                self.cables.cut(other, name)

    def cut_off_from_store(self, name: str, *, mute: bool = True, deaf: bool = True) -> None:
        """``mute``: its requests do not arrive; ``deaf``: they do, and no answer comes back (an etcd only)."""
        if self.etcd is None:
            (self.folder / f"cut-{name}").touch()
            return
        if mute:
            self.cables.cut(name, STORE)
        if deaf:
            self.cables.cut(STORE, name)

    def heal(self, *, reset: bool = False) -> None:
        for name in NAMES:
            (self.folder / f"cut-{name}").unlink(missing_ok=True)
        self.cables.heal(reset=reset)

    async def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        self.faults.kills.append(Kill(time.monotonic_ns(), name, process.pid))
        self.cables.shut(name)
        await process.wait()
        self.faults.silenced.add(f"{name}.{self.lives[name]}")

    async def pause(self, name: str, seconds: float) -> None:
        process = self.processes[name]
        self.faults.pauses.append(process.pid)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def _move_on(self) -> None:
        """Moves without end, from node to node; where one cannot be done now, the next one is tried."""
        assert self.client is not None
        while True:
            actor, target = self.chance.choice(self.actors), self.chance.choice(NAMES)
            try:
                result = await self.client.manager.migrate_actor(actor, target, timeout=10)
            except cf.CajunError:
                await asyncio.sleep(0.1)
                continue
            if result.outcome == "moved":
                self.moves += 1
                self.faults.moved.add((actor, result.epoch))
            await asyncio.sleep(0.05)

    # ---- the end

    async def whole(self, seconds: float = 45.0) -> None:
        """Until everybody is back and every actor answers."""
        client = self.client
        assert client is not None
        try:
            await eventually(lambda: set(client.known_nodes) == {*NAMES, "client"}, seconds)
            for actor in self.actors:
                await eventually(lambda: self._answers(actor), seconds)  # noqa: B023
        except TimeoutError:
            logs = "\n".join(f"--- {name}\n{self.log(name)[-3000:]}" for name in NAMES)
            raise AssertionError(f"not whole again: {sorted(client.known_nodes)}\n{logs}") from None

    async def _answers(self, actor: str) -> bool:
        assert self.client is not None
        try:
            await self.client.pid(actor).ask(["probe", 0], timeout=3)
        except (cf.CajunError, TimeoutError):
            return False
        return True

    async def finish(self) -> dict[str, int]:
        """No more is sent; everybody waits for what it was told; then the verdict."""
        client = self.client
        assert client is not None
        assert self._moving is not None
        self._moving.cancel()
        await asyncio.gather(self._moving, return_exceptions=True)
        (self.folder / "end").touch()
        senders = {f"{name}.{life}" for name, life in self.lives.items()}
        await eventually(lambda: senders <= History.read(self.folder / "history").ended, 60)
        states: dict[str, Any] = {}
        for actor in self.actors:
            if actor[0] == "t":
                states[actor] = await client.pid(actor).ask("seen", timeout=10)
        history = History.read(self.folder / "history")
        counts = Verdict(history, self.faults).check(states)
        return {
            **counts,
            "handled": len(history.handled),
            "moves": self.moves,
            "letters": len(history.letters),
        }
