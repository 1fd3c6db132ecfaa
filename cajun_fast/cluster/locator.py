"""Where an actor lives: the compiled cache in front of the directory, kept true by the directory's watch.

Laws: while the watch is in step, a cached location is as good as a read, so it is renewed without one; while
the store is silent, what is cached is served past its expiry rather than failing. Older knowledge never
replaces newer: entries are ordered by the revision of the directory's record. An id without a record is
looked for at its root: children live where their parent lives and are never claimed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cajun_fast._core.locations import Location, LocationCache
from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.follow import follow_changes
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import MetadataStoreError, ProtocolError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Entry, MetadataStore

log = logging.getLogger("cajun_fast.cluster")


class Locator:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        directory: Directory,
        now_ns: Callable[[], int],
        backoff: Backoff,
        *,
        size: int,
        expiry_ms: float,
        negative_ms: float,
    ) -> None:
        self._store = store
        self._keys = keys
        self._directory = directory
        self._now_ns = now_ns
        self._backoff = backoff
        self.cache = LocationCache(size, round(expiry_ms * 1e6), max(1, round(negative_ms * 1e6)))
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._tasks = Tasks("locator")
        #: The watch is in step: the cache hears of every change.
        self.in_sync = False
        #: Told of each change of a record, whoever made it: actor id, what stands now, the change's revision.
        self.on_moved: Callable[[str, Standing | None, int], None] = lambda actor_id, standing, revision: None

    def start(self) -> None:
        self._tasks.start(follow_changes(self._store, self._keys.actors, self, self._backoff), "watch")

    async def stop(self) -> None:
        self.in_sync = False
        await self._tasks.stop()

    # ---- asking

    def cached(self, actor_id: str) -> Location | None:
        """What is cached and may be used; ``missing`` is an answer too."""
        now = self._now_ns()
        entry = self.cache.peek(actor_id)
        if entry is None or entry.node is None:
            return self.cache.get(actor_id, now)
        if self.in_sync and now >= entry.refresh_ns:
            self.cache.put(actor_id, entry.node, entry.epoch, now, entry.durable)
        return self.cache.get(actor_id, now)

    async def locate(self, actor_id: str, *, fresh: bool = False) -> Standing | None:
        """The record that says where it lives (its root's, for a child); what was found is cached.

        Raises MetadataStoreUnavailableError, ProtocolError, NotRunningError.
        """
        standing = await self._directory.read(actor_id, fresh=fresh)
        root = actor_id.partition("/")[0]
        if standing is None and root and root != actor_id:
            standing = await self._directory.read(root, fresh=fresh)
        now = self._now_ns()
        if standing is None:
            self.cache.put_missing(actor_id, now)
        else:
            durable = standing.is_durable(actor_id)
            self.cache.put(actor_id, standing.record.owner.node, standing.revision, now, durable)
        return standing

    async def changed(self, actor_id: str, timeout: float) -> None:
        """Returns when the record of the actor (or its root) changes, or after ``timeout`` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        names = {actor_id, actor_id.partition("/")[0]}
        for name in names:
            self._waiters.setdefault(name, set()).add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            pass
        finally:
            for name in names:
                self._forget(name, future)

    def _forget(self, name: str, future: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(name)
        if waiters is not None:
            waiters.discard(future)
            if not waiters:
                del self._waiters[name]

    def node_left(self, node_id: str) -> None:
        """Nothing lives there any more."""
        self.cache.invalidate_node(node_id)

    # ---- what the watch reports

    def on_put(self, entry: Entry) -> None:
        actor_id = self._keys.actor_of(entry.key)
        try:
            standing = self._directory.standing(entry)
        except ProtocolError as error:
            log.warning("%s: ignored", error)
            self.cache.invalidate(actor_id)
            return
        if self.cache.peek(actor_id) is not None:
            record = standing.record
            self.cache.put(actor_id, record.owner.node, entry.revision, self._now_ns(), record.durable)
        self._tell(actor_id, standing, entry.revision)

    def on_delete(self, key: str, revision: int) -> None:
        actor_id = self._keys.actor_of(key)
        self.cache.invalidate(actor_id)
        self._tell(actor_id, None, revision)

    def on_synced(self) -> None:
        """Changes before now were not seen: what is cached may be old."""
        self.cache.clear()
        self.cache.serve_expired = False
        self.in_sync = True

    def on_lost(self, error: MetadataStoreError) -> None:
        if self.in_sync:
            log.warning("moves of actors are not seen for now, cached locations are served: %s", error)
        self.in_sync = False
        self.cache.serve_expired = True

    def _tell(self, actor_id: str, standing: Standing | None, revision: int) -> None:
        for future in self._waiters.get(actor_id, ()):
            if not future.done():
                future.set_result(None)
        self.on_moved(actor_id, standing, revision)
