"""Death watch across nodes: the system actor ``cajun:deaths@<node>`` and what it remembers.

    watcher's node ── watch ──▶ home of the target        (found by the directory; again where it is not there yet)
                   ◀── ended ── home of the target        (with the reason)

Laws: whoever ends while its record is this home's has ended; a copy that ends without one has moved or was lost, and
the directory says which. An actor that moved with its state is watched on at its new home; one whose node was lost is
told as "node-lost", although it may run again elsewhere. Who watches and moves is told once: its old home holds back
what it would have to tell, and says to the new one where each target was; of those that are gone by then, that place
says how they ended. Questions are asked until they are answered; while the store is silent they wait. Messages between
homes may come twice and do nothing then. Sharded actors have no record: what is asked and told of them goes to
``shards.watches``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cajun_fast._core.lane import Exchange, Pid
from cajun_fast.actors.deaths import FAILED, NODE_LOST, NOT_FOUND, STOPPED, Deaths, Terminated
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.hosting import Hosting, Leaving, adopted_at
from cajun_fast.cluster.locator import Locator
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.shards.ids import is_sharded
from cajun_fast.cluster.shards.table import Place, ShardTable
from cajun_fast.cluster.shards.watches import ShardWatches
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import CajunError, ProtocolError
from cajun_fast.guarantees import DeliveryGuarantee

log = logging.getLogger("cajun_fast.cluster")

ASK_TIMEOUT = 5.0
#: Seconds for which an actor that its record names and that is not there may be starting or moving.
PATIENCE = 3.0
#: In the place of a reason: it was watched on another node, and how it ended has to be asked for.
RESUMED = "resumed"
#: Ends of watched actors that are remembered, for watchers that were moving just then.
REMEMBERED = 1000


def deaths_id(node_id: str) -> str:
    """Id of a node's watcher of deaths."""
    return f"cajun:deaths@{node_id}"


@dataclass(frozen=True, slots=True)
class Home:
    """Where a target was when its watch was taken up."""

    owner: Owner
    epoch: int


class ClusterDeaths:
    """The RemoteDeaths port of ``actors.deaths``; see the module's laws."""

    def __init__(
        self,
        exchange: Exchange,
        locator: Locator,
        members: Members,
        hosting: Hosting,
        owner: Callable[[], Owner],
        deaths: Callable[[], Deaths],
        backoff: Callable[[], Backoff],
        on_first: Callable[[Callable[[str, str], None]], None],
        table: ShardTable,
        keeps: Callable[[Place], bool],
    ) -> None:
        """``deaths``: this node's table; ``on_first``: has a function called for each actor that ends here; ``keeps``:
        whether a shard is this node's and stays.
        """
        self._exchange = exchange
        self._locator = locator
        self._members = members
        self._hosting = hosting
        self._owner = owner
        self._deaths = deaths
        self._backoff = backoff
        self._on_first = on_first
        self._homes: dict[str, Home] = {}
        self._following: dict[str, asyncio.Task[None] | None] = {}
        self._watched_by: dict[str, set[str]] | None = None
        self._held: dict[str, dict[str, str]] = {}
        self._ends: OrderedDict[str, str] = OrderedDict()
        self._tasks = Tasks("deaths")
        self.shards = ShardWatches(
            exchange, table, members, owner, keeps, deaths, backoff, on_first, self._ask, self._tell
        )

    async def stop(self) -> None:
        await self.shards.stop()
        await self._tasks.stop()

    # ---- the port: watchers of this node

    def begin(self, target: str, here: bool) -> None:
        if is_sharded(target):
            self.shards.begin(target)
        elif here:
            self._homes.pop(target, None)
        else:
            self._follow(target, RESUMED if target in self._homes else NOT_FOUND)

    def end(self, target: str, moved: bool) -> None:
        if is_sharded(target):
            self.shards.end(target, moved)
            return
        home = self._homes.pop(target, None)
        following = self._following.pop(target, None)
        if following is not None:
            following.cancel()
        if home is not None and self._members.lives(home.owner):
            self._tell(home.owner.node, {"op": "unwatch", "target": target})

    def ended_here(self, target: str, reason: str) -> bool:
        if is_sharded(target):
            return self.shards.ended_here(target, reason)
        if self._is_claimed(target):
            self._homes.pop(target, None)
            self._remember(target, reason)
            return True
        self._follow(target, reason)
        return False

    def holds(self, watcher: Pid, message: Terminated) -> bool:
        leaving = self._hosting.departing.get(watcher.id.partition("/")[0])
        if leaving is None:
            return False
        self._held.setdefault(watcher.id, {})[message.actor_id] = message.reason
        return self._tasks.start(self._tell_if_it_stays(leaving, watcher, message), "hold") is not None

    async def _tell_if_it_stays(self, leaving: Leaving, watcher: Pid, message: Terminated) -> None:
        """Where it has moved, its new home tells it."""
        try:
            await leaving.over()
        finally:
            self._held.pop(watcher.id, None)
        if watcher.id in self._exchange.inboxes:
            self._deaths().tell(watcher, message)

    def _is_claimed(self, target: str) -> bool:
        """Whether this node owns it, or its root: what ends without a claim has moved, or was lost."""
        return target in self._hosting.owned or target.partition("/")[0] in self._hosting.owned

    # ---- watchers that move

    def packed(self, watcher: str) -> dict[str, Any]:
        """What its new home has to know: by target, where that was (node, incarnation, epoch), or how it ended."""
        packed: dict[str, Any] = {**self._held.get(watcher, {})}
        for target in self._deaths().targets_of(watcher):
            if is_sharded(target):
                packed[target] = [*self._owner(), 0]
                continue
            home, mine = self._homes.get(target), self._hosting.owned.get(target.partition("/")[0])
            if home is not None:
                packed[target] = [*home.owner, home.epoch]
            elif mine is not None:
                packed[target] = [*mine.record.owner, mine.record.epoch]
        return packed

    def unpack(self, watcher: Pid, packed: dict[str, Any]) -> None:
        """Before the watches of an actor that has come are taken up, which is let in within this turn of the loop."""
        for target, what in packed.items():
            if isinstance(what, str):
                self._exchange.loop.call_soon(self._deaths().tell, watcher, Terminated(target, what))
            elif self._deaths().is_watched(target):
                continue
            elif is_sharded(target):
                self.shards.resume(target, str(what[0]))
            else:
                self._homes[target] = Home(Owner(str(what[0]), int(what[1])), int(what[2]))

    def _remember(self, target: str, reason: str) -> None:
        self._ends[target] = reason
        self._ends.move_to_end(target)
        while len(self._ends) > REMEMBERED:
            self._ends.popitem(last=False)

    async def _how(self, target: str, home: Home | None) -> str:
        """How an actor has ended that was there when its watcher set out."""
        answer = None
        if home is not None and home.owner == self._owner():
            answer = self._ends.get(target)
        elif home is not None and self._members.lives(home.owner):
            try:
                answer = await self._ask(home.owner.node, {"op": "how", "target": target})
            except (CajunError, TimeoutError) as error:
                log.info("how actor %r has ended is not known: %s", target, error)
        if home is not None and home.owner != self._owner() and not self._members.lives(home.owner):
            return NODE_LOST
        return FAILED if answer == FAILED else STOPPED

    def renew(self) -> None:
        """This node is back under another incarnation: the homes have forgotten what the one before watched."""
        self.shards.renew()
        for target in list(self._homes):
            self._follow(target, NODE_LOST)

    # ---- following one target

    def _follow(self, target: str, reason: str = NOT_FOUND) -> None:
        """Find out where it is and take up the watch there; ``reason``: what to tell if it is nowhere."""
        if self._following.get(target) is None:
            task = self._tasks.start(self._take_up(target, reason), f"watch {target}")
            self._following[target] = task
            if task is not None:
                task.add_done_callback(lambda done: self._followed(target, done))

    def _followed(self, target: str, task: asyncio.Task[None]) -> None:
        if self._following.get(target) is task:
            del self._following[target]

    async def _take_up(self, target: str, reason: str) -> None:
        backoff = self._backoff()
        waited = 0.0
        while self._deaths().is_watched(target):
            try:
                verdict = await self._look(target, reason)
            except (CajunError, TimeoutError) as error:
                log.info("actor %r is not watched yet: %s", target, error)
                await asyncio.sleep(backoff.next())
                continue
            if verdict is None:
                return
            if (
                verdict == reason
                and reason in (NOT_FOUND, RESUMED)
                and waited < PATIENCE
                and await self._exists(target)
            ):
                pause = backoff.next()
                waited += pause
                await asyncio.sleep(pause)
                continue
            if verdict == RESUMED:
                verdict = await self._how(target, self._homes.get(target))
            self._homes.pop(target, None)
            self._deaths().terminated(target, verdict)
            return

    async def _exists(self, target: str) -> bool:
        standing = await self._locator.locate(target)
        return standing is not None and standing.actor_id == target

    async def _look(self, target: str, reason: str) -> str | None:
        """None: the watch is taken up, at its home or here; else why it is over."""
        standing = await self._locator.locate(target, fresh=True)
        if standing is None:
            return reason
        owner, known = standing.record.owner, self._homes.get(target)
        if known is None and reason != NOT_FOUND and adopted_at(standing.record) == standing.record.epoch:
            return NODE_LOST  # a copy of this node has ended because another node has started it anew
        if known is not None and not continues(known, standing):
            return NODE_LOST if adopted_at(standing.record) > known.epoch else reason
        if not self._members.lives(owner):
            return NODE_LOST
        if owner == self._owner():
            return None if self._is_here(target) else reason
        request = {"op": "watch", "target": target, "node": self._owner().node}
        if not await self._ask(owner.node, request):
            return reason
        if not self._members.lives(owner):
            return NODE_LOST
        self._homes[target] = Home(owner, standing.record.epoch)
        return None

    def _is_here(self, target: str) -> bool:
        inbox = self._exchange.inboxes.get(target)
        return inbox is not None or self._hosting.is_starting(target)

    async def _ask(self, node: str, request: dict[str, Any]) -> Any:
        return await self._exchange.pid(deaths_id(node)).ask(request, timeout=ASK_TIMEOUT)

    def node_left(self, record: NodeRecord) -> None:
        """That life of a node is over: its actors are lost, unless they had moved before."""
        owner = record.owner
        self.shards.node_left(record)
        for target, home in list(self._homes.items()):
            if home.owner == owner:
                self._follow(target, NODE_LOST)
        for target, nodes in list((self._watched_by or {}).items()):
            nodes.discard(owner.node)
            if not nodes and self._watched_by is not None:
                del self._watched_by[target]

    def on_moved(self, actor_id: str, standing: Standing | None) -> None:
        """The directory's watch: a new owner that took it over with its state goes on being watched."""
        home = self._homes.get(actor_id)
        if home is None or standing is None or standing.record.owner == home.owner:
            return
        if continues(home, standing) and self._members.lives(home.owner):
            self._homes[actor_id] = Home(standing.record.owner, standing.record.epoch)
            self._follow(actor_id, NODE_LOST)

    # ---- the system actor: watchers of other nodes

    def receive(self, message: Any, context: Any) -> Any:
        """One request or report."""
        match message:
            case {
                "op": "watch",
                "target": str(target),
                "node": str(node),
                "inc": int(inc),
                "again": bool(again),
            }:
                return self.shards.on_watch(target, node, inc, again, message.get("from"))
            case {"op": "how", "target": str(target)}:
                return self._ends.get(target)
            case {"op": "watch", "target": str(target), "node": str(node)}:
                return self._on_watch(target, node)
            case {"op": "unwatch", "target": str(target), "node": str(node)}:
                return self._on_unwatch(target, node)
            case {"op": "ended", "target": str(target), "reason": str(reason), "claimed": bool(claimed)}:
                return self._on_ended(target, reason, claimed)
        raise ProtocolError(f"not a word about deaths: {message!r:.200}")

    def _on_watch(self, target: str, node: str) -> bool:
        if not self._is_here(target):
            return False
        if self._watched_by is None:
            self._watched_by = {}
            self._on_first(self._report)
        self._watched_by.setdefault(target, set()).add(node)
        return True

    def _on_unwatch(self, target: str, node: str) -> None:
        if is_sharded(target):
            self.shards.on_unwatch(target, node)
            return
        nodes = (self._watched_by or {}).get(target)
        if nodes is not None and self._watched_by is not None:
            nodes.discard(node)
            if not nodes:
                del self._watched_by[target]

    def _report(self, target: str, reason: str) -> None:
        """An actor of this node has ended."""
        nodes = (self._watched_by or {}).pop(target, None)
        if nodes:
            self._remember(target, reason)
            report = {"op": "ended", "target": target, "reason": reason, "claimed": self._is_claimed(target)}
            for node in nodes:
                self._tell(node, report)

    def _on_ended(self, target: str, reason: str, claimed: bool) -> None:
        if is_sharded(target):
            self.shards.on_ended(target, reason)
            return
        if not self._deaths().is_watched(target):
            return
        if claimed:
            self._homes.pop(target, None)
            self._deaths().terminated(target, reason)
        else:
            self._follow(target, reason)

    def _tell(self, node: str, message: dict[str, Any]) -> None:
        try:
            self._exchange.pid(deaths_id(node)).tell(
                {**message, "node": self._owner().node}, guarantee=DeliveryGuarantee.AT_LEAST_ONCE
            )
        except CajunError as error:
            log.warning("node %r is not told of %r: %s", node, message, error)


def continues(home: Home, standing: Standing) -> bool:
    """Whether what the record tells of is the life that was watched: the same, or handed over with its state."""
    record = standing.record
    if record.epoch == home.epoch:
        return record.owner == home.owner
    return record.epoch > home.epoch >= adopted_at(record)
