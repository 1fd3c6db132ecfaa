"""Asks that timed out: where does their target stand? Asked once, after the time is over, and told in the error.

Laws: off the hot path: nothing here runs before a time-out. The question to another node is bounded in time, the
questions at once in number; whoever is over that bound gets what is known here. An ask is ended exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cajun_fast._core.outbound import Outbound
from cajun_fast._core.ports import Carrier
from cajun_fast.cluster.inspector import ask_node
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.cluster.whereabouts import Whereabouts, found_here, timeout_error, waiting_in
from cajun_fast.errors import AskTimeoutError, CajunError
from cajun_fast.messaging.liveness import PeerState

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

QUESTION = "whereabouts"
#: Seconds that the other node has for its answer.
PATIENCE = 0.5
#: Questions on their way.
AT_ONCE = 64
#: An event loop that has stood for so long (seconds) is why nothing came.
STANDS = 0.2


class Unanswered:
    """The explainer of one node's asks; see the module's laws."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._tasks = Tasks("unanswered asks", (CajunError,))

    def start(self) -> None:
        """From now on time-outs are explained."""
        self._node.inspector.answer(QUESTION, self._answer)
        if self._node.config.observability.explain_timeouts:
            self._node.exchange.asks.explainer = self.explain

    async def stop(self) -> None:
        """Asks whose explanation is on its way are told what is known."""
        await self._tasks.stop()

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = self._here(str(asked["id"]), str(asked["asker"]), int(asked["tag"]))
        return found.to_dict()

    def _here(self, target: str, asker: str, tag: int) -> Whereabouts:
        node = self._node
        return found_here(node.actors.cell(target), node.owner.node, asker, tag, node.ports.clock.now_ns())

    def explain(
        self, tag: int, target: str, future: asyncio.Future[Any], timeout: float, carrier: Carrier | None
    ) -> bool:
        """For the core: False where the plain error will do. Does not raise."""
        if target.startswith("cajun:"):
            return False
        found = self._known(tag, target, carrier)
        if found is not None or carrier is None or len(self._tasks) >= AT_ONCE:
            self._tell(future, target, timeout, found or Whereabouts("unknown", self._node.owner.node))
            return True
        question = self._ask(carrier, tag, target, future, timeout)
        return self._tasks.start(question, f"ask of {target!r}") is not None

    def _known(self, tag: int, target: str, carrier: Carrier | None) -> Whereabouts | None:
        """What this node knows without asking anybody."""
        lane, here = self._node.exchange.lane(target), self._node.owner.node
        waits = waiting_in(lane, here, tag)
        if waits is not None:
            return waits
        if carrier is not None:
            return None
        cell = self._node.actors.cell(target)
        return None if cell is None else self._here(target, here, tag)

    async def _ask(
        self, carrier: Carrier, tag: int, target: str, future: asyncio.Future[Any], timeout: float
    ) -> None:
        found = Whereabouts("unknown", carrier.peer)
        try:
            found = await self._find(carrier, tag, target)
        finally:
            self._tell(future, target, timeout, found)

    async def _find(self, carrier: Carrier, tag: int, target: str) -> Whereabouts:
        asked = {"id": target, "asker": self._node.owner.node, "tag": tag}
        try:
            plain = await ask_node(self._node.exchange, carrier.peer, QUESTION, asked, PATIENCE)
            return Whereabouts.from_dict(plain)
        except (CajunError, KeyError, TypeError) as error:
            return self._judge(carrier, target, error)

    def _judge(self, carrier: Carrier, target: str, error: Exception) -> Whereabouts:
        """The far node did not say: what is known of its life?"""
        peer = carrier.peer
        if self._node.members.get(peer) is None:
            return Whereabouts("node-gone", peer)
        life = self._node.messaging.liveness(peer)
        if life is None:
            return Whereabouts("node-gone", peer)
        standing = life.standing or 0.0
        beats = life.beat is not None and life.beat < standing / 2  # its process lives while its loop stands
        if life.state is PeerState.STUCK or (beats and standing > STANDS):
            return Whereabouts("node-stuck", peer, since=standing)
        if life.state is not PeerState.ALIVE or not life.connected:
            return Whereabouts("node-silent", peer, since=life.heard)
        lane = self._node.exchange.lane(target)
        if isinstance(carrier, Outbound) and carrier.carries(lane):
            return Whereabouts("on-its-way", peer)
        return Whereabouts("unknown", peer, detail=f" ({error})")

    def _tell(self, future: asyncio.Future[Any], target: str, timeout: float, found: Whereabouts) -> None:
        if not future.done():
            error: AskTimeoutError = timeout_error(target, timeout, self._node.owner.node, found)
            future.set_exception(error)
