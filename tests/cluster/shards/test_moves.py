"""Shards move under load, by join, leave, loss: each message is handled once and in order, or its fate is told, and
never are there two owners.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import Any, ClassVar

import pytest

import cajun_fast as cf
from cajun_fast.cluster.leader import Term
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.metadata.store import Compare
from tests.cluster.conftest import MORTAL, Cluster, eventually

ENTITIES = 24
#: Seconds between rounds. A loop that never rests keeps the GIL from the threads of four stores, and leases run out.
PAUSE = 0.001


class Book(cf.Actor):
    """What was handled, by all lives on all nodes of this process."""

    lines: ClassVar[defaultdict[tuple[str, str], list[int]]] = defaultdict(list)
    running: ClassVar[dict[str, str]] = {}
    twice: ClassVar[list[str]] = []
    slow: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self.count = 0

    def get_state(self) -> Any:
        return {"count": self.count}

    def set_state(self, state: Any) -> None:
        self.count = state["count"]

    def pre_start(self) -> None:
        me = self.context.self.id
        if me in self.running:
            self.twice.append(f"{me} on {self.running[me]} and {self.context.node_id}")
        self.running[me] = self.context.node_id

    def post_stop(self) -> None:
        self.running.pop(self.context.self.id, None)

    async def receive(self, message: Any, context: Any) -> Any:
        if self.running.get(context.self.id) != context.node_id:
            self.twice.append(f"{context.self.id} handled on {context.node_id}")
        if message == "count":
            return self.count
        sender, number = message
        self.lines[sender, context.self.id].append(number)
        self.count += 1
        if self.slow:
            await asyncio.sleep(self.slow)
        return number


class Load:
    """Senders that send numbers to all entities, each by tell and now and then by ask, and know what became of them."""

    def __init__(self, systems: list[cf.ClusterActorSystem]) -> None:
        self.sent: Counter[tuple[str, str]] = Counter()
        self.told: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        self._stop = False
        self._tasks = [asyncio.ensure_future(self._send(system)) for system in systems]

    async def _send(self, system: cf.ClusterActorSystem) -> None:
        type_ = system.sharded("book")
        pids = [type_.pid(str(n)) for n in range(ENTITIES)]
        rounds = 0
        while not self._stop:
            rounds += 1
            work = [self._one(system.system_id, pid, rounds) for pid in pids]
            await asyncio.gather(*work)
            await asyncio.sleep(PAUSE)

    async def _one(self, sender: str, pid: cf.Pid, number: int) -> None:
        self.sent[sender, pid.id] += 1
        try:
            if number % 3:
                await pid.send([sender, number])
            else:
                await pid.ask([sender, number], timeout=20)
        except (cf.CajunError, TimeoutError) as error:
            self.told[sender, pid.id].append((number, repr(error)))

    async def stop(self) -> None:
        self._stop = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 40)

    def check(self, *, lossless: bool) -> int:
        """Every message handled once, in order, or told; how many were sent."""
        assert not Book.twice, Book.twice[:5]
        for key, count in self.sent.items():
            handled, told = Book.lines[key], self.told[key]
            assert len(handled) == len(set(handled)), f"{key}: handled twice"
            assert handled == sorted(handled), f"{key}: out of order"
            missing = set(range(1, count + 1)) - set(handled) - {number for number, _ in told}
            assert not missing, f"{key}: vanished in silence: {sorted(missing)[:5]}"
            if lossless:
                assert not told, f"{key}: {told[:3]}"
        return sum(self.sent.values())


@pytest.fixture
def books(cluster: Cluster) -> Cluster:
    cluster.settings |= {
        "sharding.shard_count": 32, "sharding.rebalance_delay": 0.1, "sharding.rebalance_pause": 0.02,
        "sharding.rebalance_batch": 4,
    }  # fmt: skip
    Book.lines.clear()
    Book.running.clear()
    Book.twice.clear()
    Book.slow = 0.0
    cluster.types.actor("book", sharded=True)(type("Book", (Book,), {}))
    return cluster


async def level(cluster: Cluster, *names: str) -> None:
    """Until the shards lie evenly on these nodes."""
    await eventually(
        lambda: all(
            set(system.sharded("book").spread()) == set(names)
            and max(system.sharded("book").spread().values()) <= 32 // len(names) + 1
            and sum(system.sharded("book").spread().values()) == 32
            for system in cluster.members.values()
        ),
        40,
    )


async def test_joins_and_cordons_under_load_lose_nothing(books: Cluster) -> None:
    [a] = await books.start("a")
    [b] = await books.start("b")
    load = Load([a, b])
    await books.start("c", "d")
    await level(books, "a", "b", "c", "d")
    await books.members["b"]._node.membership.update(cordoned=True)
    await level(books, "a", "c", "d")
    await books.members["b"]._node.membership.update(cordoned=False)
    await level(books, "a", "b", "c", "d")
    await load.stop()
    assert load.check(lossless=True) > 1000
    total = Counter[str]()
    for (_, actor_id), numbers in Book.lines.items():
        total[actor_id] += len(numbers)
    for n in range(ENTITIES):
        assert await a.sharded("book").pid(str(n)).ask("count") == total[f"book#{n}"], "the state moved along"
    leader = await books.leader()
    assert leader._node.sharding.allocator.moved >= 20


async def test_a_node_that_stops_in_order_takes_nothing_with_it(books: Cluster) -> None:
    a, _, c = await books.start("a", "b", "c")
    await level(books, "a", "b", "c")
    load = Load([a, c])
    await asyncio.sleep(0.2)
    await books.members.pop("b").stop()
    await level(books, "a", "c")
    await asyncio.sleep(0.2)
    await load.stop()
    load.check(lossless=True)


async def test_the_shards_of_a_lost_node_are_given_away_in_one_write_a_batch(books: Cluster) -> None:
    books.settings |= MORTAL
    a, _, c = await books.start("a", "b", "c")
    await level(books, "a", "b", "c")
    load = Load([a, c])
    await asyncio.sleep(0.2)
    writes = {name: system._node.sharding.allocator.writes for name, system in books.members.items()}
    for actor_id in [each for each, node in Book.running.items() if node == "b"]:
        del Book.running[actor_id]  # its process is gone
    dead = asyncio.ensure_future(books.kill("b"))
    await eventually(lambda: "b" not in a.known_nodes)
    for actor_id in [each for each, node in Book.running.items() if node == "b"]:
        del Book.running[actor_id]
    await dead
    await level(books, "a", "c")
    await load.stop()
    Book.twice.clear()  # the dead node of this process ends its actors late: the processes' tests look at that
    load.check(lossless=False)
    spent = sum(
        system._node.sharding.allocator.writes - writes[name] for name, system in books.members.items()
    )
    assert spent <= 3


async def test_a_shard_whose_actors_are_busy_stays_until_they_are_done(books: Cluster) -> None:
    books.settings["sharding.handover_timeout"] = 0.2
    books.settings["sharding.rebalance_delay"] = 600.0
    a, b = await books.start("a", "b")
    await eventually(lambda: len(a.sharded("book").shards()) == 32)
    Book.slow = 0.7
    pid = b.sharded("book").pid("1")
    asks = [asyncio.ensure_future(pid.ask(["x", n], timeout=15)) for n in range(2)]
    await eventually(lambda: Book.lines["x", "book#1"])
    source = books.members[a.sharded("book").node("1") or ""]
    target = a if source is b else b
    shard = a.sharded("book").shard("1")
    owner = Owner(target.system_id, target.incarnation)
    result = await source._node.sharding.handover.move("book", [shard], owner)
    assert result.kept == (shard,)
    assert "busy" in result.why
    Book.slow = 0.0
    assert await asyncio.gather(*asks) == [0, 1]
    assert await pid.ask("count") == 2
    result = await source._node.sharding.handover.move("book", [shard], owner)
    assert result.moved == (shard,)
    assert await pid.ask("count") == 2, "with its state"
    assert b.sharded("book").node("1") == target.system_id


async def test_a_node_that_does_not_want_a_shard_leaves_it_where_it_is(books: Cluster) -> None:
    books.settings["sharding.rebalance_delay"] = 600.0
    a, b = await books.start("a", "b")
    await eventually(lambda: len(a.sharded("book").shards()) == 32)
    pid = b.sharded("book").pid("1")
    await pid.ask(["x", 1])
    source = books.members[a.sharded("book").node("1") or ""]
    target = a if source is b else b
    target._node.sharding.region.is_stopping = True
    shard = a.sharded("book").shard("1")
    result = await source._node.sharding.handover.move(
        "book", [shard], Owner(target.system_id, target.incarnation)
    )
    assert result.kept == (shard,)
    assert "takes no shards" in result.why
    assert await pid.ask("count") == 1
    target._node.sharding.region.is_stopping = False


class Chatty(cf.Actor):
    """Passes numbers on to another one, and remembers what came from whom."""

    seen: ClassVar[defaultdict[tuple[str, str], list[int]]] = defaultdict(list)

    def receive(self, message: Any, context: Any) -> None:
        match message:
            case {"say": number, "to": other}:
                context.system.pid(other).tell({"heard": number})
            case {"heard": number}:
                self.seen[context.sender.id, context.self.id].append(number)


async def test_what_an_actor_sends_stays_in_order_when_it_moves(books: Cluster) -> None:
    Chatty.seen.clear()
    books.types.actor("chatty", sharded=True)(type("Chatty", (Chatty,), {}))
    a, b = await books.start("a", "b")
    stop = False

    async def drive() -> int:
        rounds = 0
        while not stop:
            rounds += 1
            for n in range(8):
                other = f"chatty#{(n + 3) % 8}"
                await a.sharded("chatty").pid(str(n)).send({"say": rounds, "to": other})
            await asyncio.sleep(PAUSE)
        return rounds

    driving = asyncio.ensure_future(drive())
    await books.start("c", "d")
    await level(books, "a", "b", "c", "d")
    await books.members["c"]._node.membership.update(cordoned=True)
    await level(books, "a", "b", "d")
    stop = True
    rounds = await driving
    pairs = {(f"chatty#{n}", f"chatty#{(n + 3) % 8}") for n in range(8)}
    await eventually(lambda: all(len(Chatty.seen[pair]) >= rounds for pair in pairs), 20)
    for pair in pairs:
        assert Chatty.seen[pair] == list(range(1, rounds + 1)), pair
    assert b


async def test_a_shard_stays_while_what_its_actors_have_sent_is_still_on_its_way(books: Cluster) -> None:
    books.settings["sharding.rebalance_delay"] = 600.0
    Chatty.seen.clear()
    books.types.actor("chatty", sharded=True)(type("Chatty", (Chatty,), {}))
    a, b = await books.start("a", "b")
    await eventually(lambda: len(a.sharded("chatty").shards()) == 32)
    chatty = a.sharded("chatty")
    other = next(n for n in map(str, range(1, 99)) if chatty.shard(n) != chatty.shard("0"))
    source = books.members[chatty.node("0") or ""]
    target = a if source is b else b
    owner = Owner(target.system_id, target.incarnation)
    busy = ("chatty", chatty.shard(other))
    region = books.members[chatty.node(other) or ""]._node.sharding.region
    region.close([busy])
    await chatty.pid("0").send({"say": 1, "to": f"chatty#{other}"})
    result = await source._node.sharding.handover.move("chatty", [chatty.shard("0")], owner)
    assert result.kept == (chatty.shard("0"),)
    assert "not accepted" in result.why
    region.open([busy])
    await chatty.pid("0").send({"say": 2, "to": f"chatty#{other}"})
    await eventually(lambda: Chatty.seen["chatty#0", f"chatty#{other}"] == [1, 2])
    result = await source._node.sharding.handover.move("chatty", [chatty.shard("0")], owner)
    assert result.moved == (chatty.shard("0"),)


async def test_a_leader_that_believes_a_living_node_lost_takes_nothing_from_it(books: Cluster) -> None:
    books.settings["sharding.rebalance_delay"] = 600.0
    await books.start("a", "b")
    leader = await books.leader()
    node = leader._node
    await eventually(lambda: len(leader.sharded("book").shards()) == 32)
    [owner] = leader.sharded("book").spread()
    other = "b" if owner == "a" else "a"
    allocator, term = node.sharding.allocator, node.leadership.term
    assert term is not None

    async def gone(loser: Owner) -> Compare:
        return Compare(node.keys.node(loser.node), 0)

    allocator._absence = gone  # type: ignore[method-assign, assignment]
    before = node.sharding.table.of_type("book")
    assert not await allocator._give(term, "book", [1, 2], {1: other, 2: other})
    assert node.sharding.table.of_type("book") == before
    entry = await node.store.get(node.keys.shard("book", 1))
    assert entry is not None
    assert ShardRecord.decode("", entry.value, entry.revision) == before[1]


async def test_a_leader_of_yesterday_gives_nothing_away(books: Cluster) -> None:
    a, _ = await books.start("a", "b")
    leader = await books.leader()
    allocator, term = leader._node.sharding.allocator, leader._node.leadership.term
    assert term is not None
    await eventually(lambda: len(a.sharded("book").shards()) == 32)
    stale = Term(term.token, Compare(term.guard.key, term.guard.revision - 1))
    assert not await allocator._give(stale, "late", [1], {1: "a"})
    assert await leader._node.store.get(leader._node.keys.shard("late", 1)) is None


async def test_a_drain_ends_when_the_shards_have_gone_too(books: Cluster) -> None:
    a, _, c = await books.start("a", "b", "c")
    await level(books, "a", "b", "c")
    load = Load([a, c])
    await asyncio.sleep(0.1)
    result = await a.manager.drain_node("b")
    assert result.complete, result
    assert set(a.sharded("book").spread()) == {"a", "c"}
    await books.members.pop("b").stop()
    await load.stop()
    load.check(lossless=True)
