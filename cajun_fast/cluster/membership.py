"""This node's own seat in the cluster: its incarnation, its leased record, and the moment from which it must
not act.

Laws: an incarnation is issued by the store, one up at each start of a node id, and never given twice. The
seat is held only while the lease is surely alive by this node's own clock; past that moment (a margin before
the store could give it away) ``on_fenced`` is called before anything else runs, and only ``enter`` with a new
incarnation ends that state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from cajun_fast.clock import Clock
from cajun_fast.cluster.records import NodeRecord, decode_count, encode_count
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import (
    ConfigError,
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
    NotRunningError,
    ProtocolError,
)
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Entry, Lease, MetadataStore

log = logging.getLogger("cajun_fast.cluster")

#: Part of the lease's time by which this node stops earlier than the store could: clocks that drift, a busy
#: loop.
MARGIN = 0.1


@dataclass(frozen=True, slots=True)
class MembershipHooks:
    """What the seat asks of its system. ``on_fenced`` and ``on_regained`` must not raise or wait."""

    #: The seat is lost: stop acting as an owner, now.
    on_fenced: Callable[[str], None]
    #: The store had dropped the lease early and it was taken anew in time: somebody may have been quicker.
    on_regained: Callable[[], None]
    #: Does somebody listen at the address of a record with our id? Decides between duplicate and leftover.
    probe: Callable[[NodeRecord], Awaitable[bool]]
    #: The store did not answer a refresh; it did. For whoever may lengthen the deadline by ``hold_until``.
    on_unanswered: Callable[[], None] = lambda: None
    on_answered: Callable[[], None] = lambda: None
    #: The deadline has moved: past it ``check`` must be called before any actor runs; 0: no deadline.
    on_deadline: Callable[[int], None] = lambda deadline_ns: None


async def take_incarnation(store: MetadataStore, keys: KeySpace, node_id: str) -> int:
    """The next incarnation of a node id. A number may be lost (an answer that did not come), never given
    twice.
    """
    key = keys.incarnation(node_id)
    entry = await store.get(key)
    while True:
        count = 1 + (decode_count(entry.value) if entry is not None else 0)
        revision = entry.revision if entry is not None else 0
        outcome = await store.compare_and_set(key, revision, encode_count(count))
        if outcome.succeeded:
            return count
        entry = outcome.current.get(key)


class Membership:
    """See the module's laws."""

    def __init__(
        self, store: MetadataStore, keys: KeySpace, clock: Clock, *, ttl: float, hooks: MembershipHooks
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._hooks = hooks
        self._record: NodeRecord | None = None
        self._revision = 0
        self._held_until_ns = 0
        self._lease: Lease | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = Tasks("membership")
        self._writing = asyncio.Lock()
        self.fenced = False

    @property
    def record(self) -> NodeRecord:
        """This node's record as it was last written."""
        if self._record is None:
            raise NotRunningError("this node has not entered its cluster yet")
        return self._record

    @property
    def deadline_ns(self) -> int:
        """Past this moment of the clock this node must not act as an owner; 0 before it entered."""
        if self._lease is None:
            return 0
        return max(self._held_until_ns, self._lease.deadline_ns - round(self._ttl * MARGIN * 1e9))

    @property
    def holds(self) -> bool:
        """Whether this node may act as an owner right now."""
        return not self.fenced and self._clock.now_ns() < self.deadline_ns

    @property
    def lease_age(self) -> float:
        """Seconds since the last renewal that the store has answered was sent; 0.0 before this node entered."""
        if self._lease is None:
            return 0.0
        return max(0.0, self._ttl - (self._lease.deadline_ns - self._clock.now_ns()) / 1e9)

    # ---- entering and leaving

    async def enter(self, record: NodeRecord) -> None:
        """Write the leased record and keep it. Raises ConfigError if a living node has this id."""
        lease = await self._store.lease(self._ttl)
        try:
            revision = await self._seat(record, lease)
        except BaseException:
            await _revoke(lease)
            raise
        self._record, self._revision, self._lease = record, revision, lease
        self._held_until_ns, self.fenced = 0, False
        self._arm()
        self._tasks.start(self._keep(), "lease")

    async def _seat(self, record: NodeRecord, lease: Lease) -> int:
        key = self._keys.node(record.node)
        give_up = self._clock.now_ns() + round(1.5 * self._ttl * 1e9)
        expected = 0
        while True:
            outcome = await self._store.compare_and_set(key, expected, record.encode(), lease=lease.id)
            if outcome.succeeded:
                return outcome.revision
            current = outcome.current.get(key)
            expected = await self._earlier_life(record, current, give_up)
            await lease.refresh()

    async def _earlier_life(self, record: NodeRecord, current: Entry | None, give_up: int) -> int:
        """The revision to write over; waits while an earlier life of this id still has its lease."""
        if current is None:
            return 0
        standing = _decode(record.node, current)
        if standing is None or standing.address == record.address:
            return current.revision  # what listened there is gone: this node has its port now
        living = self._clock.now_ns() >= give_up or await self._hooks.probe(standing)
        if living:
            raise ConfigError(
                f"node id {record.node!r} is in use by a living node at {standing.address} (incarnation "
                f"{standing.incarnation}): choose another system_id, or stop that node first"
            )
        await asyncio.sleep(self._ttl / 10)
        return 0

    async def leave(self) -> None:
        """Go in order: say so, then end the lease. Never raises for a store that does not answer."""
        await self._tasks.stop()
        self._disarm()
        lease, self._lease = self._lease, None
        if lease is not None and not self.fenced:
            try:
                async with asyncio.timeout(min(2.0, self._ttl)):
                    await self._write(leaving=True, lease=lease)
                    await lease.revoke()
            except (MetadataStoreError, TimeoutError) as error:
                log.warning("left without saying so, the lease ends by itself in %s s: %s", self._ttl, error)

    async def update(self, **changes: Any) -> bool:
        """Change fields of the record (load, cordoned); False if the seat was lost meanwhile."""
        if self._lease is None or self.fenced:
            return False
        return await self._write(lease=self._lease, **changes)

    async def _write(self, *, lease: Lease, **changes: Any) -> bool:
        async with self._writing:
            record = replace(self.record, **changes)
            key = self._keys.node(record.node)
            value = record.encode()
            outcome = await self._store.compare_and_set(key, self._revision, value, lease=lease.id)
            current = outcome.current.get(key)
            if outcome.succeeded:
                self._revision = outcome.revision
            elif current is not None and current.value == value:
                self._revision = current.revision  # an earlier attempt had arrived
            else:
                return False
            self._record = record
            return True

    # ---- the lease

    async def _keep(self) -> None:
        interval = self._ttl / 3
        pause = interval
        while not self.fenced:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(interval / 2):
                    await self._renew()
            except LeaseLostError as error:
                self._fence(str(error))
            except (MetadataStoreUnavailableError, TimeoutError) as error:
                log.warning(
                    "lease of this node could not be refreshed: %s", str(error) or "no answer in time"
                )
                self._hooks.on_unanswered()
                pause = interval / 4
            else:
                pause = interval
                self._hooks.on_answered()

    async def _renew(self) -> None:
        """Refresh the lease, or take another while this node still counts by the own clock."""
        if self._lease is None:
            return
        try:
            await self._lease.refresh()
        except LeaseLostError as error:
            await self._regain(str(error))
        self._arm()

    async def _regain(self, why: str) -> None:
        """The lease is gone, but nobody can have taken the seat yet: take it again, under the same
        incarnation.
        """
        lease = await self._store.lease(self._ttl)
        key, value = self._keys.node(self.record.node), self.record.encode()
        try:
            outcome = await self._store.compare_and_set(key, 0, value, lease=lease.id)
            if not self.holds or not outcome.succeeded:
                raise LeaseLostError(f"{why}; and its seat could not be taken again in time")
        except BaseException:
            await _revoke(lease)
            raise
        log.warning("this node's lease was gone and is taken anew: %s", why)
        self._lease, self._revision, self._held_until_ns = lease, outcome.revision, 0
        self._hooks.on_regained()

    def hold_until(self, moment_ns: int) -> None:
        """This node may act until then although its lease may have run out: see ``hold``."""
        if self.fenced or self._lease is None:
            return
        self._held_until_ns = max(self._held_until_ns, moment_ns)
        self._arm()

    def _arm(self) -> None:
        self._disarm()
        self._hooks.on_deadline(self.deadline_ns)
        delay = (self.deadline_ns - self._clock.now_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(max(0.0, delay), self._on_deadline)

    def _disarm(self) -> None:
        self._hooks.on_deadline(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_deadline(self) -> None:
        self._timer = None
        if self._clock.now_ns() < self.deadline_ns:
            self._arm()
        else:
            self._fence(f"its lease could not be refreshed within {self._ttl} s")

    def check(self) -> None:
        """Fence this node if its time is over; for a loop that was held up: call it before acting."""
        if self._lease is not None and not self.fenced and self._clock.now_ns() >= self.deadline_ns:
            self._fence(f"its lease could not be refreshed within {self._ttl} s")
        elif self._lease is not None and not self.fenced:
            self._hooks.on_deadline(self.deadline_ns)

    def _fence(self, why: str) -> None:
        if self.fenced:
            return
        self.fenced = True
        self._disarm()
        log.error("node %r is fenced: %s", self.record.node, why)
        self._hooks.on_fenced(why)


def _decode(node: str, entry: Entry) -> NodeRecord | None:
    try:
        return NodeRecord.decode(node, entry.value)
    except ProtocolError as error:
        log.warning("%s", error)
        return None


async def _revoke(lease: Lease) -> None:
    try:
        await lease.revoke()
    except MetadataStoreError as error:
        log.info("a lease was not revoked, it ends by itself: %s", error)
