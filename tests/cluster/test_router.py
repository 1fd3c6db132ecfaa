"""The way to an actor, answered lane by lane: at once from the cache, later from the directory, bounded
always.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cajun_fast.cluster.directory import Directory
from cajun_fast.cluster.locator import Locator
from cajun_fast.cluster.records import ActorRecord, Owner
from cajun_fast.cluster.router import FOR_GOOD, ClusterRouter, Patience, pause, pauses_before
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.errors import ActorNotFoundError, CajunError, NodeUnavailableError, NotRunningError
from cajun_fast.metadata import KeySpace
from tests.cluster.worlds import FaultyStore, LoopClock, memory, turned, until

KEYS = KeySpace("test")
ME = Owner("me", 1)


class FakeLane:
    """What the router sees of a lane; ``story`` is what it was told."""

    def __init__(self, target: str, refusals: int = 0, hint: str | None = None) -> None:
        self.target, self.refusals, self.hint = target, refusals, hint
        self.inbox: Any = None
        self.moving = False
        self.way: Any = None
        self.location: Any = None
        self.expires = 0
        self.story: list[str] = []
        self.error: CajunError | None = None
        self.answered_at = 0.0

    def _told(self, what: str) -> None:
        self.story.append(what)
        self.answered_at = asyncio.get_running_loop().time()

    def bind_inbox(self, inbox: Any) -> None:
        self.inbox = inbox
        self._told("inbox")

    def bind_carrier(self, link: Any, location: Any = None, expires: int = 0, durable: bool = False) -> None:
        self.location, self.expires, self.durable = location, expires, durable
        self._told(f"link {link}")

    def fail(self, error: CajunError) -> None:
        self.error = error
        self._told(type(error).__name__)


class FakeExchange:
    def __init__(self) -> None:
        self.inboxes: dict[str, Any] = {}


class FakeLinks:
    def link(self, node: str) -> str:
        if node == "broken":
            raise NodeUnavailableError("the breaker is open", node)
        return node


class FakeMembers:
    def __init__(self) -> None:
        self.living = {"a": 1, "b": 1, "broken": 1, "me": 1}

    def get(self, node: str) -> int | None:
        return self.living.get(node)

    def lives(self, owner: Owner) -> bool:
        return self.living.get(owner.node) == owner.incarnation


class World:
    def __init__(self, store: FaultyStore) -> None:
        self.store = store
        self.directory = Directory(store, KEYS)
        chance = random.Random(1)
        self.locator = Locator(
            store,
            KEYS,
            self.directory,
            LoopClock().now_ns,
            Backoff(chance, 0.05, 1.0),
            size=100,
            expiry_ms=5000,
            negative_ms=100,
        )
        self.members = FakeMembers()
        self.exchange = FakeExchange()
        self.starting: set[str] = set()
        self.moving: set[str] = set()
        self.fenced = False
        self.router = ClusterRouter(
            self.locator,
            self.members,  # type: ignore[arg-type]
            LoopClock().now_ns,
            Patience(start_timeout=3.0, rehost_timeout=10.0, expiry=5.0),
            on_actor_stopped=lambda actor_id: None,
            is_starting=lambda actor_id: actor_id in self.starting | self.moving,
            is_moving=lambda actor_id: actor_id in self.moving,
            is_fenced=lambda: self.fenced,
        )
        self.router.start(self.exchange, FakeLinks(), ME)  # type: ignore[arg-type]
        self.serial = 0

    async def own(self, actor_id: str, node: str, incarnation: int = 1) -> None:
        self.serial += 1
        record = ActorRecord(owner=Owner(node, incarnation), claim=self.serial)
        await self.store.inner.put(KEYS.actor(actor_id), record.encode())

    async def disown(self, actor_id: str) -> None:
        await self.store.inner.delete(KEYS.actor(actor_id))

    async def resolve(self, lane: FakeLane, seconds: float = 60.0) -> list[str]:
        """What the lane was told, and that it was told once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        self.router.resolve(lane)  # type: ignore[arg-type]
        while not lane.story and loop.time() < end:  # noqa: ASYNC110 - turned time costs nothing
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.5)
        return lane.story


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    store = FaultyStore(memory())
    await store.connect()
    made = World(store)
    made.locator.start()
    await asyncio.sleep(0.01)
    try:
        yield made
    finally:
        await made.router.stop()
        await made.locator.stop()
        await made.directory.stop()
        await store.close()


def test_the_first_look_reads_the_store_and_the_next_one_does_not() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            assert await w.resolve(FakeLane("x")) == ["link a"]
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            assert lane.story == ["link a"], "at once"
            assert lane.location is not None
            await asyncio.sleep(60)  # while the watch is in step, nothing grows old
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            assert lane.story == ["link a"]
            assert w.directory.reads == 1

    turned(story)


def test_a_move_is_heard_of_by_the_watch() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            await w.resolve(FakeLane("x"))
            await w.own("x", "b")
            await asyncio.sleep(0.01)
            assert await w.resolve(FakeLane("x")) == ["link b"]
            assert w.directory.reads == 1

    turned(story)


def test_nobody_is_an_error_that_is_remembered_for_a_moment_only() -> None:
    async def story() -> None:
        async with world() as w:
            w.router.resolve(lane := FakeLane("x"))  # type: ignore[arg-type]
            await asyncio.sleep(0.01)
            assert lane.story == ["ActorNotFoundError"]
            w.router.resolve(lane := FakeLane("x"))  # type: ignore[arg-type]
            assert lane.story == ["ActorNotFoundError"], "at once"
            assert w.directory.reads == 1
            await asyncio.sleep(0.2)
            await w.resolve(FakeLane("x"))
            assert w.directory.reads == 2

    turned(story)


def test_that_nobody_is_there_is_forgotten_when_the_watch_says_otherwise() -> None:
    async def story() -> None:
        async with world() as w:
            await w.resolve(FakeLane("x"))
            w.router.resolve(FakeLane("x"))  # type: ignore[arg-type]
            await w.own("x", "a")
            await asyncio.sleep(0.01)
            assert await w.resolve(FakeLane("x")) == ["link a"]

    turned(story)


def test_a_refusal_is_followed_by_a_fresh_read() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            lane = FakeLane("x")
            await w.resolve(lane)
            await w.locator.stop()  # the watch is late
            await w.own("x", "b")
            lane.refusals, lane.story = 1, []
            assert await w.resolve(lane) == ["link b"]

    turned(story)


def test_the_hint_of_a_refusal_is_tried_first_but_not_for_ever() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            lane = FakeLane("x", refusals=1, hint="b")
            w.router.resolve(lane)  # type: ignore[arg-type]
            await asyncio.sleep(0.001)
            assert lane.story == ["link b"]
            assert w.directory.reads == 0
            assert await w.resolve(FakeLane("x", refusals=2, hint="b")) == ["link a"]
            assert await w.resolve(FakeLane("x", refusals=1, hint="stranger")) == ["link a"]

    turned(story)


def test_an_owner_that_refuses_what_it_owns_is_tried_again_with_growing_pauses_then_given_up() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            loop = asyncio.get_running_loop()
            lane, began = FakeLane("x"), loop.time()
            tries = 0
            while lane.error is None:
                lane.story = []
                w.router.resolve(lane)  # type: ignore[arg-type]
                while not lane.story:  # noqa: ASYNC110 - turned time costs nothing
                    await asyncio.sleep(0.001)
                lane.refusals += 1
                tries += 1
                assert tries < 50
            assert isinstance(lane.error, ActorNotFoundError)
            assert "'a'" in str(lane.error)
            assert 2.5 < loop.time() - began < 4.0
            assert tries < 25

    turned(story)


def test_an_owner_that_says_it_comes_is_waited_for_as_long_as_a_lost_one_is() -> None:
    """A commit has made it the owner, and the node that hands it over is lost, which is noticed late."""

    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            loop = asyncio.get_running_loop()
            lane, began = FakeLane("x"), loop.time()
            while lane.error is None:
                lane.story = []
                w.router.resolve(lane)  # type: ignore[arg-type]
                while not lane.story:  # noqa: ASYNC110 - turned time costs nothing
                    await asyncio.sleep(0.001)
                lane.refusals, lane.hint = lane.refusals + 1, "a"
                assert lane.refusals < 100, "not without pauses"
            assert isinstance(lane.error, NodeUnavailableError)
            assert 9.5 < loop.time() - began < 11.0

    turned(story)


def test_a_new_owner_has_its_own_time_to_start() -> None:
    """The one before refused for nearly as long as is waited; then somebody else has it, at the same node or not."""

    async def story() -> None:
        async with world() as w:
            loop = asyncio.get_running_loop()
            lane, began = FakeLane("x"), loop.time()
            await w.own("x", "a")
            changed = False
            while lane.error is None:
                if not changed and loop.time() - began > 2.5:
                    changed = True
                    await w.own("x", "a")
                lane.story = []
                w.router.resolve(lane)  # type: ignore[arg-type]
                while not lane.story:  # noqa: ASYNC110 - turned time costs nothing
                    await asyncio.sleep(0.001)
                lane.refusals += 1
                assert lane.refusals < 60
            assert isinstance(lane.error, ActorNotFoundError)
            assert 5.0 < loop.time() - began < 6.5

    turned(story)


def test_an_actor_that_arrives_here_is_waited_for_as_long() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "me")
            w.moving.add("x")
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            await asyncio.sleep(8)
            assert lane.story == []
            w.exchange.inboxes["x"] = "cell"
            await asyncio.sleep(0.1)
            assert lane.story == ["inbox"]

    turned(story)


def test_what_a_fenced_node_does_not_have_any_more_is_waited_for() -> None:
    """Its own name stands in the directory until somebody else has taken the actor."""

    async def story() -> None:
        async with world() as w:
            await w.own("x", "me")
            w.fenced = True
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            await asyncio.sleep(5)
            assert lane.story == []
            await w.own("x", "a")
            await asyncio.sleep(0.5)
            assert lane.story == ["link a"]

    turned(story)


def test_pauses_grow_to_a_limit() -> None:
    assert [pause(n) for n in range(1, 8)] == [0.01, 0.02, 0.04, 0.08, 0.16, 0.25, 0.25]
    assert pauses_before(4) == pytest.approx(0.07)


def test_an_actor_that_starts_here_is_waited_for() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "me")
            w.starting.add("x")
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            await asyncio.sleep(1)
            assert lane.story == []
            w.exchange.inboxes["x"] = "cell"
            await asyncio.sleep(0.1)
            assert lane.story == ["inbox"]

    turned(story)


def test_a_claim_of_this_node_without_an_actor_is_nobody() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "me")
            assert await w.resolve(FakeLane("x")) == ["ActorNotFoundError"]

    turned(story)


def test_an_actor_that_leaves_while_its_record_is_read_is_found_where_it_has_gone() -> None:
    """What was read says "here", from before the move; when the answer comes the move is over."""

    async def story() -> list[str]:
        async with world() as w:
            await w.own("x", "me")
            before = await w.directory.read("x")
            await w.own("x", "a")
            locate = w.locator.locate

            async def late(actor_id: str, *, fresh: bool = False) -> Any:
                return await locate(actor_id, fresh=True) if fresh else before

            w.locator.locate = late  # type: ignore[method-assign]
            lane = FakeLane("x")
            w.router.search(lane, w.router._find)  # type: ignore[arg-type]
            await until(lambda: lane.story)
            return lane.story

    assert turned(story) == ["link a"]


def test_an_actor_that_is_still_here_is_not_looked_for_elsewhere_before_it_has_gone() -> None:
    """The commit of its move stands and the cache knows it; the copy here has not let go of its messages yet."""

    async def story() -> tuple[list[str], list[str]]:
        async with world() as w:
            await w.own("x", "a")
            await w.resolve(FakeLane("x"))
            lane = FakeLane("x")
            lane.inbox = w.exchange.inboxes["x"] = "inbox"
            w.router.resolve(lane)  # type: ignore[arg-type]
            at_once = list(lane.story)
            w.exchange.inboxes.clear()
            lane.inbox = None
            await until(lambda: lane.story)
            return at_once, lane.story

    assert turned(story) == ([], ["link a"])


def test_a_lost_owner_is_waited_for_until_somebody_has_it_again() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "lost")
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            await asyncio.sleep(5)
            assert lane.story == []
            await w.own("x", "b")
            await asyncio.sleep(0.01)
            assert lane.story == ["link b"]

    turned(story)


def test_an_earlier_life_of_a_living_node_is_lost_too() -> None:
    async def story() -> None:
        async with world() as w:
            w.members.living["a"] = 2
            await w.own("x", "a", 1)
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            await asyncio.sleep(1)
            assert lane.story == []
            await w.disown("x")
            await asyncio.sleep(0.01)
            assert lane.story == ["ActorNotFoundError"]

    turned(story)


def test_the_wait_for_a_lost_owner_is_bounded() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "lost")
            began = asyncio.get_running_loop().time()
            lane = FakeLane("x")
            assert await w.resolve(lane) == ["NodeUnavailableError"]
            assert 9.99 < lane.answered_at - began < 10.5
            assert "'lost'" in str(lane.error)

    turned(story)


def test_system_actors_need_no_look_up() -> None:
    async def story() -> None:
        async with world() as w:
            w.exchange.inboxes["cajun:host@me"] = "cell"
            for target, told in {
                "cajun:host@a": "link a",
                "cajun:host@me": "inbox",
                "cajun:other@me": "ActorNotFoundError",
                "cajun:host@stranger": "NodeUnavailableError",
                "cajun:host@broken": "NodeUnavailableError",
            }.items():
                lane = FakeLane(target)
                w.router.resolve(lane)  # type: ignore[arg-type]
                assert lane.story == [told], target
            assert w.directory.reads == 0

    turned(story)


def test_children_are_found_at_their_root() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            assert await w.resolve(FakeLane("x/child/grandchild")) == ["link a"]
            assert await w.resolve(FakeLane("x/ghost", refusals=2)) == ["link a"]  # perhaps it comes with "x"
            ghost = FakeLane("x/ghost", refusals=1)
            assert await w.resolve(ghost) == ["link a"]
            ghost.refusals, ghost.story = 8, []
            assert await w.resolve(ghost) == ["ActorNotFoundError"]
            assert await w.resolve(FakeLane("y/child")) == ["ActorNotFoundError"]

    turned(story)


def test_without_the_store_known_ways_serve_and_unknown_ones_fail_at_once() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            await w.resolve(FakeLane("x"))
            w.store.fall()
            await asyncio.sleep(600)
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            assert lane.story == ["link a"]
            began = asyncio.get_running_loop().time()
            lane = FakeLane("y")
            assert await w.resolve(lane) == ["NodeUnavailableError"]
            assert lane.answered_at - began < 0.1
            assert "metadata store" in str(lane.error)

    turned(story)


def test_what_changed_during_an_outage_is_looked_up_anew_after_it() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            await w.resolve(FakeLane("x"))
            w.store.fall()
            await asyncio.sleep(1)
            await w.own("x", "b")
            w.store.rise()
            await asyncio.sleep(2)
            assert await w.resolve(FakeLane("x")) == ["link b"]

    turned(story)


def test_a_binding_that_the_watch_keeps_true_is_never_looked_at_again() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            lane = FakeLane("x")
            await w.resolve(lane)
            assert lane.expires == FOR_GOOD
            assert lane.location.live
            await w.own("x", "b")
            await asyncio.sleep(0.01)
            assert not lane.location.live, "the lane sees it, and asks"
            again = FakeLane("x")
            await w.resolve(again)
            w.store.fall()
            await asyncio.sleep(60)
            assert again.location.live, "nothing is known that is better"
            w.store.rise()
            await asyncio.sleep(5)
            assert not again.location.live, "moves in between were not seen"

    turned(story)


def test_a_binding_near_its_end_is_renewed_without_unbinding() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            await w.resolve(FakeLane("x"))
            w.store.fall()
            await asyncio.sleep(1)
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            first = lane.expires
            assert first < FOR_GOOD
            await asyncio.sleep(4.5)
            w.router.refresh(lane)  # type: ignore[arg-type]
            assert first < lane.expires < FOR_GOOD
            assert lane.story == ["link a"]
            assert w.directory.reads == 1
            w.store.rise()
            w.locator.cache.clear()
            w.router.refresh(lane)  # type: ignore[arg-type]
            await asyncio.sleep(0.01)
            assert w.directory.reads == 2
            assert lane.story == ["link a"]

    turned(story)


def test_before_start_and_after_stop_lanes_fail() -> None:
    async def story() -> None:
        async with world() as w:
            waiting = FakeLane("x")
            await w.own("x", "lost")
            w.router.resolve(waiting)  # type: ignore[arg-type]
            await asyncio.sleep(1)
            await w.router.stop()
            lane = FakeLane("x")
            w.router.resolve(lane)  # type: ignore[arg-type]
            assert isinstance(lane.error, NotRunningError)

    turned(story)


def test_while_the_links_are_renewed_who_asks_is_kept_and_answered_by_the_new_ones() -> None:
    async def story() -> None:
        async with world() as w:
            await w.own("x", "a")
            w.router.pause()
            early, late = FakeLane("x"), FakeLane("cajun:host@b")
            w.router.resolve(early)
            w.router.resolve(late)
            await asyncio.sleep(60)
            assert early.story == late.story == []
            w.router.start(w.exchange, FakeLinks(), Owner("me", 2))  # type: ignore[arg-type]
            await until(lambda: early.story and late.story)
            assert (early.story, late.story) == (["link a"], ["link b"])
            w.router.pause()
            await w.router.stop()
            w.router.resolve(early)
            assert isinstance(early.error, NotRunningError)

    turned(story)
