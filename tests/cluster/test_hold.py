"""Promises in an outage: everybody has to give one, and nobody is asked for one that would be worth nothing."""

from __future__ import annotations

import asyncio

import pytest

from cajun_fast.cluster.hold import FIRST, Hold
from cajun_fast.errors import NodeUnavailableError
from cajun_fast.testing.turned import LoopClock
from tests.cluster.worlds import memory, turned

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
