"""Passivation, closing and the next start, at every interleaving: nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cajun_fast as cf
from cajun_fast._core.lane import Lane
from cajun_fast.actors.registry import Registry
from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards.passivation import Passivation
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.shards.region import Region
from cajun_fast.cluster.shards.route import ShardRoute
from cajun_fast.cluster.shards.table import ShardTable
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, MetadataStore, Outcome
from cajun_fast.ports import Ports
from tests.cluster.conftest import Cluster, eventually
from tests.cluster.worlds import LoopClock, memory, turned

ME = Owner("a", 1)


class Log(cf.Actor):
    """Writes down what all lives of it handle; one life at a time."""

    lines: ClassVar[defaultdict[str, list[int]]] = defaultdict(list)
    alive: ClassVar[set[str]] = set()
    lives: ClassVar[list[str]] = []
    pause: ClassVar[float] = 0.0

    async def pre_start(self) -> None:
        assert self.context.self.id not in self.alive
        self.alive.add(self.context.self.id)
        self.lives.append(self.context.self.id)
        await asyncio.sleep(self.pause)

    async def post_stop(self) -> None:
        await asyncio.sleep(self.pause)
        self.alive.discard(self.context.self.id)

    async def receive(self, message: Any, context: Any) -> None:
        assert context.self.id in self.alive
        if message == "rest":
            context.passivate()
            return
        await asyncio.sleep(self.pause)
        self.lines[context.self.id].append(message)


class World:
    """One node's region, with its router, and no network."""

    def __init__(self, passivate_after: float) -> None:
        Log.lines.clear()
        Log.alive.clear()
        Log.lives.clear()
        types = Registry()
        types.actor("log", sharded=True, passivate_after=passivate_after)(type("Log", (Log,), {}))
        clock = LoopClock()
        self.table = ShardTable(memory("region"), KeySpace("c"), Backoff(Ports().random, 1, 1))
        self.table.count = 2
        for shard in (0, 1):
            self.table.apply(("log", shard), ShardRecord(ME, 1, 1))
        self.actors = ActorSystem("a", ports=Ports(clock=clock), router=self)
        self.may_own = True
        self.clock = clock
        self.types = types
        self.sent: defaultdict[str, int] = defaultdict(int)
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self.actors.start()
        self.exchange = self.actors.exchange
        self.region = Region(
            self.table, self.types, self.actors, self.exchange, lambda: ME, lambda: self.may_own
        )
        self.route = ShardRoute(
            self.table, self, self.exchange, lambda: ME, self, self.clock.now_ns,  # type: ignore[arg-type]
            start_timeout=1000, rehost_timeout=1000,
        )  # fmt: skip
        self.exchange.activator = self.region.activate
        self.actors.on_passivate(self.region.passivate)
        self.idle = Passivation(self.region, self.types, None, self.clock.now_ns)
        self.walking = asyncio.ensure_future(self.idle.run())

    async def stop(self) -> None:
        self.walking.cancel()
        await self.region.finish(100)
        await self.actors.stop()
        await self.region.stop()

    # ---- what a router, its members and its tasks are to the route

    def resolve(self, lane: Lane) -> None:
        self.route.resolve(lane)

    def refresh(self, lane: Lane) -> None:
        pass

    def actor_stopped(self, actor_id: str) -> None:
        self.region.actor_stopped(actor_id)

    def lives(self, owner: Owner) -> bool:
        return owner == ME

    def search(self, lane: Lane, find: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.ensure_future(find(lane))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def bind_node(self, lane: Lane, node: str, durable: bool = False) -> None:
        raise AssertionError("nobody else is there")

    # ---- what happens

    def send(self, entity: int) -> None:
        pid = self.actors.pid(f"log#{entity}")
        self.sent[pid.id] += 1
        pid.tell(self.sent[pid.id])

    def rest(self, entity: int) -> None:
        self.actors.pid(f"log#{entity}").tell("rest")

    async def take(self, step: str, number: int) -> None:
        match step:
            case "send":
                self.send(number)
            case "rest":
                self.rest(number)
            case "sweep":
                self.sweep(number)
            case "turn":
                await asyncio.sleep(0)
            case "wait":
                await asyncio.sleep(0.02 * number)
            case "close":
                self.region.close([("log", number % 2)])
            case "open":
                self.region.open([("log", number % 2)])

    def sweep(self, entity: int) -> None:
        cell = self.actors.cell(f"log#{entity}")
        if cell is not None:
            self.region.passivate(cell)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "rest", "sweep", "turn", "wait", "close", "open"]),
        st.integers(0, 2),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([0.0, 0.001, 0.03]), st.sampled_from([0.0, 0.05]))
def test_whatever_comes_while_an_actor_ends_is_handled_once_and_in_order(
    steps: list[tuple[str, int]], pause: float, passivate_after: float
) -> None:
    async def story() -> None:
        Log.pause = pause
        world = World(passivate_after)
        await world.start()
        for step, number in steps:
            await world.take(step, number)
        world.region.open([("log", 0), ("log", 1)])
        await asyncio.sleep(30)
        for actor_id, count in world.sent.items():
            assert Log.lines[actor_id] == list(range(1, count + 1))
        await world.stop()
        assert not world.actors.dead_letters.total
        assert not Log.alive

    turned(story)


def test_an_idle_actor_ends_and_a_busy_or_waiting_one_does_not() -> None:
    async def story() -> None:
        Log.pause = 0.0
        world = World(1.0)
        await world.start()
        for entity in (0, 1, 2):
            world.send(entity)
        await asyncio.sleep(0.1)
        cell = world.actors.cell("log#2")
        assert cell is not None
        cell.hook_context().schedule(5.0, 99)
        for _ in range(6):
            await asyncio.sleep(0.4)
            world.send(1)
        assert world.actors.cell("log#0") is None, "nobody wrote to it for a second"
        assert world.actors.cell("log#1") is not None, "it had messages all the time"
        assert world.actors.cell("log#2") is not None, "its timer would be lost"
        await asyncio.sleep(10)
        assert world.region.count == 0
        assert Log.lines["log#2"] == [1, 99]
        assert world.region.passivated == 3
        await world.stop()

    turned(story)


def test_nothing_starts_where_it_may_not() -> None:
    async def story() -> None:
        world = World(0)
        await world.start()
        world.may_own = False
        assert world.region.activate("log#1") is None
        world.may_own = True
        assert world.region.activate("other#1") is None
        assert world.region.activate("plain") is None
        place = world.table.place("log#1")
        assert place is not None
        world.region.close([place])
        assert world.region.activate("log#1") is None
        world.region.open([place])
        world.table.apply(place, ShardRecord(Owner("a", 0), 2, 5))
        assert world.region.activate("log#1") is None, "an earlier life of this node is not this one"
        world.table.apply(place, ShardRecord(ME, 3, 4))
        assert world.region.activate("log#1") is None, "older news"
        world.table.apply(place, ShardRecord(ME, 3, 6))
        assert world.region.activate("log#1") is not None
        await world.stop()

    turned(story)


class Doubtful:
    """A store whose next transaction has no answer; ``applied``: it was done all the same."""

    def __init__(self, inner: MetadataStore, *, applied: bool) -> None:
        self.inner = inner
        self.applied = applied
        self.asked = 0

    async def transact(self, compares: list[Compare], writes: list[Any]) -> Outcome:
        self.asked += 1
        if self.asked == 1 and self.applied:
            await self.inner.transact(compares, writes)
        if self.asked <= 3 and not (self.asked > 1 and self.applied):
            raise cf.MetadataStoreUnavailableError("planned: no answer")
        return await self.inner.transact(compares, writes)

    async def compare_and_set(self, key: str, revision: int, value: bytes) -> Outcome:
        self.asked += 1
        if self.asked <= 3:
            raise cf.MetadataStoreUnavailableError("planned: no answer")
        return await self.inner.compare_and_set(key, revision, value)


@pytest.mark.parametrize("applied", [True, False])
async def test_a_commit_without_an_answer_leaves_one_owner(cluster: Cluster, applied: bool) -> None:
    Log.pause = 0.0
    Log.alive.clear()
    cluster.settings |= {"sharding.shard_count": 4, "sharding.rebalance_delay": 600.0}
    cluster.types.actor("log", sharded=True)(type("Log", (Log,), {}))
    a, b = await cluster.start("a", "b")
    await eventually(lambda: len(a.sharded("log").shards()) == 4)
    await b.sharded("log").pid("1").send(1)
    source = cluster.members[a.sharded("log").node("1") or ""]
    target = a if source is b else b
    shard = a.sharded("log").shard("1")
    handover = source._node.sharding.handover
    handover._store = Doubtful(source._node.store, applied=applied)  # type: ignore[assignment]
    result = await handover.move("log", [shard], Owner(target.system_id, target.incarnation))
    assert result.moved == ((shard,) if applied else ())
    expected = target.system_id if applied else source.system_id
    for system in (a, b):
        await eventually(lambda: system.sharded("log").node("1") == expected)  # noqa: B023
        await system.sharded("log").pid("1").send(2)
    owners = [system._node.sharding.region.owns(("log", shard)) for system in (source, target)]
    assert owners == [not applied, applied]
