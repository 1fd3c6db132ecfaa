"""Many actors: when their node is lost, each is accounted for, in batches; and nobody stands still for it."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.testing.etcd import etcd_binary, throwaway_etcd
from tests.cluster.conftest import Cluster, eventually
from tests.cluster.test_processes import Nodes

MANY = 3000
AT_ONCE = 200


class Small(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        return context.self.id


async def each(numbers: range, work: Any) -> None:
    """``await work(number)`` for all of them, some at once."""
    left = iter(numbers)

    async def worker() -> None:
        for number in left:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


@asynccontextmanager
async def nodes_on(store: str, folder: Path) -> AsyncIterator[Nodes]:
    nodes = Nodes(folder)
    nodes.settings = {}  # those that users have
    if store == "etcd":
        try:
            etcd_binary()
        except cf.ConfigError as error:
            pytest.skip(str(error))
        async with throwaway_etcd() as url:
            nodes.store = url
            async with ended(nodes):
                yield nodes
    else:
        async with ended(nodes):
            yield nodes


@asynccontextmanager
async def ended(nodes: Nodes) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for process in nodes.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()


async def patiently(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Again for a minute, where a busy machine makes a node miss its time."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await attempt()
            except cf.ActorAlreadyExistsError:
                raise
            except (cf.CajunError, TimeoutError):
                await asyncio.sleep(0.1)


@pytest.mark.processes
@pytest.mark.parametrize("store", ["sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
async def test_the_loss_of_a_node_with_thousands_of_actors_leaves_each_with_a_living_owner(
    store: str, tmp_path: Path
) -> None:
    async with nodes_on(store, tmp_path) as nodes:
        await nodes.start("a", "b", "c")
        async with nodes.client() as system:
            ids = [f"w{n}" for n in range(MANY)]

            async def create(n: int) -> None:
                await system.create_actor_on_node(
                    "witness", ids[n], "c", str(tmp_path / "handled"), timeout=60
                )

            await each(range(MANY), create)
            assert await system.manager.count_actors() == {"c": MANY}
            await nodes.signal("c", signal.SIGKILL)

            async def settled() -> bool:
                return [actor async for actor in system.manager.all_actors(node="c")] == []

            await eventually(settled, 60)
            standing = Counter([actor.node async for actor in system.manager.all_actors()])
            assert set(standing) == {"a", "b"}
            assert standing.total() == MANY
            places: Counter[str] = Counter()

            async def ask(n: int) -> None:
                places[str(await patiently(lambda: system.pid(ids[n]).ask("where", timeout=10)))] += 1

            await each(range(MANY), ask)
            assert places == standing


async def test_a_node_with_thousands_of_actors_freezes_them_and_lets_them_go_in_one_walk(
    cluster: Cluster,
) -> None:
    (a,) = await cluster.start("a")
    await each(range(MANY), lambda n: a.register(Small, f"s{n}"))
    node = a._node
    node.standstill.freeze()
    assert {node.actors.cell(f"s{n}").state for n in range(MANY)} == {"frozen"}
    assert node.actors.cell("cajun:host@a").state != "frozen"
    asks = [asyncio.ensure_future(a.pid(f"s{n}").ask("x", timeout=30)) for n in range(0, MANY, 100)]
    await asyncio.sleep(0)
    assert not any(ask.done() for ask in asks)
    node.fencing.thaw()
    assert await asyncio.gather(*asks) == [f"s{n}" for n in range(0, MANY, 100)]


async def test_a_node_that_stops_thousands_of_actors_goes_on_turning_its_loop(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    await each(range(MANY), lambda n: a.register(Small, f"s{n}"))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    try:
        await a._node.actors.stop(30.0)
    finally:
        counting.cancel()
    assert a._node.actors.actor_count == 0
    assert turns >= MANY // 200
