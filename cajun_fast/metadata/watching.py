"""Watches of the embedded stores: a cursor into a bounded log, woken by what is written, never a queue of
their own.

Laws: a watch reads ``(cursor, now]`` when its consumer asks, so a slow consumer costs nothing but the log. A
watch whose cursor fell behind the log's floor goes on by difference: what was written since its cursor, and
which of the keys that it told of are gone. Cancelling an iteration loses nothing: the cursor moves only with
what is handed out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from cajun_fast.errors import CompactedError, LeaseLostError, MetadataStoreError
from cajun_fast.metadata.store import Entry, Event, EventKind, Watch


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a watch begins: its cursor, and the keys that exist (or existed since) under its prefix."""

    cursor: int
    known: set[str]


@dataclass(frozen=True, slots=True)
class Changes:
    """Events after a cursor, and the revision up to which they are complete."""

    events: list[Event]
    cursor: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What stands under a prefix at ``revision``: every key, and the entries written since a cursor."""

    keys: set[str]
    written: list[Entry]
    revision: int


class Source(Protocol):
    """Where watches read; implemented by an embedded store."""

    async def changes(self, prefix: str, cursor: int) -> Changes | None:
        """A bounded number of events, whole revisions only; None when the log begins after ``cursor``."""
        ...

    async def difference(self, prefix: str, cursor: int) -> Difference: ...


def bridge(known: set[str], difference: Difference) -> list[Event]:
    """The events that lead from what a watch knew to what stands now, in order of revision."""
    events = [Event(EventKind.PUT, entry) for entry in difference.written]
    events += [deletion(key, difference.revision) for key in known - difference.keys]
    return sorted(events, key=lambda event: (event.entry.revision, event.entry.key))


def compacted(revision: int, floor: int) -> CompactedError:
    return CompactedError(
        f"revision {revision} is no longer kept (the log begins after {floor}): list again, go on from there",
        floor,
    )


def lease_over(lease_id: int) -> LeaseLostError:
    return LeaseLostError(f"lease {lease_id:x} is over: take a new one")


def deletion(key: str, revision: int) -> Event:
    return Event(EventKind.DELETE, Entry(key, b"", revision, 0))


def note(known: set[str], events: Iterable[Event]) -> None:
    """Keep the set of keys that a watch told of up to date."""
    for event in events:
        if event.kind is EventKind.DELETE:
            known.discard(event.entry.key)
        else:
            known.add(event.entry.key)


class LogWatch(Watch):
    """See the module's laws. One iteration at a time."""

    def __init__(
        self, source: Source, prefix: str, opening: Awaitable[Opening], on_close: Callable[[LogWatch], None]
    ) -> None:
        self.prefix = prefix
        self.cursor = -1
        self._source = source
        self._opening: Awaitable[Opening] | None = opening
        self._on_close = on_close
        self._known: set[str] = set()
        self._wake = asyncio.Event()
        self._wake.set()
        self._iterating = False
        self._reading = False
        self._end: Exception | None = None

    def __repr__(self) -> str:
        return f"<LogWatch {self.prefix!r} after {self.cursor}>"

    def notify(self, previous: int, revision: int, touched: bool) -> None:
        """The log grew from ``previous`` to ``revision``; ``touched``: under this prefix, too."""
        if touched:
            self._wake.set()
        elif not self._wake.is_set() and not self._reading and self.cursor >= previous:
            self.cursor = max(self.cursor, revision)

    def end(self, reason: Exception) -> None:
        """A waiting iteration stops (StopAsyncIteration) or raises ``reason``."""
        if self._end is None:
            self._end = reason
            self._wake.set()
            self._on_close(self)

    async def close(self) -> None:
        self.end(StopAsyncIteration())
        if isinstance(self._opening, asyncio.Future):
            self._opening.cancel()

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        if self._iterating:
            raise MetadataStoreError(f"watch of {self.prefix!r} has a reader already: open another watch")
        self._iterating = True
        try:
            return await self._next()
        finally:
            self._iterating = False

    async def _next(self) -> list[Event]:
        while True:
            self._check_end()
            if self._opening is not None:
                await self._settle(self._opening)
            await self._wake.wait()
            self._check_end()
            self._wake.clear()
            if events := await self._read():
                self._wake.set()  # there may be more
                return events

    def _check_end(self) -> None:
        if self._end is not None:
            raise StopAsyncIteration if isinstance(self._end, StopAsyncIteration) else self._end

    async def _settle(self, opening: Awaitable[Opening]) -> None:
        try:
            found = await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._check_end()
            raise
        self._opening = None
        self.cursor, self._known = max(self.cursor, found.cursor), found.known

    async def _read(self) -> list[Event]:
        self._reading = True
        try:
            changes = await self._source.changes(self.prefix, self.cursor)
            if changes is None:
                difference = await self._source.difference(self.prefix, self.cursor)
                changes = Changes(bridge(self._known, difference), difference.revision)
        except BaseException:
            self._wake.set()  # read again
            raise
        finally:
            self._reading = False
        self.cursor = max(self.cursor, changes.cursor)
        note(self._known, changes.events)
        return changes.events


class WatchHub:
    """The open watches of one store."""

    def __init__(self) -> None:
        self._watches: set[LogWatch] = set()

    def __len__(self) -> int:
        return len(self._watches)

    def open(
        self,
        source: Source,
        prefix: str,
        opening: Awaitable[Opening],
        on_close: Callable[[LogWatch], None] | None = None,
    ) -> LogWatch:
        def closed(watch: LogWatch) -> None:
            self._watches.discard(watch)
            if on_close is not None:
                on_close(watch)

        watch = LogWatch(source, prefix, opening, closed)
        self._watches.add(watch)
        return watch

    def notify(self, previous: int, revision: int, keys: Iterable[str] | None) -> None:
        """``keys`` written in ``(previous, revision]``; None when they are too many to say."""
        names = None if keys is None else tuple(keys)
        for watch in tuple(self._watches):
            touched = names is None or any(key.startswith(watch.prefix) for key in names)
            watch.notify(previous, revision, touched)

    def end_all(self, reason: Exception) -> None:
        for watch in tuple(self._watches):
            watch.end(reason)
