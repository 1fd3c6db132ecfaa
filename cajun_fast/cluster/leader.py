"""One node leads: elected by a lock with a lease, fenced by the revision of the leader's record.

Laws: every write that a leader makes compares the revision of its record, so a leader that was superseded
while it slept writes nothing. It steps down while its lease is surely still alive (a margin before its end),
never after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from cajun_fast.clock import Clock
from cajun_fast.cluster.membership import MARGIN
from cajun_fast.cluster.records import LeaderRecord, Owner
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import MetadataStoreError, MetadataStoreUnavailableError, ProtocolError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, Lock, MetadataStore

log = logging.getLogger("cajun_fast.cluster")


@dataclass(frozen=True, slots=True)
class Term:
    """One time of leading: put ``guard`` among the compares of every write it makes."""

    token: int
    guard: Compare


class Leadership:
    """Stands for election as long as it runs; see the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        clock: Clock,
        *,
        ttl: float,
        backoff: Backoff,
        on_elected: Callable[[Term], None],
        on_deposed: Callable[[str], None],
    ) -> None:
        """``on_elected`` and ``on_deposed`` must not raise and must not wait; they come in turns."""
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._backoff = backoff
        self._on_elected = on_elected
        self._on_deposed = on_deposed
        self.owner = Owner("", 0)
        self._lock: Lock | None = None
        self._term: Term | None = None
        self._resigning = asyncio.Event()
        self._tasks = Tasks("leader")

    @property
    def term(self) -> Term | None:
        """The present time of leading, None for a node that does not lead surely."""
        if self._lock is None or self._clock.now_ns() >= self._deadline_ns(self._lock):
            return None
        return self._term

    @property
    def is_leader(self) -> bool:
        return self.term is not None

    async def read(self) -> LeaderRecord | None:
        """Who leads, as the store has it."""
        entry = await self._store.get(self._keys.leader)
        return None if entry is None else LeaderRecord.decode(entry.value)

    def start(self, owner: Owner) -> None:
        """Stand for election as ``owner``; a later life of the node sets ``owner`` anew."""
        self.owner = owner
        self._tasks.start(self._campaign(), "campaign")

    def resign(self) -> bool:
        """Step down and line up again, behind everybody who waits; False if this node does not lead."""
        if self._term is None:
            return False
        self._resigning.set()
        return True

    async def stop(self) -> None:
        await self._tasks.stop()
        await self._release("stopped")

    # ---- one term after another

    async def _campaign(self) -> None:
        while True:
            try:
                lock = await self._store.lock(
                    self._keys.leader_lock, ttl=self._ttl, holder=LeaderRecord(self.owner, 0).encode()
                )
                await self._lead(lock, self.owner)
                self._backoff.reset()
            except (MetadataStoreError, ProtocolError) as error:
                log.warning("not standing for election for now: %s", error)
                await self._backoff.wait()

    async def _lead(self, lock: Lock, owner: Owner) -> None:
        self._lock = lock
        self._resigning.clear()
        why = "it was cut short"
        try:
            guard = await self._write_record(lock, owner)
            if guard is None:
                why = "a later leader stands in the store"
                return
            self._term = Term(lock.token, guard)
            log.info("node %r leads (token %d)", owner.node, lock.token)
            self._on_elected(self._term)
            why = await self._hold(lock)
        finally:
            self._depose(why)
            await self._release(why)

    async def _write_record(self, lock: Lock, owner: Owner) -> Compare | None:
        """Put the record over an older one; None if a newer one stands there."""
        key = self._keys.leader
        value = LeaderRecord(owner, lock.token).encode()
        entry = await self._store.get(key)
        while True:
            if entry is not None and LeaderRecord.decode(entry.value).token > lock.token:
                return None
            revision = entry.revision if entry is not None else 0
            outcome = await self._store.compare_and_set(key, revision, value, lease=lock.lease.id)
            if outcome.succeeded:
                return Compare(key, outcome.revision)
            entry = outcome.current.get(key)

    async def _hold(self, lock: Lock) -> str:
        """Until the end of the term; answers why it ended."""
        interval = self._ttl / 3
        pause = interval
        while True:
            left = (self._deadline_ns(lock) - self._clock.now_ns()) / 1e9
            if left <= 0:
                return "its lease could not be refreshed in time"
            try:
                async with asyncio.timeout(min(pause, left)):
                    await self._resigning.wait()
                return "it resigned"
            except TimeoutError:
                pause = await self._refresh(lock, interval)

    async def _refresh(self, lock: Lock, interval: float) -> float:
        """Seconds until the next refresh. LeaseLostError ends the term, in ``_campaign``."""
        try:
            async with asyncio.timeout(interval):
                await lock.refresh()
            return interval
        except (MetadataStoreUnavailableError, TimeoutError) as error:
            log.warning("the leader's lease could not be refreshed: %s", str(error) or "no answer in time")
            return interval / 4

    def _deadline_ns(self, lock: Lock) -> int:
        return lock.lease.deadline_ns - round(self._ttl * MARGIN * 1e9)

    def _depose(self, why: str) -> None:
        if self._term is not None:
            self._term = None
            log.info("this node leads no longer: %s", why)
            self._on_deposed(why)

    async def _release(self, why: str) -> None:
        lock, self._lock = self._lock, None
        self._depose(why)
        if lock is None:
            return
        try:
            async with asyncio.timeout(min(1.0, self._ttl)):
                await lock.release()
        except (MetadataStoreError, TimeoutError) as error:
            log.info("the leader's lock was not released, it ends by itself: %s", error)
