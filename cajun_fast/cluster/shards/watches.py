"""Death watch of sharded actors: who is told of their ends, on this node and on others.

    watcher's node ── watch ──▶ owner of the shard        (by the table; again where the shard has gone)
                   ◀── ended ── owner of the shard        (with the reason)

Laws: an id is watched, not one life of it. A watch starts nobody and asks no store; passivation and a hand-over are no
ends. The owner of a shard knows who watches its actors, and a hand-over sends that ahead, so that no end is missed
between two owners. An owner that got the shard in another way knows of no watchers: what was before it is lost.
Whether an owner is lost or has left in order, the members say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from cajun_fast._core.lane import Exchange
from cajun_fast.actors.deaths import MOVED, NODE_LOST, NOT_FOUND, PASSIVATED, STOPPED, Deaths
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.shards.ids import is_sharded, root_of, type_of_id
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.shards.table import Place, ShardTable
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import CajunError

log = logging.getLogger("cajun_fast.cluster")

#: Seconds for which a type that no living node hosts may be on its way.
PATIENCE = 3.0
#: What an owner answers: the watch stands; the shard is not its own, or about to go; it was to go on and is not known;
#: there is no such child.
STANDS, ELSEWHERE, UNKNOWN, ABSENT = "stands", "elsewhere", "unknown", "absent"
#: Verdict of a look that has settled nothing.
LATER = "later"
#: Seconds that the owner is left in the belief that this node watches, after the last watcher has moved to another one.
LINGER = 10.0

#: Watchers by target: nodes, each with the incarnation that watches.
Watchers = dict[str, dict[str, int]]


class ShardWatches:
    """See the module's laws."""

    def __init__(
        self,
        exchange: Exchange,
        table: ShardTable,
        members: Members,
        owner: Callable[[], Owner],
        keeps: Callable[[Place], bool],
        deaths: Callable[[], Deaths],
        backoff: Callable[[], Backoff],
        on_first: Callable[[Callable[[str, str], None]], None],
        ask: Callable[[str, dict[str, Any]], Awaitable[Any]],
        tell: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """``keeps``: whether a shard is this node's and stays; ``on_first``: has a function called for each actor that
        ends here; ``ask``, ``tell``: words to the watcher of deaths of a node.
        """
        self._exchange = exchange
        self._table = table
        self._members = members
        self._owner = owner
        self._keeps = keeps
        self._deaths = deaths
        self._backoff = backoff
        self._on_first = on_first
        self._ask = ask
        self._tell = tell
        #: What is watched from here, with the record of the shard under which the watch stands; None: it does not yet.
        self._homes: dict[str, ShardRecord | None] = {}
        self._targets: dict[Place, set[str]] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        #: The node from which a watcher has come that watched it there.
        self._from: dict[str, str] = {}
        #: Who watches actors of this node's shards; this node among them.
        self._watchers: dict[Place, Watchers] = {}
        self._listens = False
        self._tasks = Tasks("deaths of sharded actors")

    async def stop(self) -> None:
        await self._tasks.stop()

    # ---- watchers of this node

    def begin(self, target: str) -> None:
        """Somebody here watches it from now on."""
        self._homes[target] = None
        self._follow(target)

    def resume(self, target: str, node: str) -> None:
        """A watcher is about to come from that node, and has watched it there."""
        self._from[target] = node

    def end(self, target: str, moved: bool) -> None:
        """Nobody here watches it any more; ``moved``: the last who did is about to do so on another node."""
        self._forget(target)
        if moved:
            self._tasks.start(self._end_later(target), f"end {target}")
        else:
            self._unwatch(target)

    async def _end_later(self, target: str) -> None:
        await asyncio.sleep(LINGER)
        if target not in self._homes:
            self._unwatch(target)

    def _unwatch(self, target: str) -> None:
        record = self._table.of_actor(target)
        if record is None:
            return
        owner = self._owner()
        if record.owner == owner:
            self.on_unwatch(target, owner.node)
        elif self._members.lives(record.owner):
            self._tell(record.owner.node, {"op": "unwatch", "target": target})

    def ended_here(self, target: str, reason: str) -> bool:
        """Whether that was an end that watchers are told of."""
        if reason in (PASSIVATED, MOVED):
            return False
        self._forget(target)
        return True

    def on_ended(self, target: str, reason: str) -> None:
        """The owner of its shard says so."""
        if target in self._homes:
            self._terminated(target, reason)

    def renew(self) -> None:
        """This node is back under another incarnation: others may have forgotten its watches."""
        for target, home in list(self._homes.items()):
            if home is not None and home.owner.node != self._owner().node:
                self._follow(target)

    def _terminated(self, target: str, reason: str) -> None:
        self._forget(target)
        self._deaths().terminated(target, reason)

    def _forget(self, target: str) -> None:
        self._homes.pop(target, None)
        self._from.pop(target, None)
        following = self._following.pop(target, None)
        if following is not None and following is not asyncio.current_task():
            following.cancel()
        place = self._table.place(target)
        targets = self._targets.get(place) if place is not None else None
        if targets is not None and place is not None:
            targets.discard(target)
            if not targets:
                del self._targets[place]

    # ---- taking up a watch

    def _follow(self, target: str) -> None:
        """Have it stand at the owner of the shard, whoever that is."""
        if target in self._following:
            return
        task = self._tasks.start(self._take_up(target), f"watch {target}")
        if task is not None:
            self._following[target] = task
            task.add_done_callback(lambda done: self._followed(target, done))

    def _followed(self, target: str, task: asyncio.Task[None]) -> None:
        if self._following.get(target) is task:
            del self._following[target]

    async def _take_up(self, target: str) -> None:
        backoff = self._backoff()
        patience_ends = self._exchange.loop.time() + PATIENCE
        while target in self._homes:
            place = self._table.place(target)
            if place is not None:
                self._targets.setdefault(place, set()).add(target)
            try:
                verdict = await self._look(target, self._exchange.loop.time() >= patience_ends)
            except (CajunError, TimeoutError) as error:
                log.info("sharded actor %r is not watched yet: %s", target, error)
                verdict = LATER
            if verdict is None:
                return
            if verdict != LATER:
                self._terminated(target, verdict)
                return
            if place is None:
                await asyncio.sleep(backoff.next())
            else:
                await self._table.changed(place, backoff.next())

    async def _look(self, target: str, is_late: bool) -> str | None:
        """None: the watch stands; else why it is over, or LATER."""
        record, me = self._table.of_actor(target), self._owner()
        if record is None:
            hosted = any(type_of_id(target) in each.sharded for each in self._members.nodes.values())
            return NOT_FOUND if is_late and self._table.in_sync and not hosted else LATER
        before = self._from.get(target)
        goes_on = self._homes[target] is not None or before is not None
        if record.owner == me:
            answer = self.on_watch(target, me.node, me.incarnation, goes_on, before)
        elif self._members.lives(record.owner):
            answer = await self._ask(
                record.owner.node,
                {
                    "op": "watch", "target": target, "node": me.node, "inc": me.incarnation, "again": goes_on,
                    "from": before,
                },
            )  # fmt: skip
        else:
            return LATER
        if answer == STANDS and target in self._homes:
            return self._stands(target, record)
        if answer == UNKNOWN:
            return NODE_LOST
        if answer == ABSENT:
            return STOPPED if goes_on else NOT_FOUND
        return LATER

    def _stands(self, target: str, record: ShardRecord) -> str | None:
        """The owner under that record has it; which may be out of date by now."""
        self._homes[target] = home = record
        self._from.pop(target, None)
        now = self._table.of_actor(target)
        if now is not None and now is not record:
            verdict = self._on_record(target, record, now)
            if verdict is not None:
                return verdict
            home = self._homes[target] or record
        return None if home.owner == self._owner() or self._members.lives(home.owner) else NODE_LOST

    def _on_record(self, target: str, home: ShardRecord, now: ShardRecord) -> str | None:
        """What a new record of the shard means for a watch that stands under ``home``; None: nothing is to be done."""
        me = self._owner().node
        if now.owner == home.owner or now.owner.node == home.owner.node == me:
            self._homes[target] = now
            return None
        if now.move and now.epoch == home.epoch + 1:
            self._homes[target] = now
            return LATER  # handed over, and the watch with it
        if now.move or now.epoch > home.epoch + 1:
            return LATER  # its new owner knows whether it was handed over all the way
        return NODE_LOST if home.owner.node == me else None  # taken from this node; else the members will say

    # ---- what happens elsewhere

    def on_change(self, place: Place, now: ShardRecord | None) -> None:
        """The record of a shard has changed."""
        if now is None:
            return
        if now.owner.node != self._owner().node:
            self._watchers.pop(place, None)
        for target in tuple(self._targets.get(place, ())):
            home = self._homes.get(target)
            verdict = LATER if home is None else self._on_record(target, home, now)
            if verdict == LATER:
                self._follow(target)
            elif verdict is not None:
                self._terminated(target, verdict)

    def node_left(self, record: NodeRecord) -> None:
        """That life of a node is over. What ran on one that left in order has told its watchers."""
        for target, home in list(self._homes.items()):
            if home is None or home.owner != record.owner:
                continue
            if record.leaving:
                self._homes[target] = None
                self._follow(target)
            else:
                self._terminated(target, NODE_LOST)
        for place in list(self._watchers):
            for target, nodes in list(self._watchers[place].items()):
                if nodes.get(record.node) == record.incarnation:
                    self._drop(place, target, record.node)

    # ---- the owner's side

    def on_watch(self, target: str, node: str, incarnation: int, again: bool, before: str | None) -> str:
        """A node wants to be told; ``again``: it has been watching, or the node ``before`` has, from which its watcher
        came.
        """
        place = self._table.place(target)
        if place is None or not self._keeps(place):
            return ELSEWHERE
        if again and not {node, before} & self._watchers.get(place, {}).get(target, {}).keys():
            return UNKNOWN
        if root_of(target) != target and target not in self._exchange.inboxes:
            return ABSENT
        self._add(place, target, {node: incarnation})
        return STANDS

    def on_unwatch(self, target: str, node: str) -> None:
        place = self._table.place(target)
        if place is not None:
            self._drop(place, target, node)

    def _add(self, place: Place, target: str, nodes: Mapping[str, int]) -> None:
        self._watchers.setdefault(place, {}).setdefault(target, {}).update(nodes)
        if not self._listens:
            self._listens = True
            self._on_first(self._report)

    def _drop(self, place: Place, target: str, node: str) -> None:
        targets = self._watchers.get(place, {})
        nodes = targets.get(target, {})
        nodes.pop(node, None)
        if not nodes:
            self._pop(place, target)

    def _pop(self, place: Place, target: str) -> dict[str, int]:
        targets = self._watchers.get(place, {})
        nodes = targets.pop(target, {})
        if not targets:
            self._watchers.pop(place, None)
        return nodes

    def _report(self, target: str, reason: str) -> None:
        """An actor of this node has ended."""
        if not self._watchers or not is_sharded(target) or reason in (PASSIVATED, MOVED):
            return
        place = self._table.place(target)
        if place is not None:
            for node in self._pop(place, target):
                if node != self._owner().node:
                    self._tell(node, {"op": "ended", "target": target, "reason": reason, "claimed": True})

    # ---- a shard that is handed over

    def of(self, places: Iterable[Place]) -> Watchers:
        """Who watches actors of these shards. Children are left out: they end with the hand-over."""
        return {
            target: dict(nodes)
            for place in places
            for target, nodes in self._watchers.get(place, {}).items()
            if root_of(target) == target
        }

    def take(self, place: Place, watchers: Watchers) -> None:
        """The shard has come, with these. Those that were lost meanwhile want nothing."""
        me = self._owner().node
        for target, nodes in watchers.items():
            living = {
                node: incarnation
                for node, incarnation in nodes.items()
                if node == me or self._members.lives(Owner(node, incarnation))
            }
            if living:
                self._add(place, target, living)
