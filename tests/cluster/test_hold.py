"""Promises in an outage: everybody has to give one, and nobody is asked for one that would be worth nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from cajun_fast.cluster.detector import ring
from cajun_fast.cluster.hold import FIRST, Hold
from cajun_fast.cluster.promises import Collector
from cajun_fast.cluster.records import Owner
from cajun_fast.errors import NodeUnavailableError
from cajun_fast.testing.turned import LoopClock
from tests.cluster.worlds import FaultyStore, memory, turned

PEERS = [f"n{number:02}" for number in range(99)]


class World:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuse: set[str] = set()
        self.silent: set[str] = set()
        self.extended: list[int] = []
        self.clock = LoopClock()
        self.hold = Hold(
            memory(), self.clock, 5.0, peers=lambda: PEERS, ask=self.ask, extend=self.extended.append
        )

    async def ask(self, peer: str, timeout: float) -> bool:
        self.asked.append(peer)
        await asyncio.sleep(0.01)
        if peer in self.silent:
            raise NodeUnavailableError("as planned", peer)
        return peer not in self.refuse


@pytest.mark.parametrize("fault", ["refuse", "silent"])
def test_where_one_of_the_first_promises_nothing_no_other_is_asked(fault: str) -> None:
    async def story() -> None:
        w = World()
        getattr(w, fault).add(PEERS[1])
        w.hold.begin()
        await asyncio.sleep(0.5)
        assert w.asked == PEERS[:FIRST]
        assert w.extended == []
        await w.hold.stop()

    turned(story)


def test_with_every_promise_this_node_may_go_on_for_half_a_lease_from_before_the_first_was_asked_for() -> (
    None
):
    async def story() -> None:
        w = World()
        began = w.clock.now_ns()
        w.hold.begin()
        await asyncio.sleep(0.5)
        assert w.asked == PEERS
        assert w.extended == [began + round(2.5e9)]
        w.refuse.add(PEERS[-1])
        await asyncio.sleep(0.6)
        assert w.asked == PEERS * 2
        assert len(w.extended) == 1, "one that promises nothing is enough"
        await w.hold.stop()

    turned(story)


class Wide:
    """Members that ask each other; who was asked by whom is noted."""

    def __init__(self, count: int) -> None:
        self.pairs: set[tuple[str, str]] = set()
        self.dead: set[str] = set()
        self.clock = LoopClock()
        self.extended: dict[str, list[int]] = {}
        self.stores: dict[str, FaultyStore] = {}
        self.holds: dict[str, Hold] = {}
        self.collectors: dict[str, Collector] = {}
        names = [f"n{number:02}" for number in range(count)]
        for name in names:
            self.extended[name] = []
            self.stores[name] = FaultyStore(memory())
            self.holds[name] = hold = Hold(
                self.stores[name],
                self.clock,
                5.0,
                peers=partial(ring, name, [other for other in names if other != name]),
                ask=partial(self.ask, name),
                extend=self.extended[name].append,
                ask_for_all=partial(self.ask_for_all, name),
            )
            peers = self.holds[name]._peers
            self.collectors[name] = Collector(hold, name, peers, partial(self.ask_each, name))

    async def reach(self, asker: str, peer: str) -> None:
        self.pairs.add((asker, peer))
        await asyncio.sleep(0.01)
        if peer in self.dead:
            raise NodeUnavailableError("it is dead", peer)

    async def ask(self, asker: str, peer: str, timeout: float) -> bool:
        await self.reach(asker, peer)
        return await self.holds[peer].promise(Owner(asker, 1))

    async def ask_for_all(self, asker: str, peer: str, timeout: float) -> list[str]:
        await self.reach(asker, peer)
        return await self.collectors[peer].collect(Owner(asker, 1))

    async def ask_each(self, asker: str, peer: str, askers: Sequence[Owner]) -> list[bool]:
        await self.reach(asker, peer)
        return await self.holds[peer].promise_each(askers)

    async def stop(self) -> None:
        for part in (*self.holds.values(), *self.collectors.values()):
            await part.stop()


def test_a_hundred_nodes_that_lose_their_store_do_not_dial_each_other() -> None:
    async def story() -> None:
        w = Wide(100)
        for name, store in w.stores.items():
            store.fall()
            w.holds[name].begin()
        await asyncio.sleep(1.0)
        assert all(w.extended.values())
        assert len(w.pairs) <= 4 * 100
        assert all(hold.has_promised for hold in w.holds.values())
        await w.stop()

    turned(story)


def test_who_asks_the_one_that_collects_needs_the_promise_of_whoever_it_did_not_hear_all_the_same() -> None:
    async def story() -> None:
        w = Wide(20)
        for name in [name for name in w.stores if name != "n19"]:
            w.stores[name].fall()
            w.holds[name].begin()
        await asyncio.sleep(3.0)
        assert not any(w.extended.values()), "n19 sees the store"
        assert not w.holds["n19"].has_promised
        assert ("n07", "n19") in w.pairs
        await w.stop()

    turned(story)


def test_the_next_one_collects_where_the_first_is_silent() -> None:
    async def story() -> None:
        w = Wide(20)
        w.dead.add("n00")
        for name, hold in w.holds.items():
            w.stores[name].fall()
            if name != "n00":
                hold.begin()
        await asyncio.sleep(3.0)
        assert not any(w.extended.values()), "who is known and promises nothing keeps all from holding"
        assert ("n09", "n01") in w.pairs, "the next one is asked to collect"
        w.dead.clear()
        await asyncio.sleep(2.0)
        assert all(w.extended[name] for name in w.holds if name != "n00")
        await w.stop()

    turned(story)
