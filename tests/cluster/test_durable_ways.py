"""Ways to durable actors, in turned time, on the whole engine: the first message is numbered like all that follow,
since the directory says who is durable; a start whose store is away; numbers that are never given twice."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.actors.registry import Registry
from cajun_fast.cluster.records import ActorRecord, NodeRecord, Owner
from cajun_fast.config import NodeAddress
from cajun_fast.errors import PersistenceUnavailableError
from cajun_fast.persistence.memory import MemoryPersistence
from cajun_fast.testing.members import Members
from cajun_fast.testing.turned import TurnedLoop

_urls = itertools.count(1)
Story = Callable[[Members], Awaitable[None]]


class Sum(cf.Actor):
    durable = True

    def __init__(self) -> None:
        self.value = 0

    def get_state(self) -> Any:
        return self.value

    def set_state(self, state: Any) -> None:
        self.value = state

    def receive(self, message: int, context: cf.Context) -> int:
        self.value += message
        return self.value


class Parent(cf.Actor):
    """Volatile, with a durable child."""

    child: Any = Sum

    def pre_start(self) -> None:
        self.context.spawn(self.child, "child")

    def receive(self, message: Any, context: cf.Context) -> Any:
        return message


class DurableParent(Parent, Sum):
    """The other way round."""

    child = Parent


def run(story: Story) -> None:
    """On a, b, c that host and k that does not."""

    async def whole() -> None:
        types = Registry()
        types.actor("sum")(Sum)
        types.actor("parent")(Parent)
        types.actor("durable parent")(DurableParent)
        types.actor("entity", sharded=True)(type("Entity", (Sum,), {}))
        types.actor("plain", sharded=True)(lambda message, context: message)
        async with Members(types=types, delay=0.001) as members:
            await members.start("k", client=True)
            await members.start("a", "b", "c", persistence=f"memory://first-{next(_urls)}")
            await story(members)

    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        runner.run(whole())


def sent_back(system: cf.ClusterActorSystem) -> int:
    """Messages of that node which came back to it."""
    return sum(link.returned for link in system._node.messaging.links())


def test_it_is_numbered_and_taken_at_once() -> None:
    async def story(members: Members) -> None:
        await members["k"].create_actor_on_node("sum", "x", "a")
        for name in "kbc":
            assert await members[name].pid("x").ask(1) == "kbc".index(name) + 1
            assert sent_back(members[name]) == 0
            assert members[name].exchange.lane("x").way.takes_all

    run(story)


@pytest.mark.parametrize("sender", ["k", "b"])
def test_an_owner_that_is_lost_under_it_costs_nothing(sender: str) -> None:
    async def story(members: Members) -> None:
        await members["c"].create_actor_on_node("sum", "x", "a")
        crash = asyncio.ensure_future(members.crash("a"))
        pid = members[sender].pid("x")  # nobody has noticed yet
        asked, sent = asyncio.ensure_future(pid.ask(1, timeout=60)), asyncio.ensure_future(pid.send(10))
        pid.tell(100)
        await crash
        assert await asked == 1
        await sent
        assert await members["c"].pid("x").ask(0, timeout=60) == 111
        assert not members[sender].dead_letters.counts

    run(story)


def test_the_owner_of_a_shard_too() -> None:
    async def story(members: Members) -> None:
        k = members["k"]
        entities = k.sharded("entity")
        await entities.pid("warm").ask(1, timeout=60)
        ids = [str(number) for number in range(30)]
        homes = {each: entities.node(each) for each in ids}
        crash = asyncio.ensure_future(members.crash("a"))
        asks = [asyncio.ensure_future(entities.pid(each).ask(1, timeout=60)) for each in ids]
        await crash
        assert await asyncio.gather(*asks) == [1] * len(ids)
        assert "a" in homes.values(), "nothing was at stake"

    run(story)


def test_a_sharded_type_that_is_not_durable_has_no_numbers() -> None:
    async def story(members: Members) -> None:
        k = members["k"]
        pid = k.sharded("plain").pid("1")
        assert await pid.ask("hello", timeout=60) == "hello"
        assert k.exchange.lane(pid.id).way is None

    run(story)


def test_a_record_that_says_nothing_works_by_the_first_refusal() -> None:
    """As nodes of earlier versions write it."""

    async def story(members: Members) -> None:
        await members["a"].register("sum", "x")
        a = members["a"]._node
        standing = a.hosting.owned["x"]
        old = replace(standing.record, durable=False)
        a.hosting.owned["x"] = await a.registrar.claim("x", old, standing.revision)
        await asyncio.sleep(0.1)
        pid = members["k"].pid("x")
        assert [await pid.ask(1), await pid.ask(1)] == [1, 2]
        assert sent_back(members["k"]) == 1
        await members.crash("a")
        assert await pid.ask(1, timeout=60) == 3
        record = await members["b"]._node.directory.read("x", fresh=True)
        assert record is not None
        assert record.record.durable, "its next owner writes it as it is"

    run(story)


def test_of_a_child_the_record_says_nothing_and_it_works_by_the_first_refusal() -> None:
    async def story(members: Members) -> None:
        await members["a"].register("parent", "p")
        pid = members["k"].pid("p/child")
        assert [await pid.ask(1), await pid.ask(1)] == [1, 2]
        assert sent_back(members["k"]) == 1
        await members["a"].register("durable parent", "d")
        assert await members["k"].pid("d/child").ask(1) == 1
        assert members["k"].exchange.lane("d/child").way is None
        assert sent_back(members["k"]) == 1

    run(story)


def test_a_cached_location_says_it_after_a_move_too() -> None:
    async def story(members: Members) -> None:
        k = members["k"]
        await k.create_actor_on_node("sum", "x", "a")
        await k.pid("x").ask(1)
        for target in "bc":
            await k.manager.migrate_actor("x", target)
            entry = k._node.locator.cached("x")
            assert entry is not None
            assert (entry.node, entry.durable) == (target, True)

    run(story)


def test_records_with_and_without_it_are_read_by_both_versions() -> None:
    owner = Owner("a", 3)
    for durable in (False, True):
        record = ActorRecord(owner=owner, claim=7, type="t", durable=durable, extra={"adopted": 2})
        assert ActorRecord.decode("x", record.encode()) == record
        assert (b"durable" in record.encode()) is durable, "other records are what they were"
    node = NodeRecord(
        node="a", incarnation=1, address=NodeAddress("h", 1), sharded=("s", "t"), durable=("t",)
    )
    assert NodeRecord.decode("a", node.encode()) == node


# ---- a start whose store is away


def test_a_durable_actor_that_cannot_be_started_just_now_does_not_vanish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = asyncio.Event()

    async def story(members: Members) -> None:
        await members["k"].create_actor_on_node("sum", "x", "a")
        assert await members["k"].pid("x").ask(5) == 5
        away.set()
        await members.crash("a")
        await asyncio.sleep(40)  # several nodes have tried, and given up
        away.clear()
        assert await members["k"].pid("x").ask(1, timeout=60) == 6

    away_while(away, monkeypatch)
    run(story)


def test_nor_one_that_has_just_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    away = asyncio.Event()

    async def story(members: Members) -> None:
        k = members["k"]
        await k.create_actor_on_node("sum", "x", "a")
        assert await k.pid("x").ask(5) == 5
        away.set()
        await k.manager.migrate_actor("x", "b")
        await asyncio.sleep(15)
        away.clear()
        assert await k.pid("x").ask(1, timeout=60) == 6

    away_while(away, monkeypatch)
    run(story)


def away_while(away: asyncio.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = MemoryPersistence.restore

    async def broken(self: Any, *args: Any) -> Any:
        if away.is_set():
            raise PersistenceUnavailableError("the test says so")
        return await restore(self, *args)

    monkeypatch.setattr(MemoryPersistence, "restore", broken)


def test_nor_one_whose_next_node_has_no_persistence() -> None:
    async def story(members: Members) -> None:
        await members.start(*"defgh")  # they know the type, and cannot have it
        for number in range(10):
            await members["k"].create_actor_on_node("sum", f"x{number}", "a")
            await members["k"].pid(f"x{number}").ask(number)
        await members.crash("a")
        for number in range(10):
            assert await members["k"].pid(f"x{number}").ask(1, timeout=60) == number + 1

    run(story)


# ---- numbers of a sender


def test_a_lane_that_was_forgotten_does_not_give_its_numbers_again() -> None:
    async def story(members: Members) -> None:
        k = members["k"]
        await k.create_actor_on_node("sum", "x", "a")
        for expected in (1, 2, 3):
            await k.pid("x").send(1)  # nobody holds the pid
            assert await members["b"].pid("x").ask(0, timeout=60) == expected
            owner = k._node.locator.cached("x").node  # type: ignore[union-attr]
            assert owner is not None
            await members.crash(owner)
            # from now on the link to it is another one
            await members.start(owner, persistence=members["c"].config.persistence)
            await members["b"].pid("x").ask(0, timeout=60)
            gc.collect()
            assert "x" not in [lane.target for lane in k.exchange.lanes()], "nothing was forgotten"

    run(story)
