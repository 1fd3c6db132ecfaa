"""Locks out of leases, transactions and watches: one recipe for every store.

Laws: each waiter puts a key of its own below ``<name>/``, under a lease of its own; the oldest key holds the
lock, and its create revision is the fencing token. A waiter watches only the one before it, so a release
wakes one. A waiter that lost its lease lost its place and lines up again. Whoever leaves without the lock
takes its key along.
"""

from __future__ import annotations

import asyncio
import string
from contextlib import suppress
from typing import TYPE_CHECKING

from cajun_fast.errors import LeaseLostError
from cajun_fast.metadata.store import Compare, Entry, EventKind, Lease, Lock, Put

if TYPE_CHECKING:
    from cajun_fast.metadata.base import BaseStore

_DIGITS = 16
_HEX = frozenset(string.hexdigits)
PAGE = 1000


class HeldLock(Lock):
    def __init__(self, name: str, token: int, lease: Lease) -> None:
        self.name = name
        self.token = token
        self.lease = lease

    def __repr__(self) -> str:
        return f"<HeldLock {self.name!r} token={self.token}>"

    async def refresh(self) -> None:
        await self.lease.refresh()

    async def release(self) -> None:
        await self.lease.revoke()


async def acquire(
    store: BaseStore, name: str, ttl: float, timeout: float | None, holder: bytes = b""
) -> Lock:
    """``MetadataStore.lock``."""
    try:
        async with asyncio.timeout(None if timeout == 0 else timeout):
            while True:
                with suppress(LeaseLostError):
                    return await _stand_in_line(store, name, ttl, holder, once=timeout == 0)
    except TimeoutError as exc:
        raise TimeoutError(f"lock {name!r} at {store.url} was not free within {timeout} s") from exc


async def _stand_in_line(store: BaseStore, name: str, ttl: float, holder: bytes, *, once: bool) -> Lock:
    lease = await store.lease(ttl)
    try:
        key = f"{name}/{lease.id:0{_DIGITS}x}"
        outcome = await store.transact([Compare(key, 0)], [Put(key, holder, lease.id)])
        await _wait_for_turn(store, name, key, lease, once=once)
        return HeldLock(name, outcome.revision, lease)
    except BaseException:
        store.take_back(lease.id)
        raise


async def _wait_for_turn(store: BaseStore, name: str, key: str, lease: Lease, *, once: bool) -> None:
    while True:
        line, revision = await _line(store, name)
        place = next((n for n, entry in enumerate(line) if entry.key == key), None)
        if place is None:
            raise LeaseLostError(f"the place in the line for lock {name!r} ended with its lease")
        if place == 0:
            return
        if once:
            raise TimeoutError
        await _until_gone(store, line[place - 1], revision, lease)


async def _line(store: BaseStore, name: str) -> tuple[list[Entry], int]:
    """Those who hold or want the lock, oldest first, and the revision of that view."""
    prefix = name + "/"
    page = await store.list(prefix, limit=PAGE)
    entries, first = list(page.entries), page.revision
    while page.after is not None:
        page = await store.list(prefix, limit=PAGE, after=page.after, revision=first)
        entries += page.entries
    line = [entry for entry in entries if _is_place(entry.key.removeprefix(prefix))]
    return sorted(line, key=lambda entry: entry.created), first


def _is_place(rest: str) -> bool:
    return len(rest) == _DIGITS and _HEX.issuperset(rest)


async def _until_gone(store: BaseStore, before: Entry, revision: int, lease: Lease) -> None:
    """Return when the one before is gone, keeping the own lease alive meanwhile."""
    gone = asyncio.ensure_future(_deletion(store, before.key, revision))
    try:
        while not gone.done():
            await asyncio.wait([gone], timeout=lease.ttl / 3)
            await lease.refresh()
        gone.result()
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)


async def _deletion(store: BaseStore, key: str, revision: int) -> None:
    async with store.watch(key, revision=revision) as watch:
        async for events in watch:
            if any(event.kind is EventKind.DELETE and event.entry.key == key for event in events):
                return
