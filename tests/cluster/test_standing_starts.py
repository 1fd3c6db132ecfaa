"""Starting an actor on a node that does not know, for the moment, whether its seat is its own; in turned time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.hosting import Hosting
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.errors import MetadataStoreUnavailableError
from tests.cluster.test_membership import KEYS, Seat, seat
from tests.cluster.worlds import turned

#: Seconds that a start waits for its node, here.
PATIENCE = 10.0


class FakeRuntime:
    """Starts nothing, and remembers what it was told to start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    async def spawn(self, target: Any, actor_id: str | None = None, /, *args: Any, **kwargs: Any) -> Any:
        self.started.append(str(actor_id))
        return actor_id

    async def stop_actor(self, actor_id: str) -> bool:
        return True


class World:
    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.runtime = FakeRuntime()
        self.directory = Directory(seat.store, KEYS)
        self.registrar = Registrar(seat.store, KEYS, self.directory, Backoff(random.Random(1), 0.02, 0.2))
        self.hosting = Hosting(
            self.runtime,
            self.registrar,
            self.directory,
            None,  # type: ignore[arg-type] - actors without a name have no arguments that travel
            seat.membership.record.owner,
            may_own=seat.membership.settled,
            until_seated=lambda: seat.membership.settled(PATIENCE, next_life=True),
        )

    async def register(self, actor_id: str) -> Any:
        return await self.hosting.host(object, None, actor_id, (), {})


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with seat(patience=0.6) as s:
        await s.enter()
        made = World(s)
        made.registrar.start()
        try:
            yield made
        finally:
            await made.hosting.stop()
            await made.registrar.stop()


def test_a_start_on_a_node_that_stands_still_waits_until_it_goes_on() -> None:
    async def story() -> None:
        async with world() as w:
            w.seat.store.fall()
            await asyncio.sleep(0.7)
            assert w.seat.membership.paused
            starting = asyncio.ensure_future(w.register("x"))
            await asyncio.sleep(1)
            assert not starting.done()
            assert w.runtime.started == []
            w.seat.store.rise()
            assert await starting == "x"
            assert w.seat.fenced == []

    turned(story)


def test_a_start_whose_node_stands_still_for_too_long_says_so() -> None:
    async def story() -> None:
        async with world() as w:
            w.seat.store.fall()
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            with pytest.raises(MetadataStoreUnavailableError, match="stands still"):
                await w.register("x")
            assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE, abs=0.1)
            assert w.runtime.started == []
            w.seat.store.rise()
            assert await w.directory.read("x", fresh=True) is None, "the id is free"

    turned(story)


def test_a_start_whose_node_loses_its_seat_in_the_middle_is_done_in_its_next_life() -> None:
    async def story() -> None:
        async with world() as w:
            claim = w.registrar.claim

            async def and_lose_the_seat(*args: Any) -> Standing:
                standing = await claim(*args)
                w.registrar.claim = claim  # type: ignore[method-assign]
                w.seat.membership._fence("as planted")
                return standing

            w.registrar.claim = and_lose_the_seat  # type: ignore[method-assign]
            starting = asyncio.ensure_future(w.register("x"))
            await asyncio.sleep(2)
            assert not starting.done()
            assert await w.directory.read("x", fresh=True) is None, "nobody is told that it is there"
            await w.seat.enter()
            w.hosting.owner = w.seat.membership.record.owner
            assert await starting == "x"
            standing = await w.directory.read("x", fresh=True)
            assert standing is not None
            assert standing.record.owner.incarnation == 2
            assert w.runtime.started == ["x"]

    turned(story)
