"""The directory: actor id -> who owns it, as it stands in the store.

Laws: reads only; claims go through the registrar. Any number of callers that want the same id share one read,
and the number of reads in flight is bounded. What is read is true as of its revision, and the revision of a
record is also the number by which an ownership is ordered: it rises with every change, over a deletion and a
new claim too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cajun_fast.cluster.records import ActorRecord
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import CajunError, NotRunningError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Entry, MetadataStore


@dataclass(frozen=True, slots=True)
class Standing:
    """An actor's record and the revision at which it was written."""

    actor_id: str
    record: ActorRecord
    revision: int

    def is_durable(self, actor_id: str) -> bool:
        """Whether it says so of that actor: of a child, which it is read for too, it says nothing."""
        return self.record.durable and actor_id == self.actor_id


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """Part of a listing; ``after`` and ``revision`` go into the next call, ``after`` is None at the end."""

    actors: tuple[Standing, ...]
    revision: int
    after: str | None


class Directory:
    """See the module's laws."""

    def __init__(self, store: MetadataStore, keys: KeySpace, *, reads_at_once: int = 64) -> None:
        self._store = store
        self._keys = keys
        self._room = asyncio.Semaphore(reads_at_once)
        self._reads: dict[str, asyncio.Task[Standing | None]] = {}
        self._tasks = Tasks("directory", expected=(CajunError,))
        self.reads = 0

    async def stop(self) -> None:
        await self._tasks.stop()

    async def read(self, actor_id: str, *, fresh: bool = False) -> Standing | None:
        """Who owns it now. ``fresh``: do not share a read that may have begun before this call.

        Raises MetadataStoreUnavailableError, ProtocolError (a record that cannot be read), NotRunningError.
        """
        task = None if fresh else self._reads.get(actor_id)
        if task is None:
            task = self._tasks.start(self._read(actor_id), f"read {actor_id}")
            if task is None:
                raise NotRunningError("the directory is closed: this node is stopping")
            self._reads[actor_id] = task
            task.add_done_callback(lambda done: self._forget(actor_id, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise NotRunningError(
                    "the directory was closed during a look-up: this node is stopping"
                ) from None
            raise

    def _forget(self, actor_id: str, task: asyncio.Task[Standing | None]) -> None:
        if self._reads.get(actor_id) is task:
            del self._reads[actor_id]

    async def _read(self, actor_id: str) -> Standing | None:
        async with self._room:
            self.reads += 1
            entry = await self._store.get(self._keys.actor(actor_id))
        return None if entry is None else self.standing(entry)

    def standing(self, entry: Entry) -> Standing:
        """An entry of the store as what it says; raises ProtocolError."""
        actor_id = self._keys.actor_of(entry.key)
        return Standing(actor_id, ActorRecord.decode(actor_id, entry.value), entry.revision)

    async def page(
        self, prefix: str = "", *, limit: int = 1000, after: str | None = None, revision: int | None = None
    ) -> DirectoryPage:
        """Actors whose id starts with ``prefix``, in order of their keys, behind actor ``after``."""
        start = self._keys.actor(prefix) if prefix else self._keys.actors
        behind = None if after is None else self._keys.actor(after)
        page = await self._store.list(start, limit=limit, after=behind, revision=revision)
        actors = tuple(self.standing(entry) for entry in page.entries)
        return DirectoryPage(
            actors, page.revision, None if page.after is None else self._keys.actor_of(page.after)
        )

    async def all(self, prefix: str = "", *, limit: int = 1000) -> AsyncIterator[tuple[Standing, ...]]:
        """Every actor, page by page, as of one revision where the store keeps it."""
        after: str | None = None
        revision: int | None = None
        while True:
            page = await self.page(prefix, limit=limit, after=after, revision=revision)
            yield page.actors
            after, revision = page.after, page.revision if revision is None else revision
            if after is None:
                return
