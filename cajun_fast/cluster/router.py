"""The way to an actor: answers a lane that asks, by the cache, by the directory, or by waiting for what is
under way.

Laws: ``resolve`` never raises and answers each call exactly once, through the lane. A lane that is bound is
never unbound from here: messages in flight on the old way must have their verdicts first, or order would be
lost; the old home's refusal brings the lane back. A refusal is followed by a read that began after it.
While this node changes its links (it comes back as a new incarnation), lanes are kept and answered after it.
Waiting is bounded: ``start_timeout`` for an actor that starts or moves, ``rehost_timeout`` for one whose node
was lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from cajun_fast._core.lane import Exchange, Lane
from cajun_fast._core.locations import Location
from cajun_fast._core.ports import Carrier
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.locator import Locator
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards.ids import is_sharded
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import (
    ActorNotFoundError,
    CajunError,
    MetadataStoreUnavailableError,
    NodeUnavailableError,
    NotRunningError,
)

log = logging.getLogger("cajun_fast.cluster")

SYSTEM_PREFIX = "cajun:"
#: A binding that is never looked at again.
FOR_GOOD = (1 << 63) - 1
#: Pauses between tries at a home that refuses: the first, and the longest.
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.25
#: How long a child may be refused where its parent lives: it may be coming there with its parent.
CHILD_PATIENCE = 0.5
#: Before an actor of this node that takes nothing is tried again.
LOCAL_PAUSE = 0.02
#: Owners that are waited for one after the other, each for as long as a lost one.
MOST_OWNERS = 6


class Links(Protocol):
    """What is needed of the messaging system."""

    def link(self, node_id: str) -> Carrier: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a message may wait for its way."""

    start_timeout: float = 3.0
    rehost_timeout: float = 10.0
    #: Life of a lane's binding before it is looked at again.
    expiry: float = 5.0


class ClusterRouter:
    """Implements the Router port of ``actors``; see the module's laws."""

    def __init__(
        self,
        locator: Locator,
        members: Members,
        now_ns: Callable[[], int],
        patience: Patience,
        on_actor_stopped: Callable[[str], None],
        is_starting: Callable[[str], bool],
        is_moving: Callable[[str], bool] = lambda actor_id: False,
        is_fenced: Callable[[], bool] = lambda: False,
    ) -> None:
        """``is_starting``: claimed by this node or on its way to or from it (``is_moving``), and not running.
        ``is_fenced``: this node has lost its seat, so what names it in the directory is somebody else's soon.
        """
        self._locator = locator
        self._members = members
        self._now_ns = now_ns
        self._patience = patience
        self._on_actor_stopped = on_actor_stopped
        self._is_starting = is_starting
        self._is_moving = is_moving
        self._is_fenced = is_fenced
        self._exchange: Exchange | None = None
        self._links: Links | None = None
        self._owner = Owner("", 0)
        self._kept: list[Lane] | None = None
        self._tasks = Tasks("router")
        self._to_shard: Callable[[Lane], None] | None = None
        #: Of lanes that were refused: under which revision of the record, and how often they had been before.
        self._refused: WeakKeyDictionary[Lane, tuple[int, int]] = WeakKeyDictionary()

    def start(self, exchange: Exchange, links: Links, owner: Owner) -> None:
        """Begin to answer, or go on by other links; a lane that asked before the first start was failed with
        NotRunningError.
        """
        self._exchange, self._links, self._owner = exchange, links, owner
        kept, self._kept = self._kept, None
        for lane in kept or ():
            self.resolve(lane)

    def route_shards(self, resolve: Callable[[Lane], None]) -> None:
        """Who answers for the ids of sharded actors."""
        self._to_shard = resolve

    def pause(self) -> None:
        """The links are about to be closed and others to be opened: keep who asks for a way until ``start``."""
        if self._kept is None:
            self._kept = []

    async def stop(self) -> None:
        """Answer no more; lanes that wait are failed by their exchange."""
        self._links = self._kept = None
        await self._tasks.stop()

    # ---- the port

    def resolve(self, lane: Lane) -> None:
        """Find the way; answers through the lane, at once or later."""
        if self._links is None or self._exchange is None:
            lane.fail(NotRunningError(f"no way to actor {lane.target!r}: this node is not running"))
        elif lane.target.startswith(SYSTEM_PREFIX):
            self._to_system_actor(lane)
        elif self._to_shard is not None and is_sharded(lane.target):
            self._to_shard(lane)
        elif lane.refusals or lane.inbox is not None or not self._to_cached(lane):
            self.search(lane, self._find)

    def refresh(self, lane: Lane) -> None:
        """A binding that the watch did not vouch for, near its end: read in the background, unless it does by now."""
        lane.expires = self._binding_ends(lane.location)
        if self._locator.cached(lane.target) is None:
            self._tasks.start(self._warm(lane.target), f"refresh {lane.target}")

    def actor_stopped(self, actor_id: str) -> None:
        self._on_actor_stopped(actor_id)

    # ---- at once

    def _to_system_actor(self, lane: Lane) -> None:
        node = lane.target.rpartition("@")[2]
        if node == self._owner.node:
            if not self._to_local(lane):
                lane.fail(not_found(lane.target))
        elif self._members.get(node) is None:
            lane.fail(NodeUnavailableError(f"no node {node!r} lives in this cluster", node, lane.target))
        else:
            self.bind_node(lane, node)

    def _to_local(self, lane: Lane) -> bool:
        inbox = None if self._exchange is None else self._exchange.inboxes.get(lane.target)
        if inbox is not None:
            lane.bind_inbox(inbox)
        return inbox is not None

    def _to_cached(self, lane: Lane) -> bool:
        entry = self._locator.cached(lane.target)
        if entry is None:
            return False
        if entry.missing or entry.node is None:
            lane.fail(not_found(lane.target))
            return True
        if entry.node == self._owner.node or self._members.get(entry.node) is None:
            return False
        self._bind(lane, entry.node, entry, entry.durable)
        return True

    def bind_node(self, lane: Lane, node: str, durable: bool = False) -> None:
        """Bind a lane to a node's link for good: until that node refuses, or is gone."""
        self._bind(lane, node, None, durable, FOR_GOOD)

    def _bind(
        self, lane: Lane, node: str, entry: Location | None, durable: bool, expires: int | None = None
    ) -> None:
        if self._links is None:
            lane.fail(NotRunningError(f"no way to actor {lane.target!r}: this node is stopping"))
            return
        if self._kept is not None:
            self._kept.append(lane)
            return
        try:
            link = self._links.link(node)
        except CajunError as error:
            lane.fail(error)
            return
        lane.bind_carrier(link, entry, self._binding_ends(entry) if expires is None else expires, durable)

    def _binding_ends(self, entry: Location | None) -> int:
        """What the watch keeps true needs no second look: the lane sees by ``entry.live`` when it is not. To renew
        lane by lane costs more than the messages where there are 100,000 of them."""
        if entry is not None and entry.live and self._locator.in_sync:
            return FOR_GOOD
        return self._now_ns() + round(self._patience.expiry * 0.8e9)

    # ---- by a search

    def search(self, lane: Lane, find: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        """Have ``find`` answer the lane; what it raises fails the lane."""
        # A lane may be dropped while it waits, with nothing left to send: the task holds it until it has an
        # answer.
        if self._tasks.start(self._answer(lane, find), f"way to {lane.target}") is None:
            lane.fail(NotRunningError(f"no way to actor {lane.target!r}: this node is stopping"))

    async def _answer(self, lane: Lane, find: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        try:
            await find(lane)
        except CajunError as error:
            if lane.inbox is None:
                lane.fail(error)
        except Exception as error:  # a fault of ours must not leave messages waiting for ever
            log.exception("finding the way to actor %r failed", lane.target)
            lane.fail(NodeUnavailableError(f"no way to actor {lane.target!r}: {error!r}", "", lane.target))

    async def _find(self, lane: Lane) -> None:
        hint = lane.hint
        if lane.refusals:
            self._forget(lane)
            if self._try_hint(lane):
                return
        was_here = lane.inbox is not None
        if was_here:  # it is here, but takes nothing just now: frozen, or about to stop
            await asyncio.sleep(LOCAL_PAUSE)
        waiting_since = self._now_ns()
        says_here = False
        while not self._to_local(lane):
            waited = (self._now_ns() - waiting_since) / 1e9
            try:
                standing = await self._locate(lane.target, fresh=says_here or was_here or lane.refusals > 0)
            except NodeUnavailableError as error:
                await self._wait_for_store(lane, waited, error)
                continue
            if lane.inbox is not None:
                return
            if standing is None or (says_here and self._is_missing(lane, standing)):
                raise not_found(lane.target)
            if self._is_missing(lane, standing):
                says_here = True  # or it has just left, and this was read before: the next read begins now
            elif await self._follow(lane, standing, waited, hint):
                return

    async def _wait_for_store(self, lane: Lane, waited: float, error: NodeUnavailableError) -> None:
        """A pause for a lane that was refused: it is somewhere, its home refuses for want of the store too."""
        if lane.refusals == 0 or waited >= self._patience.rehost_timeout:
            raise error
        await asyncio.sleep(LONGEST_PAUSE)

    def _is_missing(self, lane: Lane, standing: Standing) -> bool:
        """Whether the record says that it is here, and it is not, and is not about to be."""
        return (
            standing.record.owner == self._owner
            and not self._is_fenced()
            and not self._is_starting(lane.target)
            and (self._exchange is None or lane.target not in self._exchange.inboxes)
        )

    async def _follow(self, lane: Lane, standing: Standing, waited: float, hint: str | None) -> bool:
        """Go where the record says; False after a wait, when the record has to be read again. ``hint``: the node
        that the last refusal named.
        """
        owner, refused = standing.record.owner, lane.refusals
        if owner == self._owner and not self._is_fenced():
            comes = lane.moving or self._is_moving(lane.target)
            await self._pause_for_start(lane, waited + pauses_before(refused), owner, comes)
            return False
        if owner == self._owner or not self._members.lives(owner):
            await self._wait_for_rehosting(lane, owner, waited)
            return False
        if self._was_refused_by(lane, standing):
            comes = lane.moving or hint == owner.node  # it says so itself
            waited = self._refused_for(lane, standing)
            if standing.actor_id != lane.target and not comes and waited >= CHILD_PATIENCE:
                raise not_found(lane.target)  # its parent lives there, and it does not
            await self._pause_for_start(lane, waited, owner, comes, pause(refused))
        self._rebind(lane, owner.node, standing.is_durable(lane.target))
        return True

    async def _locate(self, actor_id: str, *, fresh: bool) -> Standing | None:
        try:
            return await self._locator.locate(actor_id, fresh=fresh)
        except MetadataStoreUnavailableError as error:
            raise NodeUnavailableError(
                f"where actor {actor_id!r} lives is not known, and the metadata store does not answer: "
                f"{error}",
                "",
                actor_id,
            ) from error

    def _forget(self, lane: Lane) -> None:
        location = lane.location
        if location is not None:
            self._locator.cache.invalidate(lane.target, location.generation)

    def _try_hint(self, lane: Lane) -> bool:
        """The refusing node has said where to: try that, every other time at most, so that two cannot play
        tennis; not at once if it means itself.
        """
        hint, lane.hint = lane.hint, None
        if (
            hint is None
            or (lane.location is not None and lane.location.node == hint)
            or lane.refusals % 2 == 0
            or hint == self._owner.node
            or self._members.get(hint) is None
        ):
            return False
        self._rebind(lane, hint, False)  # what was known of it, the lane knows
        return True

    def _was_refused_by(self, lane: Lane, standing: Standing) -> bool:
        """Whether the refusal came from where the directory still says it lives."""
        if not lane.refusals:
            return False
        location = lane.location
        return location is None or location.epoch >= standing.revision

    def _refused_for(self, lane: Lane, standing: Standing) -> float:
        """Seconds of pauses since it was first refused under this record: one that changes begins anew, since whoever
        owns it now has not refused for long. All in all no longer than ``MOST_OWNERS`` owners are waited for.
        """
        revision, first = self._refused.get(lane, (0, 0))
        if revision != standing.revision or lane.refusals < first:
            first = lane.refusals
            self._refused[lane] = standing.revision, first
        total = pauses_before(lane.refusals)
        return total if total >= MOST_OWNERS * self._patience.rehost_timeout else total - pauses_before(first)

    def _rebind(self, lane: Lane, node: str, durable: bool) -> None:
        if lane.inbox is None:
            self._bind(lane, node, self._locator.cached(lane.target), durable)

    async def _pause_for_start(
        self, lane: Lane, waited: float, owner: Owner, comes: bool, seconds: float = FIRST_PAUSE
    ) -> None:
        """``comes``: it is on its way there, and who knows of it says so."""
        if comes:
            await self._wait_for_move(lane, waited, owner, seconds)
        elif waited >= self._start_timeout(lane):
            raise ActorNotFoundError(
                f"actor {lane.target!r} is claimed by node {owner.node!r} but did not start there within "
                f"{self._start_timeout(lane):g} s",
                lane.target,
            )
        else:
            await asyncio.sleep(seconds)

    def _start_timeout(self, lane: Lane) -> float:
        """A durable actor starts with its state: its store, or its next owner if this one is lost, may take a while."""
        patience = self._patience
        if lane.way is not None and lane.way.takes_all:
            return max(patience.start_timeout, patience.rehost_timeout)
        return patience.start_timeout

    async def _wait_for_move(self, lane: Lane, waited: float, owner: Owner, seconds: float) -> None:
        if waited >= self._patience.rehost_timeout:
            raise NodeUnavailableError(
                f"actor {lane.target!r} is being moved from or to node {owner.node!r}, or stands still there, for "
                f"more than {self._patience.rehost_timeout:g} s",
                owner.node,
                lane.target,
            )
        await self._locator.changed(lane.target, seconds)

    async def _wait_for_rehosting(self, lane: Lane, owner: Owner, waited: float) -> None:
        left = self._patience.rehost_timeout - waited
        if left <= 0:
            raise NodeUnavailableError(
                f"node {owner.node!r}, which hosted actor {lane.target!r}, was lost, and no other node has "
                "started "
                f"the actor within {self._patience.rehost_timeout:g} s",
                owner.node,
                lane.target,
            )
        await self._locator.changed(lane.target, min(left, LONGEST_PAUSE))

    async def _warm(self, actor_id: str) -> None:
        try:
            await self._locator.locate(actor_id)
        except CajunError:
            return  # a sender that needs it will hear why


def not_found(actor_id: str) -> ActorNotFoundError:
    return ActorNotFoundError(f"no node of the cluster hosts an actor {actor_id!r}", actor_id)


def pause(refusals: int) -> float:
    """Seconds before the next try after so many refusals in a row."""
    return min(FIRST_PAUSE * 2.0 ** max(0, refusals - 1), LONGEST_PAUSE)


def pauses_before(refusals: int) -> float:
    """Seconds that the pauses before this refusal took together."""
    return sum(pause(earlier) for earlier in range(1, refusals))
