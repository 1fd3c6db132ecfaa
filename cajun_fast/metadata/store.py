"""What a metadata store must do: the interface that membership, placement and leadership stand on.

Laws: values are bytes, keys are text; every write has a revision, one counter for the whole store, strictly
rising. Leases end by the store's clock, never by a wall clock. No implementation is imported here.

The model is etcd's (revisions, leases, transactions of compares, watches from a revision), because it is the
smallest one in which a registry can be kept without races; the embedded stores implement the same.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as it stands: ``revision`` of its last write, ``created`` of its first, ``lease`` id or 0."""

    key: str
    value: bytes
    revision: int
    created: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing, all of it as of ``revision``; ``after`` goes into the next call, ``None`` at the
    end.
    """

    entries: tuple[Entry, ...]
    revision: int
    after: str | None


class EventKind(enum.Enum):
    PUT = "put"
    DELETE = "delete"  # also: its lease ran out
    #: The store could not deliver every change since the last event (compaction): the receiver lists again.
    #: An implementation that resumes by itself (list, diff, go on) never lets this out of ``watch``.
    RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class Event:
    """One change: ``entry.value`` is empty for DELETE, ``entry.revision`` is the revision of the change."""

    kind: EventKind
    entry: Entry


@dataclass(frozen=True, slots=True)
class Compare:
    """Holds when the key's last write has this revision; 0 means the key must not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a transaction: whether its compares held, and the store's revision after it (or as of the compare).

    ``current`` holds the compared keys as they stood when a compare failed (absent keys are left out).
    """

    succeeded: bool
    revision: int
    current: Mapping[str, Entry]


class Lease(ABC):
    """Something that ends unless refreshed; keys attached to it end with it.

    ``deadline_ns`` is by the caller's monotonic clock and counted from *before* the last successful refresh
    was sent: past it, the holder must assume that the lease is gone, whatever the store may still say.
    """

    id: int
    ttl: float
    deadline_ns: int

    @abstractmethod
    async def refresh(self) -> None:
        """Extend by the full ttl. Raises LeaseLostError (gone) or MetadataStoreUnavailableError (unknown)."""

    @abstractmethod
    async def revoke(self) -> None:
        """End it now, with every key attached. A lease that is already gone is no error."""


class Lock(ABC):
    """A held lock. ``token`` rises with every new holder: pass it along with each write it protects
    (fencing).
    """

    name: str
    token: int
    lease: Lease

    @abstractmethod
    async def refresh(self) -> None:
        """As Lease.refresh."""

    @abstractmethod
    async def release(self) -> None:
        """Give it up. A lock that was already lost is no error."""


class Watch(ABC):
    """Changes under a prefix, in order of revision, none missed and none twice. Close it, or use ``async
    with``.

    Iterating yields lists of events, of one revision or several: all events of one come in the same list. An
    iteration may be cancelled and begun again: nothing is lost. Where the store keeps too little history for
    what was missed, the events are the difference: each key's last write, and deletions (at the revision of
    the listing). Iterating raises CompactedError if the watch's own first revision is not kept any more.
    """

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[list[Event]]: ...

    @abstractmethod
    async def close(self) -> None:
        """Stop; a waiting iteration ends."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class MetadataStore(ABC):
    """Durable, ordered, shared truth of a cluster. One instance per system; not thread-safe; bound to one
    loop.

    Every operation raises MetadataStoreUnavailableError when the store does not answer in time, and
    NotRunningError before ``connect()`` or after ``close()``. Keys are non-empty text without NUL, values
    bytes.
    """

    #: The URL it was made from, with secrets removed: for messages and logs.
    url: str

    @abstractmethod
    async def connect(self) -> None:
        """Open; a second call is an error. Raises MetadataStoreUnavailableError: URL, cause, remedy."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything; waiting calls fail with NotRunningError. Again: does nothing."""

    @abstractmethod
    async def ping(self, timeout: float = 1.0) -> None:
        """Return if the store can serve a linearizable read within ``timeout`` seconds, raise otherwise."""

    async def server_version(self) -> str | None:
        """Of the server that answers; None where there is none."""
        return None

    @abstractmethod
    async def get(self, key: str) -> Entry | None: ...

    @abstractmethod
    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        """Write whatever stood there; returns the revision."""

    @abstractmethod
    async def delete(self, key: str) -> bool:
        """True if it existed."""

    @abstractmethod
    async def put_all(self, values: Mapping[str, bytes], *, lease: int = 0) -> None:
        """Write many keys in as few transactions as the store allows; atomic only within each."""

    @abstractmethod
    async def list(
        self, prefix: str, *, limit: int = 1000, after: str | None = None, revision: int | None = None
    ) -> Page:
        """Up to ``limit`` entries in key order, behind key ``after``, as of ``revision`` (the first page's).

        Raises CompactedError if that revision is no longer kept (embedded stores keep none and answer with
        the present state for every page: each entry is true when read).
        """

    @abstractmethod
    async def transact(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Outcome:
        """All operations if all compares hold, else none. MetadataStoreError over the limits of ``checks``.

        MetadataStoreUnavailableError may mean that the outcome is not known, and says so.
        """

    async def compare_and_set(
        self, key: str, revision: int, value: bytes | None, *, lease: int = 0
    ) -> Outcome:
        """Write (or delete, for None) the key only if its revision is still this one; 0: only if absent."""
        change = Delete(key) if value is None else Put(key, value, lease)
        return await self.transact([Compare(key, revision)], [change])

    @abstractmethod
    async def lease(self, ttl: float) -> Lease:
        """Grant a lease of ``ttl`` seconds. The holder refreshes it, about each ttl / 3."""

    @abstractmethod
    def attach_lease(self, lease_id: int, ttl: float) -> Lease:
        """A handle on a lease that was granted before, by anybody (``Entry.lease`` names it): ``refresh`` says
        whether it still lives, and nothing is known of it before. Asks nothing of the store by itself.
        """

    @abstractmethod
    async def lock(self, name: str, *, ttl: float, timeout: float | None = None, holder: bytes = b"") -> Lock:
        """Take the named lock, waiting in order of arrival; ``timeout=0`` tries once. Raises TimeoutError.

        ``name`` is a key (``KeySpace.lock``); those who hold or wait have a key each below ``name + "/"``, with
        ``holder`` as its value.
        """

    @abstractmethod
    def watch(self, prefix: str, *, revision: int | None = None) -> Watch:
        """Changes after ``revision`` (exclusive; None: from now on, as settled by the next await)."""
