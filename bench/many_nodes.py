"""A cluster of a hundred nodes: what it costs while nothing happens, and how long joins and losses take.

    python bench/many_nodes.py [--nodes 100] [--each 10] [--store etcd|sqlite] [--quiet 20] [--set NAME=VALUE] [--json]

Every node is a whole member with links, a seat and a watch of its own; ``--each`` of them share a process and its event
loop, so that a machine with two cores has room for them. One more node, in a process of its own, joins, has 200 actors
and is killed with SIGKILL; then the leader's process is killed with all its nodes; then the store is stopped for
some seconds, and goes on. Afterwards every actor has to answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import cajun_fast as cf
from cajun_fast.testing.etcd import EtcdCluster

ACTORS = 200
OUTAGE = 4.0
PATIENCE = 180.0


@cf.actor("placed")
class Placed(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        return context.node_id


def config(name: str, store: str, settings: Sequence[str]) -> cf.ClusterConfig.Builder:
    builder = cf.ClusterConfig.Builder(name, store).with_messaging_port(0)
    for setting in settings:
        key, _, value = setting.partition("=")
        builder.with_setting(key, float(value))
    return builder


# ---- a process of members


class Members:
    """Some members, and what the parent asks of them."""

    def __init__(self, systems: Sequence[cf.ClusterActorSystem]) -> None:
        self.systems = systems

    def stats(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        nodes = [system._node for system in self.systems]
        return {
            "cpu": used.ru_utime + used.ru_stime,
            "megabytes": used.ru_maxrss / 1024,
            "nodes": len(nodes),
            "connections": sum(
                peer.connection is not None for node in nodes for peer in node.messaging._peers.values()
            ),
            "incarnations": sum(system.incarnation for system in self.systems),
            "pauses": sum(not node.membership.holds for node in nodes),
        }

    async def until(self, having: int, lacking: Sequence[str] = ()) -> float:
        """The moment at which each of them has so many members in view, and none of those."""
        while any(  # noqa: ASYNC110 - measured from outside, as a user would see it
            len(system.known_nodes) < having or any(name in system.known_nodes for name in lacking)
            for system in self.systems
        ):
            await asyncio.sleep(0.02)
        return time.monotonic()


async def serve(names: Sequence[str], store: str, settings: Sequence[str]) -> None:
    """Start members, then answer commands, a line each; until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with AsyncExitStack() as stack:
        systems = [
            cf.ClusterFactory.create_cluster_system(config(name, store, settings).build()) for name in names
        ]
        for system in systems:
            await stack.enter_async_context(system)
        members = Members(systems)
        print(json.dumps(time.monotonic()), flush=True)
        while line := await reader.readline():
            command = json.loads(line)
            answer = members.stats() if command == "stats" else await members.until(**command)
            print(json.dumps(answer), flush=True)


class Worker:
    """The parent's end of such a process."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, store: str, folder: Path, settings: Sequence[str]) -> float:
        """The moment at which all its members are in."""
        with open(folder / f"{self.names[0]}.log", "ab") as log:  # noqa: ASYNC230 - before anything is measured
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, __file__, "--members", *self.names, "--store", store,
                *(part for setting in settings for part in ("--set", setting)),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        return float(await self._line())

    async def ask(self, command: Any) -> Any:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self._line()

    async def _line(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        if not line:
            raise SystemExit(f"the process of {self.names[0]} has ended: see its log")
        return json.loads(line)

    async def end(self, sign: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(sign)
            await self.process.wait()


# ---- the store


class Store:
    """The URL, and what can be seen of the server."""

    def __init__(self, url: str, cluster: EtcdCluster | None = None) -> None:
        self.url = url
        self._member = None if cluster is None else cluster.members[0]

    def send(self, sign: signal.Signals) -> None:
        if self._member is not None:
            self._member.send(sign)

    async def seen(self) -> dict[str, float]:
        """CPU seconds, requests and bytes sent to clients since its start; nothing for sqlite."""
        if self._member is None or self._member.process is None:
            return {}
        seen = {"cpu": cpu_of(self._member.process.pid)}
        for line in (await self._member._page("/metrics")).decode().splitlines():
            name, _, value = line.partition(" ")
            if name.startswith("grpc_server_handled_total{") and 'grpc_code="OK"' in name:
                seen["requests"] = seen.get("requests", 0.0) + float(value)
            elif name == "etcd_network_client_grpc_sent_bytes_total":
                seen["bytes_to_clients"] = float(value)
        return seen


def cpu_of(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def store_for(name: str, folder: Path) -> AsyncIterator[Store]:
    if name == "etcd":
        async with EtcdCluster.of(1) as cluster:
            yield Store(cluster.url, cluster)
    else:
        yield Store(f"sqlite:///{folder}/cluster.db")


# ---- what is measured


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, store: Store, folder: Path, settings: Sequence[str]) -> None:
        self.store = store
        self.folder = folder
        self.settings = settings
        self.workers: list[Worker] = []

    @property
    def names(self) -> set[str]:
        return {name for worker in self.workers for name in worker.names}

    async def start(self, *workers: Worker) -> float:
        """Seconds until all of them are in and everybody knows everybody (the client, too)."""
        began = time.monotonic()
        for worker in workers:
            await worker.start(self.store.url, self.folder, self.settings)
            self.workers.append(worker)
        return await self.until({"having": len(self.names)}) - began

    async def until(self, command: Any) -> float:
        return max(await asyncio.gather(*(worker.ask(command) for worker in self.workers)))

    async def stats(self) -> dict[str, float]:
        answers = await asyncio.gather(*(worker.ask("stats") for worker in self.workers))
        return {name: sum(answer[name] for answer in answers) for name in answers[0]}

    async def quiet(self, seconds: float) -> dict[str, Any]:
        """What goes on while nothing happens."""
        before, store_before, began = await self.stats(), await self.store.seen(), time.monotonic()
        await asyncio.sleep(seconds)
        after, store_after, took = await self.stats(), await self.store.seen(), time.monotonic() - began
        nodes = after["nodes"]
        figures = {
            "cpu_percent_per_node": round((after["cpu"] - before["cpu"]) / took / nodes * 100, 3),
            "connections_per_node": round(after["connections"] / nodes, 1),
            "megabytes_per_node": round(after["megabytes"] / nodes, 1),
            "members_that_stand_still": after["pauses"],
        }
        return figures | {
            f"store_{name}_per_second": round((store_after[name] - store_before[name]) / took, 2)
            for name in store_before
        }

    async def kill(self, worker: Worker, system: cf.ClusterActorSystem) -> dict[str, Any]:
        """SIGKILL for a process: until everybody knows, and who leads then."""
        self.workers.remove(worker)
        began = time.monotonic()
        await worker.end()
        gone = await self.until({"having": 0, "lacking": worker.names}) - began
        while (leader := await system.manager.get_leader()) is None or leader in worker.names:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return {
            "nodes": len(worker.names),
            "gone_from_every_view_seconds": round(gone, 2),
            "somebody_leads_seconds": round(time.monotonic() - began, 2),
        }

    async def outage(self, seconds: float) -> dict[str, Any]:
        """The store stands for a while, and goes on."""
        before = await self.stats()
        self.store.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        during = await self.stats()
        self.store.send(signal.SIGCONT)
        began = time.monotonic()
        while (after := await self.stats())["pauses"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        all_go_on = time.monotonic() - began
        known = await self.until({"having": len(self.names)}) - began
        return {
            "seconds": seconds,
            "members_that_stand_still_at_its_end": during["pauses"],
            "cpu_percent_per_node": round(
                (during["cpu"] - before["cpu"]) / seconds / during["nodes"] * 100, 1
            ),
            "connections_per_node_then": round(during["connections"] / during["nodes"], 1),
            "all_go_on_after_seconds": round(all_go_on, 2),
            "all_known_to_all_after_seconds": round(known, 2),
            "members_that_lost_their_seat": after["incarnations"] - before["incarnations"],
        }


async def places(system: cf.ClusterActorSystem, ids: Sequence[str]) -> Counter[str]:
    """Where they answer from; each has to within a minute."""

    async def one(actor_id: str) -> str:
        give_up = time.monotonic() + 60
        while True:
            try:
                return str(await system.pid(actor_id).ask("where", timeout=5))
            except (cf.CajunError, TimeoutError):
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(0.05)

    return Counter(await asyncio.gather(*map(one, ids)))


async def measure(bench: Bench, nodes: int, each: int, quiet: float) -> dict[str, Any]:
    names = [f"n{number:03}" for number in range(nodes)]
    figures: dict[str, Any] = {"nodes": nodes, "in_one_process": each}
    groups = [Worker(names[at : at + each]) for at in range(0, nodes, each)]
    figures["all_joined_seconds"] = round(await bench.start(*groups), 2)
    say(f"{nodes} nodes joined in {figures['all_joined_seconds']} s")
    single = Worker(["single"])
    figures["one_more_joined_seconds"] = round(await bench.start(single), 2)
    client = config("client", bench.store.url, bench.settings).as_client().build()
    async with cf.ClusterFactory.create_cluster_system(client) as system:
        figures["quiet"] = await bench.quiet(quiet)
        say(f"quiet: {figures['quiet']}")
        ids = [f"placed-{number}" for number in range(ACTORS)]
        await asyncio.gather(
            *(system.create_actor_on_node("placed", each, "single", timeout=60) for each in ids)
        )
        began = time.monotonic()
        figures["one_killed"] = await bench.kill(single, system)
        spread = await places(system, ids)
        figures["one_killed"] |= {
            "its_actors": ACTORS,
            "all_answered_again_seconds": round(time.monotonic() - began, 2),
            "from_nodes": len(spread),
        }
        say(f"one killed: {figures['one_killed']}")
        leader = await system.manager.get_leader()
        (lost,) = [worker for worker in bench.workers if leader in worker.names]
        figures["leader_and_its_process_killed"] = await bench.kill(lost, system)
        await places(system, ids)
        say(f"leader killed: {figures['leader_and_its_process_killed']}")
        if bench.store._member is not None:
            figures["store_stopped"] = await bench.outage(OUTAGE)
            await places(system, ids)
    return figures


async def run(given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        folder = given.logs or Path(made)
        async with store_for(given.store, Path(made)) as store:
            bench = Bench(store, folder, given.set)
            try:
                return {"store": given.store, **await measure(bench, given.nodes, given.each, given.quiet)}
            finally:
                for worker in bench.workers:
                    await worker.end()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--each", type=int, default=10, help="nodes in one process")
    parser.add_argument("--store", default="etcd", help="etcd (starts one) or sqlite")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds in which nothing happens")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of every node"
    )
    parser.add_argument("--json", action="store_true", help="one line, for programs")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what the nodes say there")
    parser.add_argument("--members", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.members:
        cf.run(serve(given.members, given.store, given.set))
        return
    figures = cf.run(run(given))
    print(json.dumps(figures) if given.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
