"""Owners that die between mailbox, handler and commit, again and again: every message counts once.

``CAJUN_KILLS=10000`` for the long run. An owner dies here as a process does: what it had in memory is gone, and a
commit that was under way stands or not, which nobody is told.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast._core.lane import Lane
from cajun_fast.actors.system import ActorSystem
from cajun_fast.errors import PersistenceError
from cajun_fast.messaging.faults import decode_error, encode_error
from cajun_fast.messaging.serializer import make_codec
from cajun_fast.persistence import Commit, Durability, Epoch
from cajun_fast.persistence.memory import MemoryPersistence, Row

KILLS = int(os.environ.get("CAJUN_KILLS", "300"))


class Counter(cf.Actor):
    """Refuses what comes twice or out of order, and tells the next one of each message."""

    durable = True

    def __init__(self, then: str = "") -> None:
        self.then = then
        self.last: dict[str, int] = {}

    def get_state(self) -> Any:
        return self.last

    def set_state(self, state: Any) -> None:
        self.last = dict(state)

    def receive(self, message: Any, context: cf.Context) -> Any:
        who, number = message
        if number == -1:
            self.last["half"] = 1  # must not stay
            raise ValueError("refused")
        before = self.last.get(who, 0)
        assert number == before + 1, f"{context.self.id}: {number} after {before} of {who}"
        self.last[who] = number
        if self.then:
            context.system.pid(self.then).tell([context.self.id, sum(self.last.values())])
        return number


class Cut(MemoryPersistence):
    """One owner's view; from some commit on it is dead, before or after that commit was written."""

    def __init__(self, rows: dict[str, Row], chance: random.Random) -> None:
        super().__init__(rows=rows)
        self.left = chance.choice([0, 0, 1, 1, 2, 3, 5])
        self.writes_last = chance.random() < 0.5
        self.dead = asyncio.Event()

    async def commit(self, commits: Sequence[Commit]) -> list[PersistenceError | None]:
        if self.left == 0:
            if self.writes_last:
                await super().commit(commits)
            self.dead.set()
            await asyncio.Event().wait()
        self.left -= 1
        return await super().commit(commits)


class Parked:
    """A router for owners that come back: lanes wait until they do."""

    def __init__(self) -> None:
        self.lanes: set[Lane] = set()

    def resolve(self, lane: Lane) -> None:
        self.lanes.add(lane)

    def refresh(self, lane: Lane) -> None: ...

    def actor_stopped(self, actor_id: str) -> None: ...


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rows: dict[str, Row] = {}
        self.lives = 0
        self.failures: list[str] = []

    async def start(self) -> None:
        self.system = ActorSystem("n", router=Parked())
        await self.system.start()
        codec = make_codec(self.system.exchange)
        self.system.exchange.encode, self.system.exchange.decode = codec.encode, codec.decode
        await self.live()

    async def live(self) -> None:
        self.lives += 1
        number = self.lives
        self.store = Cut(self.rows, self.chance)
        self.durability = Durability(
            self.store,
            self.system.exchange,
            self.chance,
            epoch_of=lambda _: Epoch("r", number),
            on_lost=lambda cell, why: self.failures.append(why),
            encode_error=encode_error,
            decode_error=decode_error,
        )
        await self.durability.start()
        self.system.durability = self.durability
        await self.system.spawn(Counter, "last")
        await self.system.spawn(Counter, "first", then="last")

    async def die(self) -> None:
        for name in ("first", "last"):
            cell = self.system.cell(name)
            assert cell is not None
            assert cell.gate is not None
            cell.gate.lose()
        await self.durability.committer.stop()
        for name in ("first", "last"):
            await self.system.stop_actor(name)
        await self.store.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(seed=4)
    await made.start()
    yield made
    made.store.left = 1 << 30
    await made.system.stop()


@pytest.mark.timeout(60 + KILLS // 20)
async def test_owners_that_die_at_any_moment_leave_every_message_counted_once(world: World) -> None:
    system, chance = world.system, world.chance
    asked = told = 0
    kills = 0
    while kills < KILLS:
        asks = []
        for _ in range(chance.randint(1, 12)):
            asked += 1
            asks.append((asked, asyncio.ensure_future(system.pid("first").ask(["asks", asked], timeout=60))))
            if chance.random() < 0.3:
                asks.append((None, asyncio.ensure_future(system.pid("first").ask(["x", -1], timeout=60))))
            if chance.random() < 0.3:
                told += 1
                system.pid("first").tell(["tells", told])
        while not all(each.done() for _, each in asks):
            dead = asyncio.ensure_future(world.store.dead.wait())
            await asyncio.wait({dead, *(each for _, each in asks)}, return_when=asyncio.FIRST_COMPLETED)
            if world.store.dead.is_set():
                await world.die()
                await world.live()
                kills += 1
            dead.cancel()
        for number, each in asks:
            if number is None:
                assert isinstance(each.exception(), cf.RemoteActorError)
            else:
                assert each.result() == number
    if world.store.dead.is_set():  # with what nobody waits for
        await world.die()
        await world.live()
    world.store.left = 1 << 30
    await until(lambda: not system.exchange.ways.active)
    first = system.exchange.decode(await state(world, "first"))
    last = system.exchange.decode(await state(world, "last"))
    assert first == {"asks": asked, "tells": told} if told else {"asks": asked}
    assert last == {"first": asked + told}
    assert not system.dead_letters.total
    assert not world.failures


async def state(world: World, name: str) -> bytes:
    found = world.rows[name].state
    assert found is not None
    return found


async def until(check: Any) -> None:
    async with asyncio.timeout(20):
        while not check():
            if not await asyncio.sleep(0.005):
                continue
