"""This node's own seat in the cluster: its incarnation, its leased record, and the moment from which it must
not act.

    seated ──the deadline passes──▶ paused ──the store says that nobody took it──▶ seated
       └────────────────────────────── the record is gone, or somebody else's ──▶ fenced ──enter──▶ seated

Laws: an incarnation is issued by the store, one up at each start of a node id, and never given twice. The
seat is held only until a deadline by this node's own clock, counted from before the last question was sent:
within ``patience`` of a look at the own record that found it as this node wrote it, and a margin before the
lease could end. Past it ``on_paused`` is called before anything else runs. A record that somebody marked as
suspected is answered by writing it anew; who evicts waits for longer than ``patience`` between the mark and
the end, and both compare revisions, so one of them fails. Only ``enter`` with a new incarnation ends
``fenced``.
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
    """What the seat asks of its system. Those without an answer must not raise or wait."""

    #: The seat is lost: stop acting as an owner, now.
    on_fenced: Callable[[str], None]
    #: The store had dropped the lease early and it was taken anew in time: somebody may have been quicker.
    on_regained: Callable[[], None]
    #: Does somebody listen at the address of a record with our id? Decides between duplicate and leftover.
    probe: Callable[[NodeRecord], Awaitable[bool]]
    #: The store did not answer a refresh; it did. For whoever may lengthen the deadline by ``hold_until``.
    on_unanswered: Callable[[], None] = lambda: None
    on_answered: Callable[[], None] = lambda: None
    #: Whether the seat is still this node's is not known: stand still; it is: go on.
    on_paused: Callable[[str], None] = lambda why: None
    on_resumed: Callable[[], None] = lambda: None
    #: The deadline has moved: past it ``check`` must be called before any actor runs; 0: no deadline.
    on_deadline: Callable[[int], None] = lambda deadline_ns: None


#: What is left of the lease when its renewal is sent, and when it is missed.
RENEW_AT, OVERDUE_AT = 2 / 3, 1 / 2
#: Of the lease: the longest that a look at the own record may hold good.
LONGEST_PATIENCE = 0.7
#: Seconds that a claim or a move waits for a node that stands still to know whether its seat is its own.
SETTLE_TIMEOUT = 3.0


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
        self,
        store: MetadataStore,
        keys: KeySpace,
        clock: Clock,
        *,
        ttl: float,
        hooks: MembershipHooks,
        patience: float | None = None,
    ) -> None:
        """``ttl`` of the lease; ``patience``: seconds that a look at the own record holds good."""
        self._store = store
        self._keys = keys
        self._clock = clock
        self._ttl = ttl
        self._patience = patience_of(ttl, patience)
        self._hooks = hooks
        self._record: NodeRecord | None = None
        self._revision = 0
        self._held_until_ns = 0
        self._looked_ns = 0
        self._leased_until_ns = 0
        self._lease: Lease | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._tasks = Tasks("membership")
        self._writing = asyncio.Lock()
        self._look_now = asyncio.Event()
        self._settled = asyncio.Event()
        self.fenced = False
        self.paused = False

    @property
    def record(self) -> NodeRecord:
        """This node's record as it was last written."""
        if self._record is None:
            raise NotRunningError("this node has not entered its cluster yet")
        return self._record

    @property
    def lease_id(self) -> int:
        """Of the lease of this node's record, for what else is to end with it; 0 before it entered."""
        return 0 if self._lease is None else self._lease.id

    @property
    def deadline_ns(self) -> int:
        """Past this moment of the clock this node must not act as an owner; 0 before it entered."""
        if self._lease is None:
            return 0
        leased = self._leased_until_ns - round(self._ttl * MARGIN * 1e9)
        return max(self._held_until_ns, min(leased, self._looked_ns + round(self._patience * 1e9)))

    @property
    def revision(self) -> int:
        """Of this node's record, as far as is known here."""
        return self._revision

    @property
    def holds(self) -> bool:
        """Whether this node may act as an owner right now."""
        return not (self.fenced or self.paused) and self._clock.now_ns() < self.deadline_ns

    async def settled(self, timeout: float = SETTLE_TIMEOUT, *, next_life: bool = False) -> bool:
        """Whether it may act, once that is known; False after ``timeout`` seconds too, and once it has left.
        ``next_life``: one that has lost its seat is waited for until it is back; else it may not act.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (self.holds or self._lease is None or (self.fenced and not next_life)):
                    self._settled.clear()
                    self.check()
                    await self._settled.wait()
        except TimeoutError:
            return False
        return self.holds

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
        self._leased_until_ns = lease.deadline_ns
        self._held_until_ns, self.fenced, self.paused = 0, False, False
        self._settled.set()
        self._arm()
        self._tasks.start(self._keep(), "lease")

    async def _seat(self, record: NodeRecord, lease: Lease) -> int:
        key = self._keys.node(record.node)
        give_up = self._clock.now_ns() + round(1.5 * self._ttl * 1e9)
        expected = 0
        while True:
            self._looked_ns = self._clock.now_ns()
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

    async def leave(self) -> bool:
        """Go in order: say so, then end the lease; whether the store took it. Never raises for one that does not
        answer."""
        await self._tasks.stop()
        self._disarm()
        lease, self._lease = self._lease, None
        if lease is not None and not self.fenced:
            try:
                async with asyncio.timeout(min(2.0, self._ttl)):
                    await self._write(leaving=True, lease=lease)
                    await lease.revoke()
                return True
            except (MetadataStoreError, TimeoutError) as error:
                log.warning("left without saying so, the lease ends by itself in %s s: %s", self._ttl, error)
        return False

    async def update(self, **changes: Any) -> bool:
        """Change fields of the record (load, cordoned); False if the seat was lost meanwhile."""
        if self._lease is None or self.fenced:
            return False
        return await self._write(lease=self._lease, **changes)

    async def _write(self, *, lease: Lease, **changes: Any) -> bool:
        async with self._writing:
            record = replace(self.record, **changes)
            key, value = self._keys.node(record.node), record.encode()
            while True:
                outcome = await self._store.compare_and_set(key, self._revision, value, lease=lease.id)
                current = outcome.current.get(key)
                if outcome.succeeded:
                    self._revision = outcome.revision
                elif current is not None and current.value == value:
                    self._revision = current.revision  # an earlier attempt had arrived
                elif current is not None and self._is_mine(current):
                    self._revision = (
                        current.revision
                    )  # somebody has marked it as suspected: this is the answer
                    continue
                else:
                    return False
                self._record = record
                return True

    def _is_mine(self, entry: Entry) -> bool:
        standing = _decode(self.record.node, entry)
        return standing is not None and standing.incarnation == self.record.incarnation

    # ---- looking, and the lease

    async def _keep(self) -> None:
        interval = self._patience / 3
        pause, silent = interval, False
        while not self.fenced:
            await self._rest(pause)
            began = self._clock.now_ns()
            try:
                async with asyncio.timeout(2 * interval):
                    await self._confirm()
            except LeaseLostError as error:
                self._fence(str(error))
            except (MetadataStoreUnavailableError, TimeoutError) as error:
                if not silent:
                    log.warning(
                        "the store does not say whether this node's seat is its own: %s",
                        str(error) or "no answer in time",
                    )
                self._hooks.on_unanswered()
                pause, silent = interval / 2, True
            else:  # from look to look, however long an answer takes: a busy machine is slow to answer, too
                taken = (self._clock.now_ns() - began) / 1e9
                pause, silent = max(0.0, interval - taken), False
                self._hooks.on_answered()

    async def _rest(self, seconds: float) -> None:
        self._look_now.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._look_now.wait()
        except TimeoutError:
            pass

    async def _confirm(self) -> None:
        """Ask whether the seat is still this node's, and have its lease renewed where that is due, beside it: a store
        that takes its time to write need not keep a look waiting. Raises LeaseLostError if the seat is lost,
        MetadataStoreUnavailableError if the renewal takes too long.
        """
        began = self._clock.now_ns()
        if self._lease is None:
            return
        left = (self._leased_until_ns - began) / 1e9 / self._ttl
        renewing = self._renewal is not None and not self._renewal.done()
        if left <= MARGIN:  # without it a look is worth nothing
            await self._renew(self._lease)
        elif left <= RENEW_AT and not renewing:
            self._renewal = self._tasks.start(self._renew(self._lease), "renewal")
        key = self._keys.node(self.record.node)
        async with self._writing:
            entry = await self._store.get(key)
            if entry is None:
                await self._regain("its record is gone")
            elif entry.revision > self._revision:
                await self._answer(key, entry)
        self._looked_ns = began
        if self.paused and self._clock.now_ns() < self.deadline_ns:
            self._resume("the store knows of nobody who took its seat")
        self._arm()
        if left <= OVERDUE_AT and renewing:
            raise MetadataStoreUnavailableError("it does not renew the lease of this node")

    async def _renew(self, old: Lease) -> None:
        """Past its own deadline the handle would give the lease up; whether it lives is asked by a fresh one."""
        sent = self._clock.now_ns()
        lease = self._store.attach_lease(old.id, self._ttl)
        try:
            await lease.refresh()
        except LeaseLostError:
            return  # what the record says decides
        except MetadataStoreUnavailableError as error:
            log.info("the lease of this node was not renewed, it is tried again: %s", error)
            return
        if self._lease is old:
            self._lease, self._leased_until_ns = lease, sent + round(self._ttl * 1e9)
            self._arm()

    async def _answer(self, key: str, entry: Entry) -> None:
        """Somebody else wrote this node's record. A mark on it is wiped off; a later life has taken the seat."""
        if not self._is_mine(entry) or self._lease is None:
            raise LeaseLostError(f"node {self.record.node!r} has lost its seat to somebody else")
        value = self.record.encode()
        outcome = await self._store.compare_and_set(key, entry.revision, value, lease=self._lease.id)
        if not outcome.succeeded:
            raise MetadataStoreUnavailableError("the record of this node changes: it is read again")
        self._revision = outcome.revision
        log.warning("node %r was not heard by another one and has said that it lives", self.record.node)

    async def _regain(self, why: str) -> None:
        """The record is gone: while nobody can have taken the seat yet, take it again, under the same
        incarnation.
        """
        if not self.holds:
            raise LeaseLostError(f"{why}, and it was not noticed in time")
        sent = self._clock.now_ns()
        lease = await self._store.lease(self._ttl)
        key, value = self._keys.node(self.record.node), self.record.encode()
        try:
            outcome = await self._store.compare_and_set(key, 0, value, lease=lease.id)
            if not self.holds or not outcome.succeeded:
                raise LeaseLostError(f"{why}, and its seat could not be taken again in time")
        except BaseException:
            await _revoke(lease)
            raise
        log.warning("this node's seat was gone and is taken anew: %s", why)
        self._lease, self._revision, self._held_until_ns = lease, outcome.revision, 0
        self._leased_until_ns = sent + round(self._ttl * 1e9)
        self._hooks.on_regained()

    def hold_until(self, moment_ns: int) -> None:
        """This node may act until then although the store says nothing: see ``hold``."""
        if self.fenced or self._lease is None:
            return
        self._held_until_ns = max(self._held_until_ns, moment_ns)
        if self.paused and self._clock.now_ns() < self.deadline_ns:
            self._resume("no other member takes anything while the store is silent")
        self._arm()

    # ---- the deadline

    def _arm(self) -> None:
        self._disarm()
        if self.fenced or self.paused:
            return
        self._hooks.on_deadline(self.deadline_ns)
        delay = (self.deadline_ns - self._clock.now_ns()) / 1e9
        self._timer = asyncio.get_running_loop().call_later(max(0.0, delay), self.check)

    def _disarm(self) -> None:
        self._hooks.on_deadline(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self) -> None:
        """Stand still if the deadline has passed; for a loop that was held up: call it before acting."""
        if self._lease is None or self.fenced or self.paused:
            return
        if self._clock.now_ns() < self.deadline_ns:
            self._arm()
            return
        self.paused = True
        self._disarm()
        why = f"whether its seat is its own was not known for {self._patience:g} s"
        log.warning("node %r stands still: %s", self.record.node, why)
        self._hooks.on_paused(why)
        self._look_now.set()

    def _resume(self, why: str) -> None:
        self.paused = False
        log.warning("node %r goes on: %s", self.record.node, why)
        self._settled.set()
        self._hooks.on_resumed()

    def _fence(self, why: str) -> None:
        if self.fenced:
            return
        self.fenced = True
        self._disarm()
        log.error("node %r is fenced: %s", self.record.node, why)
        self._settled.set()
        self._hooks.on_fenced(why)


def patience_of(ttl: float, patience: float | None) -> float:
    """Seconds that a look at the own record holds good: well within the lease."""
    longest = LONGEST_PATIENCE * ttl
    return longest if patience is None else min(patience, longest)


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
