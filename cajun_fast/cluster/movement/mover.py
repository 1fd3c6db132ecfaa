"""The system actor ``cajun:move@<node>``: by which nodes speak of moves, and what an operator's wish becomes.

Laws: a request that takes time runs beside the others, in a task that ends with the node; answers are data,
errors too. A node moves a bounded number of its actors at once, whoever asks; the others wait their turn.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast._core.context import Context, Reply
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.host import encode_error
from cajun_fast.cluster.movement.departure import Event
from cajun_fast.cluster.movement.destination import Destination
from cajun_fast.cluster.movement.results import MigrationResult, Outcome
from cajun_fast.cluster.movement.source import HandOff
from cajun_fast.cluster.movement.world import Parts, World
from cajun_fast.cluster.records import Owner
from cajun_fast.errors import ActorNotFoundError, CajunError, ConfigError, NodeUnavailableError, ProtocolError

log = logging.getLogger("cajun_fast.cluster")

#: Ids in one answer to ``owned``.
PAGE = 1000
#: Between two looks at what is in flight.
LOOK = 0.01


class Departing:
    """A hand-off under way, as the node's other parts see it."""

    def __init__(self, hand_off: HandOff, done: asyncio.Future[None]) -> None:
        self.hand_off = hand_off
        self._done = done

    def on_record(self, standing: Standing | None) -> None:
        self.hand_off.on_record(standing)

    async def over(self) -> None:
        await asyncio.shield(self._done)


class Mover:
    """See the module's laws."""

    def __init__(self, parts: Parts) -> None:
        self.world = World(parts)
        self.destination = Destination(self.world, lambda: self.cordoned)
        self.cordoned = False
        #: Told of what happened: see ``EventLog.add``.
        self.tell: Callable[..., None] = lambda *told, **details: None
        self._departing: dict[str, Departing] = {}
        self._room = asyncio.Semaphore(parts.settings.moves_at_once)
        self._seen = 0
        self._newer = asyncio.Event()
        self._stopping = False

    # ---- what it is told

    def on_moved(self, actor_id: str, standing: Standing | None, revision: int) -> None:
        """A record of the directory has changed."""
        if revision > self._seen:
            self._seen = revision
            self._newer.set()
            self._newer = asyncio.Event()
        self.destination.on_moved(actor_id, standing, revision)

    def node_left(self, owner: Owner) -> None:
        """That life of a node is over."""
        self.destination.node_left(owner)

    def on_fenced(self) -> None:
        """This node has lost its seat: what is not decided stays."""
        for departing in list(self._departing.values()):
            departing.hand_off.interrupt(Event.CANCELLED, "its node lost its seat in the cluster")
        self.destination.on_fenced()

    async def stop(self) -> None:
        """What is not decided stays and stops with its node; commits under way are waited for a while."""
        self._stopping = True
        under_way = list(self._departing.values())
        for departing in under_way:
            departing.hand_off.interrupt(Event.CANCELLED, "its node stops")
        if under_way:
            await asyncio.wait(
                [asyncio.ensure_future(each.over()) for each in under_way],
                timeout=self.world.settings.answer_timeout,
            )
        self.destination.stop()
        await self.world.tasks.stop()

    @property
    def under_way(self) -> int:
        """Actors that are leaving, and that arrive."""
        return len(self._departing) + len(self.destination)

    # ---- requests

    def receive(self, message: Any, context: Context) -> Any:
        """One request: a map with ``op``; the answer is a map with ``ok`` or ``error``."""
        try:
            work = self._work(message)
        except Exception as error:  # the answer to whoever asked; nothing is swallowed
            return encode_error(error)
        if not asyncio.iscoroutine(work):
            return {"ok": work}
        self.world.tasks.start(self._answer(context.reply_later(), work), f"{message['op']}")
        return None

    async def _answer(self, reply: Reply, work: Awaitable[Any]) -> None:
        try:
            reply.send({"ok": await work})
        except Exception as error:  # the answer to whoever asked; nothing is swallowed
            reply.send(encode_error(error))

    def _work(self, message: Any) -> Any:
        match message:
            case {"op": "move", "id": str(actor_id), "to": str(target), **more}:
                return self._move(actor_id, target, without_state=bool(more.get("without_state")))
            case {"op": "carried", "node": str(node), "tags": list(tags)}:
                return self.world.carried(node, tags)
            case {"op": "cordon", "on": bool(on)}:
                return self.cordon(on)
            case {"op": "owned", **more}:
                return self._owned(str(more.get("after", "")))
            case {"op": "seen", "revision": int(revision), "timeout": float(timeout)}:
                return self._wait_until_seen(revision, timeout)
            case {"op": "quiet", "timeout": float(timeout)}:
                return self._wait_until_quiet(timeout)
            case {"op": str(op), "id": str(actor_id)}:
                return self._arrival_work(op, actor_id, message)
        raise self._unknown(message)

    def _arrival_work(self, op: str, actor_id: str, message: Any) -> Any:
        arrivals = self.destination
        match {**message, "op": op}:
            case {"op": "reserve", "types": list(types), "revision": int(revision), "owner": [node, life]}:
                source = Owner(str(node), int(life))
                return arrivals.reserve(source, actor_id, [str(name) for name in types], revision)
            case {
                "op": "load",
                "claim": int(claim),
                "offset": int(at),
                "total": int(total),
                "data": bytes(data),
            }:
                return arrivals.load(actor_id, claim, at, total, data)
            case {"op": "ready", "claim": int(claim)}:
                return arrivals.ready(actor_id, claim)
            case {"op": "go", "claim": int(claim), "revision": int(revision)}:
                return arrivals.go(actor_id, claim, revision)
            case {"op": "forget", "claim": int(claim), "from": str(node)}:
                return arrivals.forget(node, actor_id, claim)
        raise self._unknown(message)

    def _unknown(self, message: Any) -> ProtocolError:
        return ProtocolError(f"node {self.world.owner.node!r} does not know the request {message!r:.200}")

    # ---- leaving

    async def _move(self, actor_id: str, target: str, *, without_state: bool) -> dict[str, Any]:
        async with self._room:
            result = await self.move(actor_id, target, without_state=without_state)
        return dataclasses.asdict(result)

    async def move(self, actor_id: str, target: str, *, without_state: bool = False) -> MigrationResult:
        """Hand an actor of this node over. Raises ActorNotFoundError for one that is not here, ConfigError for one
        that never moves or that moves already.
        """
        self._check_may_leave(actor_id)  # what makes no sense is told at once, whatever the seat
        seated = await self.world.seated()
        standing, cell = self._check_may_leave(actor_id)
        node = self.world.owner.node
        if target == node:
            return MigrationResult(actor_id, node, node, Outcome.THERE, epoch=standing.record.epoch)
        if self._stopping or not seated:
            why = "its node stops" if self._stopping else "its node does not hold its seat in the cluster"
            return MigrationResult(actor_id, node, target, Outcome.STAYED, why)
        return await self._hand_off(
            HandOff(self.world, standing, cell, target, without_state=without_state), actor_id
        )

    def _check_may_leave(self, actor_id: str) -> tuple[Standing, Cell]:
        """What is known of it here; raises as ``move``."""
        cell = self.world.parts.actors.cell(actor_id)
        standing = self.world.parts.hosting.owned.get(actor_id)
        node = self.world.owner.node
        if actor_id.startswith("cajun:"):
            raise ConfigError(f"actor {actor_id!r} belongs to its node and never moves")
        if cell is not None and cell.parent is not None:
            raise ConfigError(
                f"actor {actor_id!r} is a child and moves with its parent {actor_id.partition('/')[0]!r}"
            )
        if standing is None or cell is None:
            raise ActorNotFoundError(f"node {node!r} does not host an actor {actor_id!r}", actor_id)
        if actor_id in self._departing:
            raise ConfigError(f"actor {actor_id!r} is on its way to another node already: wait for that")
        return standing, cell

    async def _hand_off(self, hand_off: HandOff, actor_id: str) -> MigrationResult:
        hosting = self.world.parts.hosting
        departing = Departing(hand_off, asyncio.get_running_loop().create_future())
        self._departing[actor_id] = hosting.departing[actor_id] = departing
        try:
            result = await hand_off.run()
        finally:
            del self._departing[actor_id]
            hosting.departing.pop(actor_id, None)
            departing._done.set_result(None)
        why = f": {result.reason}" if result.reason else ""
        log.info("actor %r, to node %r: %s%s", actor_id, result.target, result.outcome, why)
        if result.moved:
            self.tell(
                "actor-moved",
                f"actor {actor_id!r} moved from {result.source!r} to {result.target!r}",
                **{"actor": actor_id, "from": result.source, "to": result.target},
            )
        else:
            self.tell(
                "actor-stayed",
                f"actor {actor_id!r} stayed on {result.source!r}: {result.reason}",
                actor=actor_id,
                node=result.source,
            )
        return result

    # ---- cordon and drain

    async def cordon(self, on: bool) -> dict[str, Any]:
        """Take no new actors, or take them again; written into the node's record."""
        changed, self.cordoned = self.cordoned != on, on
        membership = self.world.parts.membership
        if membership.record.cordoned != on and not await membership.update(cordoned=on):
            self.cordoned = membership.record.cordoned
            raise CajunError(
                f"node {self.world.owner.node!r} has lost its seat: its record could not be changed"
            )
        if changed:
            node, does = self.world.owner.node, "takes no new actors" if on else "takes actors again"
            self.tell("node-cordoned" if on else "node-uncordoned", f"node {node!r} {does}", node=node)
        return {"cordoned": on, "changed": changed}

    def require_open(self, what: str) -> None:
        """Raises NodeUnavailableError while this node is cordoned."""
        if self.cordoned:
            node = self.world.owner.node
            raise NodeUnavailableError(
                f"{what}: node {node!r} is cordoned: choose another node, or uncordon it", node
            )

    def _owned(self, after: str) -> dict[str, Any]:
        ids = sorted(each for each in self.world.parts.hosting.owned if each > after)
        return {"ids": ids[:PAGE], "left": len(ids)}

    async def _wait_until_seen(self, revision: int, timeout: float) -> bool:
        """Whether the directory's watch has come so far here."""
        try:
            async with asyncio.timeout(timeout):
                while self._seen < revision:
                    await self._newer.wait()
        except TimeoutError:
            return False
        return True

    async def _wait_until_quiet(self, timeout: float) -> int:
        """How much is in flight still, at the end of the wait; 0: nothing."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while (left := self._in_flight()) and loop.time() < end:  # noqa: ASYNC110 - rare, short and bounded
            await asyncio.sleep(LOOK)
        return left

    def _in_flight(self) -> int:
        """Lanes in which something waits for its way, and links that wait for a verdict of the other side."""
        lanes = sum(not lane.target.startswith("cajun:") for lane in self.world.exchange.waiting_lanes)
        return lanes + sum(link.is_up and link.unsettled for link in self.world.links())
