"""Who is lost, judged by silence over the links and by silence through the store, never by one of them alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from cajun_fast.cluster.detector import Detector, DetectorHooks, neighbours
from cajun_fast.cluster.members import MemberHooks, Members
from cajun_fast.cluster.membership import Membership, MembershipHooks, take_incarnation
from cajun_fast.cluster.records import LeaderRecord, NodeRecord, Owner
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.config import NodeAddress
from cajun_fast.messaging.liveness import Liveness, PeerState
from cajun_fast.metadata import KeySpace
from tests.cluster.worlds import FaultyStore, LoopClock, memory, turned, until

KEYS = KeySpace("test")
TTL, PATIENCE, STUCK = 5.0, 0.7, 60.0
HEARD = Liveness(
    "b",
    1,
    PeerState.ALIVE,
    since=1.0,
    connected=True,
    transport="tcp",
    heard=0.0,
    beat=0.0,
    standing=0.0,
    refused=False,
)
KILLED = replace(HEARD, connected=False, heard=0.1, refused=True)
SILENT = replace(HEARD, state=PeerState.SILENT)
STANDING = replace(HEARD, state=PeerState.STUCK)
CUT = replace(HEARD, state=PeerState.CUT, connected=False)


class FakeLeadership:
    def __init__(self) -> None:
        self.is_leader = True
        self.term: Any = None
        self.record: LeaderRecord | None = None

    async def read(self) -> LeaderRecord | None:
        return self.record


class World:
    """Node "a" with its detector, node "b" with its seat, each with a way to the store of its own."""

    def __init__(self, a: FaultyStore, b: FaultyStore) -> None:
        self.a, self.b = a, b
        self.seen: Liveness | None = HEARD
        self.may_take = True
        self.story: list[str] = []
        self.watched: set[str] = set()
        self.leadership = FakeLeadership()
        chance = random.Random(1)
        hooks = MemberHooks(
            on_join=lambda record: None,
            on_change=lambda old, new: self.story.append("suspected" if new.suspected else "cleared"),
            on_leave=lambda record: self.story.append("gone"),
            heard=lambda record: (
                self.seen is not None and self.seen.state in (PeerState.ALIVE, PeerState.CUT)
            ),
            is_stuck=lambda record: self.detector.is_stuck(record.node),
        )
        self.members = Members(
            a, KEYS, "a", backoff=Backoff(chance, 0.05, 1.0), grace=2 * TTL, hooks=hooks, listen=1.3
        )
        self.detector = Detector(
            a,
            KEYS,
            self.members,
            self.leadership,  # type: ignore[arg-type]
            DetectorHooks(
                liveness=lambda node: self.seen,
                watch=lambda node, on: self.watched.add(node) if on else self.watched.discard(node),
                resign=lambda: self.story.append("resigned"),
                may_take=lambda: self.may_take,
                on_evicted=self.members.evicted,
            ),
            node_id="a",
            patience=PATIENCE,
            ttl=TTL,
            stuck_timeout=STUCK,
            backoff=Backoff(chance, 0.1, 1.0),
        )
        self.seat = self.make_seat()

    def make_seat(self) -> Membership:
        async def probe(record: NodeRecord) -> bool:
            return False

        hooks = MembershipHooks(
            on_fenced=lambda why: self.story.append("fenced"),
            on_regained=lambda: self.story.append("regained"),
            probe=probe,
            on_paused=lambda why: self.story.append("paused"),
            on_resumed=lambda: self.story.append("resumed"),
        )
        return Membership(self.b, KEYS, LoopClock(), ttl=TTL, hooks=hooks, patience=PATIENCE)

    async def enter(self) -> None:
        incarnation = await take_incarnation(self.b, KEYS, "b")
        await self.seat.enter(NodeRecord(node="b", incarnation=incarnation, address=NodeAddress("h", 1)))
        await until(lambda: self.members.get("b"))
        self.story.clear()

    async def die(self) -> None:
        """No more looks, no more renewals."""
        await self.seat._tasks.stop()
        self.seat._disarm()

    def is_seen_as(self, seen: Liveness | None) -> None:
        self.seen = seen
        self.detector.look_at("b")


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    a, b = FaultyStore(memory("w")), FaultyStore(memory("w"))
    await a.connect()
    await b.connect()
    made = World(a, b)
    await made.members.start()
    await made.enter()
    try:
        yield made
    finally:
        a.rise()
        b.rise()
        await made.detector.stop()
        await made.members.stop()
        await made.seat.leave()
        await b.close()
        await a.close()


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_killed_node_is_evicted_in_about_a_second() -> None:
    async def story() -> None:
        async with world() as w:
            await w.die()
            before = now()
            w.is_seen_as(KILLED)
            await until(lambda: "gone" in w.story, 3)
            assert PATIENCE < now() - before < 1.0
            assert w.story == ["suspected", "gone"]
            assert await w.a.get(KEYS.node("b")) is None
            assert w.detector.evictions == 1

    turned(story)


def test_one_that_is_cut_off_from_the_others_answers_through_the_store_and_stays() -> None:
    async def story() -> None:
        async with world() as w:
            w.is_seen_as(SILENT)
            await asyncio.sleep(60)
            assert "gone" not in w.story
            assert "paused" not in w.story
            assert w.story[:2] == ["suspected", "cleared"]
            assert 4 <= w.story.count("suspected") <= 8, "asked again, later and later"

    turned(story)


def test_one_that_is_cut_off_from_the_store_and_heard_is_not_suspected() -> None:
    async def story() -> None:
        async with world() as w:
            w.b.fall()
            w.is_seen_as(HEARD)
            await asyncio.sleep(TTL + 2)
            assert w.story == ["paused"], "it stands still by itself; its record has run out, and it is heard"
            await until(lambda: "gone" in w.story, 3 * TTL)

    turned(story)


def test_one_that_is_cut_off_from_all_stands_still_before_it_is_evicted() -> None:
    async def story() -> None:
        async with world() as w:
            for _ in range(20):
                w.b.fall()
                w.is_seen_as(SILENT)
                await until(lambda: "gone" in w.story)
                assert w.story.index("paused") < w.story.index("gone")
                w.seen = HEARD
                w.b.rise()
                await until(lambda: "fenced" in w.story)
                await w.seat.leave()
                w.seat = w.make_seat()
                await w.enter()
                await asyncio.sleep(random.Random(w.detector.evictions).random())

    turned(story)


def test_one_that_is_heard_again_while_it_is_suspected_stays() -> None:
    async def story() -> None:
        async with world() as w:
            await w.die()
            w.is_seen_as(KILLED)
            await asyncio.sleep(0.5)
            w.seen = HEARD
            await asyncio.sleep(2)
            assert w.story == ["suspected"]

    turned(story)


def test_a_connection_that_breaks_and_comes_back_is_no_reason_to_ask() -> None:
    async def story() -> None:
        async with world() as w:
            w.is_seen_as(replace(HEARD, connected=False))
            await asyncio.sleep(0.5)
            w.seen = HEARD
            await asyncio.sleep(2)
            assert w.story == []
            w.is_seen_as(CUT)
            await asyncio.sleep(2)
            assert w.story == []

    turned(story)


def test_while_the_store_is_silent_for_all_nobody_is_evicted() -> None:
    async def story() -> None:
        async with world() as w:
            w.a.fall()
            w.b.fall()
            w.is_seen_as(SILENT)
            await asyncio.sleep(60)
            assert "gone" not in w.story

    turned(story)


def test_who_has_promised_to_take_nothing_evicts_nobody() -> None:
    async def story() -> None:
        async with world() as w:
            await w.die()
            w.may_take = False
            w.is_seen_as(KILLED)
            await asyncio.sleep(3)
            assert w.story == []
            w.may_take = True
            await until(lambda: "gone" in w.story, 2)

    turned(story)


def test_a_stuck_node_keeps_its_lease_for_a_while_and_not_for_ever() -> None:
    async def story() -> None:
        async with world() as w:
            await w.die()
            w.is_seen_as(STANDING)
            began = now()
            while now() < began + 30:
                await asyncio.sleep(1)
                w.seen = replace(STANDING, since=now() - began)
            assert w.story == []
            assert await w.a.get(KEYS.node("b")) is not None
            await w.seat._confirm()
            assert w.seat.holds, "when it wakes it goes on"
            while "gone" not in w.story:
                await asyncio.sleep(1)
                w.seen = replace(STANDING, since=now() - began)
                assert now() < began + STUCK + 4 * TTL
            assert now() > began + STUCK

    turned(story)


def test_only_the_leader_asks_unless_it_is_the_leader_that_is_not_heard() -> None:
    async def story() -> None:
        async with world() as w:
            await w.die()
            w.leadership.is_leader = False
            await w.members._store.put(  # type: ignore[attr-defined]
                KEYS.node("c"), NodeRecord(node="c", incarnation=1, address=NodeAddress("h", 2)).encode()
            )
            w.leadership.record = LeaderRecord(Owner("c", 1), 7)
            w.is_seen_as(KILLED)
            await asyncio.sleep(3)
            assert w.story == []
            w.leadership.record = LeaderRecord(Owner("b", 1), 7)
            await until(lambda: "gone" in w.story, 2)

    turned(story)


def test_with_the_leader_goes_its_lock() -> None:
    async def story() -> None:
        async with world() as w:
            await w.die()
            await w.b.lock(KEYS.leader_lock, ttl=TTL, holder=LeaderRecord(Owner("b", 1), 0).encode())
            w.is_seen_as(KILLED)
            before = now()
            async with asyncio.timeout(1.5):
                other = await w.a.lock(KEYS.leader_lock, ttl=TTL)
            assert now() - before < 1.0
            await other.release()

    turned(story)


def test_each_node_listens_to_a_few_and_the_leader_to_all() -> None:
    async def story() -> None:
        async with world() as w:
            for n in range(10):
                record = NodeRecord(node=f"n{n}", incarnation=1, address=NodeAddress("h", 2))
                await w.a.put(KEYS.node(record.node), record.encode())
            await until(lambda: len(w.members.nodes) == 11)
            w.detector.watch_all()
            assert len(w.watched) == 11
            w.leadership.is_leader = False
            w.detector.watch_all()
            assert w.watched == {"b", "n0", "n1", "n2"}

    turned(story)


def test_the_ring_leaves_nobody_out() -> None:
    nodes = [f"n{n:02}" for n in range(30)]
    counts = dict.fromkeys(nodes, 0)
    for node in nodes:
        found = neighbours(node, [other for other in nodes if other != node])
        assert node not in found
        assert len(set(found)) == 4
        for each in found:
            counts[each] += 1
    assert set(counts.values()) == {4}
    assert neighbours("a", []) == []
    assert neighbours("a", ["b"]) == ["b"]
    assert neighbours("z", ["b"]) == ["b"]


def test_a_leader_that_hears_nobody_steps_down_instead_of_suspecting_all() -> None:
    async def story() -> None:
        async with world() as w:
            record = NodeRecord(node="c", incarnation=1, address=NodeAddress("h", 2))
            await w.a.put(KEYS.node("c"), record.encode())
            await until(lambda: len(w.members.nodes) == 2)
            w.detector.watch_all()
            w.is_seen_as(SILENT)
            await until(lambda: w.story == ["resigned"], 1)
            w.leadership.is_leader = False
            await until(lambda: "suspected" in w.story, 2)

    turned(story)
