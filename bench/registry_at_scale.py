"""A registry of many actors, and the loss of the node that has them all: real processes, one of them killed.

    python bench/registry_at_scale.py [--actors 100000] [--store sqlite|etcd|http://HOST:PORT] [--json]

Three nodes and a client on one store. The client has all actors created on one node (each a claim by compare-and-set,
leaving in batches), lists them in pages, sends to some of them, kills the node with SIGKILL and watches the leader
have them started elsewhere. The same for as many sharded actors, which are neither registered nor looked up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cajun_fast as cf
from cajun_fast.testing.etcd import throwaway_etcd

HERE = Path(__file__).resolve().parent
CLI = "from cajun_fast.management.cli import main; main()"
NODES = ("a", "b", "c")
#: Requests of the client that are under way at once.
AT_ONCE = 400


@cf.actor("registered")
class Registered(cf.Actor):
    """As small as can be."""

    def receive(self, message: Any, context: Any) -> Any:
        return context.node_id


@cf.actor("unregistered", sharded=True)
class Unregistered(Registered):
    """The same, sharded."""


async def start_node(name: str, store: str, log: Path) -> asyncio.subprocess.Process:
    with open(log, "ab") as stream:  # noqa: ASYNC230 - before anything is measured
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLI, "node", "--id", name, "--store", store, "--port", "0",
            "--import", Path(__file__).stem,
            stdout=asyncio.subprocess.PIPE, stderr=stream, env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent}"},
        )  # fmt: skip
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    if not line:
        raise SystemExit(f"node {name} did not start: see {log}")
    return process


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


async def until(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    while not holds():  # noqa: ASYNC110 - measured from outside, as a user would see it
        await asyncio.sleep(0.01)


async def for_all(numbers: Sequence[int], work: Any) -> None:
    """``await work(number)`` for each, some at once."""
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


async def create(system: cf.ClusterActorSystem, actor_id: str) -> None:
    """On node c; again where a busy machine made it miss its time."""
    while True:
        try:
            await system.create_actor_on_node("registered", actor_id, "c", timeout=60)
            return
        except cf.ActorAlreadyExistsError:
            return
        except (cf.CajunError, TimeoutError):
            await asyncio.sleep(0.1)


async def wait_until_settled(system: cf.ClusterActorSystem, ids: Sequence[str]) -> Counter[str]:
    """Until node c has none; a full listing only once the last page, which is settled last, names it no more."""
    while True:
        page = await system.manager.get_cluster_actors(limit=1000, after=ids[max(0, len(ids) - 500)])
        if all(actor.node != "c" for actor in page.actors):
            standing = Counter([actor.node async for actor in system.manager.all_actors()])
            if not standing.get("c", 0):
                return standing
        await asyncio.sleep(0.25)


async def ask_some(system: cf.ClusterActorSystem, ids: Sequence[str]) -> Counter[str]:
    """Where they answer from; each has to within 30 s."""
    answers = []

    async def one(number: int) -> None:
        give_up = time.monotonic() + 30
        while True:
            try:
                answers.append(await system.pid(ids[number]).ask("where", timeout=5))
                return
            except (cf.CajunError, TimeoutError):
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(0.1)

    await for_all(range(len(ids)), one)
    return Counter(answers)


class Watch:
    """Seconds since it was started."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def __call__(self) -> float:
        return round(time.perf_counter() - self._began, 2)


async def measure(
    system: cf.ClusterActorSystem, processes: dict[str, asyncio.subprocess.Process], count: int
) -> dict[str, Any]:
    ids = [f"actor-{number:06}" for number in range(count)]
    watch = Watch()
    await for_all(range(count), lambda number: create(system, ids[number]))
    created = watch()
    say(f"{count} actors created in {created} s")
    watch = Watch()
    assert await system.manager.count_actors() == {"c": count}
    listed = watch()
    watch = Watch()
    sample = ids[:: max(1, count // 2000)]
    assert set(await ask_some(system, sample)) == {"c"}
    found = watch()
    sharded = [f"unregistered#{number:06}" for number in range(count)]
    watch = Watch()
    before = await ask_some(system, sharded)
    begun = watch()
    say(f"{count} sharded actors started in {begun} s")
    processes["c"].send_signal(signal.SIGKILL)
    await processes.pop("c").wait()
    watch = Watch()
    await until(lambda: "c" not in system.known_nodes)
    noticed = watch()
    say(f"the loss was noticed after {noticed} s")
    await until(lambda: "c" not in system.sharded("unregistered").spread())
    given = watch()
    say(f"its shards have owners after {given} s")
    standing = await wait_until_settled(system, ids)
    settled = watch()
    assert sum(standing.values()) == count, standing
    again = await ask_some(system, sample)
    return {
        "actors": count,
        "registered": {
            "created_seconds": created,
            "created_per_second": round(count / created),
            "listed_seconds": listed,
            "first_messages_per_second": round(len(sample) / found),
        },
        "sharded": {
            "started_by_first_ask_per_second": round(count / begun),
            "spread": dict(sorted(before.items())),
        },
        "after_kill": {
            "loss_noticed_seconds": noticed,
            "shards_have_new_owners_seconds": given,
            "all_registered_started_elsewhere_seconds": settled,
            "started_again_per_second": round(count / max(settled - noticed, 0.01)),
            "owners": dict(sorted(standing.items())),
            "sample_answers_from": dict(sorted(again.items())),
        },
    }


@asynccontextmanager
async def store_for(name: str, folder: Path) -> AsyncIterator[str]:
    if name == "etcd":
        async with throwaway_etcd() as url:
            yield url
    elif name == "sqlite":
        yield f"sqlite:///{folder}/cluster.db"
    else:
        yield name


async def run(store_name: str, count: int, logs: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with store_for(store_name, Path(folder)) as store:
            processes = {
                name: await start_node(name, store, (logs or Path(folder)) / f"{name}.log") for name in NODES
            }
            try:
                config = cf.ClusterConfig.Builder("client", store).with_messaging_port(0).as_client().build()
                async with cf.ClusterFactory.create_cluster_system(config) as system:
                    return {"store": store_name, **await measure(system, processes, count)}
            finally:
                for process in processes.values():
                    process.kill()
                    await process.wait()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--actors", type=int, default=100_000)
    parser.add_argument("--store", default="sqlite", help="sqlite, etcd (starts one), or a URL")
    parser.add_argument("--json", action="store_true", help="one line, for programs")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what the nodes say there")
    given = parser.parse_args(arguments)
    figures = cf.run(run(given.store, given.actors, given.logs))
    print(json.dumps(figures) if given.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
