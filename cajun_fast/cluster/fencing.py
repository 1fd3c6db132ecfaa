"""A node that is not sure of its seat stands still, and one that has lost it comes back.

    acts ──on_paused──▶ stands still ──on_resumed──▶ acts
      └──on_fenced──▶ stands still ──a new incarnation, claims put back──▶ acts

Laws: actors are frozen before anything else of this node runs, and those that were starting as soon as they are up.
They go on only once it is known whose they are: what somebody else took meanwhile is stopped, what is on its way to
another node is its hand-off's. A return is tried until it succeeds or the node stops. ``membership`` decides; here is
what becomes of the actors.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from cajun_fast.cluster.standstill import Standstill
from cajun_fast.errors import CajunError

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

log = logging.getLogger("cajun_fast.cluster")


class Fencing:
    """See the module's laws."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._returning: asyncio.Task[None] | None = None

    @property
    def standstill(self) -> Standstill:
        return self._node.standstill

    async def may_own(self) -> bool:
        """Whether this node has its seat, once that is known."""
        return await self._node.membership.settled()

    async def until_seated(self) -> bool:
        """The same of its next life, too, where this one is over: as long as senders wait for a lost node's actors."""
        node = self._node
        return await node.membership.settled(node.config.placement.rehost_timeout, next_life=True)

    # ---- standing still

    def on_deadline(self, deadline_ns: int) -> None:
        """Whoever gives actors their turns asks first, once this moment is over: a process that was paused
        finds bytes and timers ready when it wakes, and they may come before the loop's own timer.
        """
        exchange = getattr(self._node.actors, "exchange", None)
        if exchange is not None:  # a start that failed before its actors ran has nothing to stop
            exchange.overdue, exchange.fence_at = self._overdue, deadline_ns or self._rising()

    def _overdue(self) -> None:
        membership = self._node.membership
        membership.check()
        if membership.paused or membership.fenced:
            self.standstill.freeze_risen()
            self._node.exchange.fence_at = self._rising()

    def _rising(self) -> int:
        """Ask before each turn as long as an actor may come up by itself while all others stand still."""
        return 0 if self.standstill.is_complete else 1

    def actor_started(self, actor_id: str) -> None:
        if not self._node.membership.holds:
            self.standstill.freeze_one(actor_id)

    def on_fenced(self, why: str) -> None:
        node, name = self._node, self._node.owner.node
        node.events.add("node-fenced", f"node {name!r} stands still: {why}", node=name)
        node.leadership.resign()
        self.standstill.freeze()
        node.mover.on_fenced()
        if self._returning is None or self._returning.done():
            self._returning = node.tasks.start(self._return(), "return")

    # ---- going on

    def thaw(self) -> None:
        """What is owned goes on; what is on its way to another node is its hand-off's."""
        hosting, region = self._node.hosting, self._node.sharding.region
        staying = hosting.owned.keys() - hosting.departing.keys()
        self.standstill.thaw(staying, region)

    def on_regained(self) -> None:
        """The seat was taken anew in time: somebody may have been quicker with an actor."""
        self._node.groups.renew()
        self._node.sync_soon()

    async def _return(self) -> None:
        """Come back as a new incarnation, as soon as the store answers; actors go on once it is known whose
        they are.
        """
        node, backoff = self._node, self._node.backoff(0.1, 2.0)
        while True:
            await backoff.wait()
            try:
                if node.membership.fenced:
                    await self._new_life()
                await node.sync()
            except CajunError as error:
                log.warning("node %r still stands still: %s", node.owner.node, error)
                continue
            except Exception:  # a fault of ours, or of the host: nobody else would bring the node back
                log.exception(
                    "node %r still stands still: its return failed and is tried again", node.owner.node
                )
                continue
            if not node.membership.fenced:
                self.thaw()
                node.events.add("node-back", f"node {node.owner.node!r} is back", node=node.owner.node)
                log.warning("node %r is back as incarnation %d", node.owner.node, node.owner.incarnation)
                return

    async def _new_life(self) -> None:
        node = self._node
        await node.take_incarnation()
        node.router.pause()
        await node.close_links()
        await node.open_links(node.bound.port)
        node.hosting.owner = node.leadership.owner = node.owner
        for record in node.members.nodes.values():
            if record.node != node.owner.node:
                node.news.dial(record)
        node.router.start(node.exchange, node.messaging, node.owner)
        node.detector.watch_all()
        await node.membership.enter(node.record())
        node.groups.renew()
        node.deaths.renew()
