"""Real node processes, killed and stopped: their actors come back, and nothing is handled in two places at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

import cajun_fast as cf
from tests.cluster.conftest import eventually

HOSTED = Path(__file__).resolve().parent / "hosted"
CLI = "from cajun_fast.management.cli import main; main()"
pytestmark = pytest.mark.processes


class Nodes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = f"sqlite:///{folder}/cluster.db"
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.environ: dict[str, str] = {}
        self.settings: dict[str, str] = {"membership.lease_ttl": "1.5"}
        #: Which of the modules beside ``hosted_actors`` they import.
        self.module = "hosted_actors"

    async def start(self, *names: str) -> None:
        await asyncio.gather(*(self._start(name) for name in names))

    async def _start(self, name: str) -> None:
        paths = [str(HOSTED), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        command = [sys.executable, "-c", CLI, "node", "--id", name, "--store", self.store, "--port", "0"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = process = await asyncio.create_subprocess_exec(
                *command,
                "--import",
                self.module,
                *(part for name, value in self.settings.items() for part in ("--set", f"{name}={value}")),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert json.loads(line)["event"] == "ready", (self.folder / f"{name}.log").read_text()

    async def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            await self.processes.pop(name).wait()

    async def stop(self) -> list[int]:
        for process in self.processes.values():
            process.terminate()
        return [await asyncio.wait_for(process.wait(), 20) for process in self.processes.values()]

    def client(self) -> cf.ClusterActorSystem:
        builder = cf.ClusterConfig.Builder("client", self.store).with_messaging_port(0).as_client()
        for name, value in self.settings.items():
            builder.with_setting(name, float(value))
        return cf.ClusterFactory.create_cluster_system(builder.build())


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    for process in made.processes.values():
        if process.returncode is None:
            process.kill()
            await process.wait()


async def place_of(system: cf.ClusterActorSystem, actor_id: str, message: str = "where") -> str | None:
    try:
        return str(await system.pid(actor_id).ask(message, timeout=2.0))
    except (cf.CajunError, TimeoutError):
        return None


async def test_after_a_kill_every_actor_runs_again_and_a_stop_ends_with_status_0(nodes: Nodes) -> None:
    await nodes.start("a", "b", "c")
    log = nodes.folder / "handled"
    async with nodes.client() as system:
        ids = [f"w{n}" for n in range(60)]
        for n, each in enumerate(ids):
            await system.create_actor_on_node("witness", each, "abc"[n % 3], str(log))
        assert {await place_of(system, each) for each in ids} == {"a", "b", "c"}
        await nodes.signal("b", signal.SIGKILL)
        for each in ids:
            place = await eventually(lambda: place_of(system, each), 20)  # noqa: B023
            assert place in ("a", "c")
        await nodes.start("b")
        await system.create_actor_on_node("witness", "again", "b", str(log))
        assert await place_of(system, "again") == "b"
        page = await system.manager.get_cluster_actors()
        assert len(page.actors) == 61
    assert await nodes.stop() == [0, 0, 0]


async def test_a_node_that_was_paused_finds_itself_fenced_and_nothing_is_handled_in_two_places(
    nodes: Nodes,
) -> None:
    await nodes.start("a", "b")
    log = nodes.folder / "handled"
    async with nodes.client() as system:
        await system.create_actor_on_node("witness", "w", "b", str(log))
        n = 0

        async def send_on() -> None:
            nonlocal n
            while True:
                n += 1
                await place_of(system, "w", str(n))
                await asyncio.sleep(0.01)

        sending = asyncio.ensure_future(send_on())
        await asyncio.sleep(0.5)
        await nodes.signal("b", signal.SIGSTOP)
        await eventually(lambda: " a " in log.read_text(), 20)
        await nodes.signal("b", signal.SIGCONT)
        await asyncio.sleep(4)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert await eventually(lambda: place_of(system, "w"), 10) == "a"
    places = [line.split()[1] for line in log.read_text().splitlines()]
    late = [at for at in range(places.index("a"), len(places)) if places[at] == "b"]
    assert len(late) <= 1, (
        "handled by b, then by a; by b again at most what was in its hands when it was paused"
    )
    changes = sum(before != after for before, after in pairwise(places))
    assert changes == 1 + 2 * len(late)
    messages = [line.split()[2] for line in log.read_text().splitlines() if line.split()[2] != "where"]
    assert len(messages) == len(set(messages)), "something was handled twice"
    assert await nodes.stop() == [0, 0]


async def test_by_default_killed_nodes_are_noticed_long_before_their_leases_are_over(nodes: Nodes) -> None:
    """One that does not lead, then two at once: the leader, and the next in the line for its lock."""
    nodes.settings.clear()
    await nodes.start("a", "b", "c", "d")
    log = nodes.folder / "handled"
    async with nodes.client() as system:
        loop = asyncio.get_running_loop()
        leader = await eventually(system.manager.get_leader)
        others = [name for name in "abcd" if name != leader]
        for victims in ([others[0]], [leader, others[1]]):
            for victim in victims:
                await system.create_actor_on_node("witness", victim, victim, str(log))
                assert await place_of(system, victim) == victim
            lease_ends = loop.time() + 2 / 3 * system.config.membership.lease_ttl
            for victim in victims:
                await nodes.signal(victim, signal.SIGKILL)
            for victim in victims:
                await eventually(lambda: victim not in system.known_nodes, 20)  # noqa: B023
                assert await eventually(lambda: place_of(system, victim), 20) not in victims  # noqa: B023
            assert loop.time() < lease_ends
    await nodes.stop()


async def test_a_node_whose_gil_is_held_for_longer_than_its_lease_is_stuck_and_loses_nothing(
    nodes: Nodes,
) -> None:
    nodes.settings["membership.lease_ttl"] = "4"
    await nodes.start("a", "b")
    log = nodes.folder / "handled"
    async with nodes.client() as system:
        await system.create_actor_on_node("witness", "w", "b", str(log))
        await system.create_actor_on_node("witness", "other", "b", str(log))
        assert await place_of(system, "other") == "b"
        loop = asyncio.get_running_loop()
        began = loop.time()
        held = asyncio.ensure_future(system.pid("w").ask(["hold", 7.0], timeout=30))
        await asyncio.sleep(0.3)
        waiting = asyncio.ensure_future(system.pid("other").ask("where", timeout=30))
        assert (await held, await waiting) == ("b", "b")
        assert loop.time() - began >= 7
        (b,) = [node for node in await system.manager.get_cluster_nodes() if node.node == "b"]
        assert b.incarnation == 1
    assert await nodes.stop() == [0, 0]
    assert "is lost" not in (nodes.folder / "a.log").read_text()
