"""Following a prefix of the store without a gap, for as long as it takes.

Laws: list at a revision, watch from that revision; what cannot be delivered (compaction, outage) is made up
for by listing again and reporting the difference. The receiver is told of states, never of guesses: during an
outage it hears ``on_lost`` once and nothing else, so nobody is evicted because a store was silent.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Protocol

from cajun_fast.cluster.tasks import Backoff
from cajun_fast.errors import CompactedError, MetadataStoreError
from cajun_fast.metadata.store import Entry, Event, EventKind, MetadataStore

log = logging.getLogger("cajun_fast.cluster")


class Follower(Protocol):
    """Who is told. Callbacks must not raise and must not wait."""

    def on_put(self, entry: Entry) -> None: ...

    def on_delete(self, key: str, revision: int) -> None: ...

    def on_synced(self) -> None:
        """Everything up to now has been reported (after each listing)."""
        ...

    def on_lost(self, error: MetadataStoreError) -> None:
        """The store does not answer: what was reported may be old from now on."""
        ...


async def entries(
    store: MetadataStore, prefix: str, page_size: int = 1000
) -> AsyncIterator[tuple[Entry, int]]:
    """All entries below ``prefix``, page by page, each with the revision of the first page."""
    revision, after = None, None
    while True:
        page = await store.list(prefix, limit=page_size, after=after, revision=revision)
        revision = page.revision if revision is None else revision
        for entry in page.entries:
            yield entry, revision
        if page.after is None:
            return
        after = page.after


async def follow(store: MetadataStore, prefix: str, follower: Follower, backoff: Backoff) -> None:
    """List, then report every change, for ever; ends by cancellation only."""
    known: dict[str, int] = {}
    while True:
        try:
            revision = await _list(store, prefix, follower, known)
            backoff.reset()
            await _watch(store, prefix, follower, known, revision)
        except CompactedError as error:
            log.info("watch of %s fell behind, listing again: %s", prefix, error)
        except MetadataStoreError as error:
            follower.on_lost(error)
            await backoff.wait()


async def _list(store: MetadataStore, prefix: str, follower: Follower, known: dict[str, int]) -> int:
    page = await store.list(prefix)
    revision = page.revision
    seen: dict[str, int] = {}
    while True:
        for entry in page.entries:
            seen[entry.key] = entry.revision
            if known.get(entry.key) != entry.revision:
                known[entry.key] = entry.revision
                follower.on_put(entry)
        if page.after is None:
            break
        page = await store.list(prefix, after=page.after, revision=revision)
    for key in [key for key in known if key not in seen]:
        del known[key]
        follower.on_delete(key, revision)
    follower.on_synced()
    return revision


async def _watch(
    store: MetadataStore, prefix: str, follower: Follower, known: dict[str, int], revision: int
) -> None:
    async with store.watch(prefix, revision=revision) as watch:
        async for events in watch:
            for event in events:
                if event.kind is EventKind.RESYNC:
                    return
                _report(event, follower, known)


def _report(event: Event, follower: Follower, known: dict[str, int]) -> None:
    key = event.entry.key
    if event.entry.revision <= known.get(key, 0):
        return  # the listing was newer already
    if event.kind is EventKind.PUT:
        known[key] = event.entry.revision
        follower.on_put(event.entry)
    elif known.pop(key, None) is not None:
        follower.on_delete(key, event.entry.revision)


async def follow_changes(store: MetadataStore, prefix: str, follower: Follower, backoff: Backoff) -> None:
    """Report changes from now on without a listing; ``on_synced`` after each gap, and what was known is void
    then.
    """
    while True:
        try:
            page = await store.list(prefix, limit=1)
            follower.on_synced()
            backoff.reset()
            await _watch_changes(store, prefix, follower, page.revision)
        except CompactedError as error:
            log.info("watch of %s fell behind, starting anew: %s", prefix, error)
        except MetadataStoreError as error:
            follower.on_lost(error)
            await backoff.wait()


async def _watch_changes(store: MetadataStore, prefix: str, follower: Follower, revision: int) -> None:
    async with store.watch(prefix, revision=revision) as watch:
        async for events in watch:
            for event in events:
                if event.kind is EventKind.RESYNC:
                    return
                _report_change(event, follower)


def _report_change(event: Event, follower: Follower) -> None:
    if event.kind is EventKind.PUT:
        follower.on_put(event.entry)
    else:
        follower.on_delete(event.entry.key, event.entry.revision)
