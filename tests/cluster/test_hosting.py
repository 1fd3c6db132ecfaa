"""What a node does for the ids that it owns: nothing that it hears in another order than it happened costs an actor."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.hosting import Hosting
from cajun_fast.cluster.records import ActorRecord, Owner
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.metadata import KeySpace
from tests.cluster.worlds import memory, turned

KEYS = KeySpace("test")
NOW, BEFORE = Owner("n", 2), Owner("n", 1)


class Runtime:
    """Actors are names here."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    async def spawn(self, target: Any, actor_id: str | None = None, /, *args: Any, **kwargs: Any) -> Any:
        return actor_id

    async def stop_actor(self, actor_id: str) -> bool:
        self.stopped.append(actor_id)
        return True


class EarlyWatch(Registrar):
    """The directory's watch tells of a claim before its answer is there."""

    hosting: Hosting

    async def claim(self, actor_id: str, *arguments: Any, **options: Any) -> Standing:
        standing = await super().claim(actor_id, *arguments, **options)
        self.hosting.on_moved(actor_id, replace(standing), standing.revision)
        return standing


class World:
    def __init__(self, store: Any) -> None:
        self.directory = Directory(store, KEYS)
        self.registrar = EarlyWatch(store, KEYS, self.directory, Backoff(random.Random(1), 0.02, 1.0))
        self.runtime = Runtime()
        self.hosting = self.registrar.hosting = Hosting(
            self.runtime,
            self.registrar,
            self.directory,
            None,
            NOW,
            self.holds,  # type: ignore[arg-type]
        )

    async def holds(self) -> bool:
        return True


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    store = memory()
    await store.connect()
    made = World(store)
    made.registrar.start()
    try:
        yield made
    finally:
        await made.hosting.stop()
        await made.registrar.stop()
        await made.directory.stop()
        await store.close()


@pytest.mark.parametrize("removed", [False, True])
def test_a_claim_that_is_put_back_stands_though_the_watch_told_of_it_first(removed: bool) -> None:
    async def story() -> None:
        async with world() as w:
            ours = await Registrar.claim(w.registrar, "a", ActorRecord(owner=BEFORE, claim=7, type="t"))
            if removed:
                await w.registrar.release(ours)
            w.hosting.owned["a"] = ours
            assert await w.hosting.sync() == (1, 0)
            standing = await w.directory.read("a", fresh=True)
            assert standing is not None
            assert standing.record.owner == NOW
            assert w.hosting.owned == {"a": standing}
            assert w.runtime.stopped == []

    turned(story)


def test_what_stops_while_its_claim_is_put_back_is_not_resurrected() -> None:
    async def story() -> None:
        async with world() as w:
            ours = await Registrar.claim(w.registrar, "a", ActorRecord(owner=BEFORE, claim=7, type="t"))
            w.hosting.owned["a"] = ours

            def stop_then_tell(actor_id: str, standing: Standing, revision: int) -> None:
                w.hosting.owned.pop(actor_id, None)

            w.hosting.on_moved = stop_then_tell  # type: ignore[method-assign, assignment]
            assert await w.hosting.sync() == (0, 1)
            assert await w.directory.read("a", fresh=True) is None

    turned(story)
