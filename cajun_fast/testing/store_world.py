"""What the contract suite needs to know of a store: how to open a view, and how its time passes.

Laws: all views of a world share one truth, and no two worlds do. The world closes what it opened. Those of
the embedded stores stand here as well, as examples: their clock is turned by hand.
"""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

from cajun_fast.clock import ManualClock
from cajun_fast.metadata.memory import MemoryMetadataStore
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.sqlite import SqliteMetadataStore
from cajun_fast.metadata.store import MetadataStore


class StoreWorld(ABC):
    #: A lease time that the store honours; tests turn the time by some of these.
    ttl: float = 3.0
    #: Whether later pages of a listing show the first page's revision.
    keeps_revisions: bool = False

    def __init__(self) -> None:
        self._opened: list[MetadataStore] = []

    @abstractmethod
    def make(self) -> MetadataStore:
        """A view that is not connected yet."""

    async def advance(self, seconds: float) -> None:
        """Let the store's time pass: turn its clock where that is possible."""
        await asyncio.sleep(seconds)

    @abstractmethod
    async def forget_history(self, store: MetadataStore) -> None:
        """Make the store drop every revision before the present one: compaction. It may write below ``~``."""

    async def open(self) -> MetadataStore:
        store = self.make()
        await store.connect()
        self._opened.append(store)
        return store

    async def close(self) -> None:
        for store in reversed(self._opened):
            await store.close()
        self._opened.clear()

    async def until(self, check: Callable[[], Awaitable[bool]], within: float = 15.0) -> None:
        """Wait for a condition; fails when it does not come true."""
        async with asyncio.timeout(within):
            while not await check():  # noqa: ASYNC110 - a store has no event for it
                await asyncio.sleep(0.01)


#: Events that the embedded stores of a test keep: few, so that a watch can fall behind them.
HISTORY = 1000


class TurnedWorld(StoreWorld):
    """A store that reads a clock of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.options = StoreOptions(clock=self.clock)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        for store in self._opened:  # any verb ends what is over; its watches learn of it
            await store.ping()
        await asyncio.sleep(0)

    async def forget_history(self, store: MetadataStore) -> None:
        for _ in range(HISTORY // 100 + 3):
            await asyncio.gather(*(store.put("~filler", b"") for _ in range(100)))


class MemoryWorld(TurnedWorld):
    def __init__(self) -> None:
        super().__init__()
        self.name = uuid.uuid4().hex

    def make(self) -> MemoryMetadataStore:
        return MemoryMetadataStore(self.name, options=self.options, history=HISTORY)


class SqliteWorld(TurnedWorld):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "cluster.db"

    def make(self) -> SqliteMetadataStore:
        return SqliteMetadataStore(
            self.path, options=self.options, history=HISTORY, lease_clock=self.clock, boot="this boot"
        )
