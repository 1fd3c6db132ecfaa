"""Who owns which shard, as this node sees it: the view of all shard records, followed without a gap.

Laws: what is newer wins, by the record's revision, whoever reports it (the watch, or this node's own write). While the
store is silent the view stands. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

from cajun_fast.cluster.follow import follow
from cajun_fast.cluster.shards.ids import place_of
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import MetadataStoreError, ProtocolError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Entry, MetadataStore

log = logging.getLogger("cajun_fast.cluster")

#: Type and number of a shard.
Place = tuple[str, int]
OnChange = Callable[[Place, "ShardRecord | None", "ShardRecord | None"], None]


class ShardTable:
    """See the module's laws."""

    def __init__(self, store: MetadataStore, keys: KeySpace, backoff: Backoff) -> None:
        self._store = store
        self._keys = keys
        self._backoff = backoff
        self._records: dict[Place, ShardRecord] = {}
        self._gone: dict[Place, int] = {}
        self._waiters: dict[Place, set[asyncio.Future[None]]] = {}
        self._tasks = Tasks("shard table")
        #: The cluster's number of shards; None while nobody has named one.
        self.count: int | None = None
        self.in_sync = False
        #: Told of each change: place, before, now. Must not raise or wait.
        self.on_change: OnChange = lambda place, before, now: None
        self.on_sync: Callable[[], None] = lambda: None

    def start(self) -> None:
        self._tasks.start(follow(self._store, self._keys.shards, self, self._backoff), "watch")

    async def stop(self) -> None:
        self.in_sync = False
        await self._tasks.stop()

    # ---- asking

    def place(self, actor_id: str) -> Place | None:
        """Where an id belongs; None while the number of shards is not known."""
        return None if self.count is None else place_of(actor_id, self.count)

    def get(self, place: Place) -> ShardRecord | None:
        return self._records.get(place)

    def of_actor(self, actor_id: str) -> ShardRecord | None:
        """Who owns the shard of an id."""
        return None if self.count is None else self._records.get(place_of(actor_id, self.count))

    def items(self) -> Iterator[tuple[Place, ShardRecord]]:
        return iter(self._records.items())

    def of_type(self, type_name: str) -> Mapping[int, ShardRecord]:
        """All shards of a type that have an owner, by number."""
        return {number: record for (name, number), record in self._records.items() if name == type_name}

    async def changed(self, place: Place, timeout: float) -> None:
        """Returns when the owner of the shard changes, or after ``timeout`` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(place, set()).add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            pass
        finally:
            waiters = self._waiters.get(place)
            if waiters is not None:
                waiters.discard(future)
                if not waiters:
                    del self._waiters[place]

    # ---- what is reported

    def apply(self, place: Place, record: ShardRecord) -> None:
        """What stands as of its revision; older news is passed over."""
        before = self._records.get(place)
        if record.revision <= (before.revision if before is not None else self._gone.get(place, 0)):
            return
        self._gone.pop(place, None)
        self._records[place] = record
        self._tell(place, before, record)

    def on_put(self, entry: Entry) -> None:
        try:
            place = self._keys.shard_of(entry.key)
            record = ShardRecord.decode(entry.key, entry.value, entry.revision)
        except (ProtocolError, ValueError) as error:
            log.warning("%s: ignored", error)
            return
        self.apply(place, record)

    def on_delete(self, key: str, revision: int) -> None:
        try:
            place = self._keys.shard_of(key)
        except ValueError:
            return
        before = self._records.get(place)
        if before is not None and before.revision < revision:
            del self._records[place]
            self._gone[place] = revision
            self._tell(place, before, None)

    def on_synced(self) -> None:
        self.in_sync = True
        self.on_sync()

    def on_lost(self, error: MetadataStoreError) -> None:
        if self.in_sync:
            log.warning("moves of shards are not seen for now: %s", error)
        self.in_sync = False

    def _tell(self, place: Place, before: ShardRecord | None, now: ShardRecord | None) -> None:
        for future in self._waiters.get(place, ()):
            if not future.done():
                future.set_result(None)
        self.on_change(place, before, now)
