"""Finding lost nodes: whoever is not heard is asked through the store whether it lives, and evicted if it is not.

    heard ──quiet for SETTLE──▶ quiet ──mark its record──▶ suspected ──its patience is over──▶ evicted
      ▲                           │                            │
      └──── heard again ──────────┴───── it wiped off the mark: cut off from here, asked again later and later

Laws: silence over the links alone evicts nobody, for who lives answers through the store; silence of the store
alone evicts nobody, for nothing can be written then. A mark and an eviction are writes that compare the record's
revision, so of an eviction and an answer one fails; between the two lies more time than a node acts after its
last look (``Membership``). Who leads does it; for the leader itself, or where nobody leads, whoever does not hear
it. A node whose process lives but whose event loop stands is not suspected: its lease is renewed for it, for
``stuck_timeout`` at most. Who has promised to take nothing evicts nobody (``Hold``).
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass, replace

from cajun_fast.cluster.leader import Leadership
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.membership import MARGIN
from cajun_fast.cluster.records import LeaderRecord, NodeRecord, Owner
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import CajunError, LeaseLostError, MetadataStoreError, ProtocolError
from cajun_fast.messaging.liveness import Liveness, PeerState
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, Delete, MetadataStore

log = logging.getLogger("cajun_fast.cluster")

#: Seconds for which a node must have been quiet: a connection that broke is made anew in that time.
SETTLE = 0.15
#: Pauses between two suspicions of a node that answers through the store and is not heard: the first, the longest.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
#: Seconds between two looks of one that is not on duty for a quiet node.
LOOK = 0.25
#: Members that each node keeps a connection to, so that somebody hears of every loss; a leader hears all.
NEIGHBOURS = 4


@dataclass(frozen=True, slots=True)
class DetectorHooks:
    """What it asks of the links and of the node. ``on_evicted`` must not raise or wait."""

    #: What is known of a node's life; None for one that the links do not know.
    liveness: Callable[[str], Liveness | None]
    #: Keep a connection to a node, or no longer.
    watch: Callable[[str, bool], None]
    #: Step down: others hear more than this node does.
    resign: Callable[[], object]
    #: Whether this node may take from others now.
    may_take: Callable[[], bool]
    on_evicted: Callable[[NodeRecord], None]


class Detector:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        members: Members,
        leadership: Leadership,
        hooks: DetectorHooks,
        *,
        node_id: str,
        patience: float,
        ttl: float,
        stuck_timeout: float,
        backoff: Backoff,
    ) -> None:
        self._store = store
        self._keys = keys
        self._members = members
        self._leadership = leadership
        self._hooks = hooks
        self._node_id = node_id
        self._patience = patience
        self._ttl = ttl
        self._stuck_timeout = stuck_timeout
        self._backoff = backoff
        self._cases: dict[str, asyncio.Task[None] | None] = {}
        self._watched: set[str] = set()
        self._tasks = Tasks("detector")
        #: Since the start of this node.
        self.evictions = 0

    async def stop(self) -> None:
        await self._tasks.stop()

    # ---- what it is told

    def watch_all(self) -> None:
        """After any change of who lives or leads, or of the links: keep an ear on those that are this node's."""
        others = sorted(node for node in self._members.nodes if node != self._node_id)
        wanted = set(others) if self._leadership.is_leader else set(neighbours(self._node_id, others))
        for node in self._watched - wanted:
            self._hooks.watch(node, False)
        for node in wanted:
            self._hooks.watch(node, True)
        self._watched = wanted

    def look_at(self, node: str) -> None:
        """Its connection was lost, or its state has changed: see whether it needs looking after."""
        if self._cases.get(node) is None and self._needs_care(node) and self._members.get(node) is not None:
            task = self._tasks.start(self._attend(node), f"look after {node}")
            self._cases[node] = task
            if task is not None:
                task.add_done_callback(lambda done: self._cases.pop(node, None))

    def is_quiet(self, node: str) -> bool:
        """Not heard, by its link or its beat; or its host says that nobody listens there any more."""
        seen = self._hooks.liveness(node)
        if seen is None or seen.connected:
            return seen is not None and seen.state is PeerState.SILENT
        return seen.state is PeerState.SILENT or (seen.refused and seen.state is not PeerState.STUCK)

    def is_stuck(self, node: str) -> bool:
        """Its process lives, its event loop stands, and not for too long yet."""
        seen = self._hooks.liveness(node)
        return seen is not None and seen.state is PeerState.STUCK and seen.since < self._stuck_timeout

    @property
    def hears_nobody(self) -> bool:
        """Whether there are others, and all that this node listens to are quiet: then it is cut off itself."""
        return len(self._watched) > 1 and all(self.is_quiet(node) for node in self._watched)

    def _needs_care(self, node: str) -> bool:
        seen = self._hooks.liveness(node)
        return seen is not None and (not seen.connected or seen.state in (PeerState.SILENT, PeerState.STUCK))

    # ---- one node

    async def _attend(self, node: str) -> None:
        """As long as it is quiet or stuck."""
        pause = SETTLE
        again = FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            record = self._members.get(node)
            if record is None or not self._needs_care(node):
                return
            try:
                if self.is_stuck(node):
                    pause = self._ttl / 4
                    await self._renew_for(record)
                elif self.hears_nobody and self._leadership.is_leader:
                    log.warning("this node hears none of %d others: it leads no longer", len(self._watched))
                    self._hooks.resign()
                    pause = LOOK
                elif self.is_quiet(node) and self._hooks.may_take() and await self._is_mine(record):
                    if await self._suspect(record):
                        return
                    pause, again = again, min(2 * again, LONGEST_PAUSE)
                else:
                    pause = LOOK
            except CajunError as error:
                log.info("node %r could not be looked after: %s", node, error)
                pause = self._backoff.next()
            else:
                self._backoff.reset()

    async def _is_mine(self, record: NodeRecord) -> bool:
        """Whether it is for this node to suspect it: the leader does that, others only for the leader."""
        if self._leadership.is_leader:
            return True
        leader = await self._leadership.read()
        return leader is None or leader.owner.node == record.node or not self._members.lives(leader.owner)

    async def _renew_for(self, record: NodeRecord) -> None:
        entry = await self._store.get(self._keys.node(record.node))
        if entry is None or NodeRecord.decode(record.node, entry.value).owner != record.owner:
            return
        try:
            await self._store.attach_lease(entry.lease, self._ttl).refresh()
        except LeaseLostError:
            return
        log.info("node %r does not get to renew its lease: it was done for it", record.node)

    async def _suspect(self, record: NodeRecord) -> bool:
        """Mark it, wait, evict it; False if it answered or was heard."""
        key = self._keys.node(record.node)
        entry = await self._store.get(key)
        if entry is None:
            return False
        standing = NodeRecord.decode(record.node, entry.value)
        if standing.owner != record.owner:
            return True
        revision = entry.revision
        if not standing.suspected:  # else another one has marked it, before this look
            log.warning("node %r is not heard: it is asked through the store whether it lives", record.node)
            marked = replace(standing, suspected=True).encode()
            outcome = await self._store.compare_and_set(key, revision, marked, lease=entry.lease)
            if not outcome.succeeded:
                return False
            revision = outcome.revision
        await asyncio.sleep(self._patience * (1 + MARGIN))
        if not (self.is_quiet(record.node) and self._hooks.may_take()):
            return False
        return await self._evict(record, revision, entry.lease)

    async def _evict(self, record: NodeRecord, revision: int, lease: int) -> bool:
        key = self._keys.node(record.node)
        term = self._leadership.term
        compares = [Compare(key, revision)] + ([term.guard] if term is not None else [])
        outcome = await self._store.transact(compares, [Delete(key)])
        if not outcome.succeeded and key not in outcome.current:
            return True  # another one was quicker
        if not outcome.succeeded:
            log.warning("node %r lives and is not heard from here: cut off, not lost", record.node)
            return False
        log.warning("node %r is lost: not heard, and no answer through the store", record.node)
        self.evictions += 1
        self._hooks.on_evicted(record)
        await self._end_leases(record.owner, lease)
        return True

    async def _end_leases(self, owner: Owner, lease: int) -> None:
        """What else the lost node held need not wait for its time: the leader's lock, or its place in the line for
        it, in front of those who live.
        """
        try:
            line = await self._store.list(self._keys.leader_lock + "/")
            places = [entry.lease for entry in line.entries if is_place_of(owner, entry.value)]
            for each in (*places, lease):
                await self._store.attach_lease(each, self._ttl).revoke()
        except MetadataStoreError as error:
            log.info("leases of node %r end by themselves: %s", owner.node, error)


def is_place_of(owner: Owner, holder: bytes) -> bool:
    """Whether that life of a node, or an earlier one, stands in the line for the leader's lock."""
    try:
        standing = LeaderRecord.decode(holder).owner
    except ProtocolError:
        return False
    return standing.node == owner.node and standing.incarnation <= owner.incarnation


def ring(node: str, others: list[str]) -> list[str]:
    """The sorted others in the order in which they follow ``node`` in the ring of ids."""
    at = bisect(others, node)
    return [*others[at:], *others[:at]]


def neighbours(node: str, others: list[str]) -> list[str]:
    """Those that ``node`` listens to."""
    return ring(node, others)[:NEIGHBOURS]
