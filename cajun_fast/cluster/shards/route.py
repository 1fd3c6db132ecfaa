"""The way to a sharded actor: its shard's owner, without a look-up.

Laws: as the router's: each call is answered exactly once, through the lane; waiting is bounded. A lane that is bound
stays bound until the old home refuses: the refusal names the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from cajun_fast._core.lane import Exchange, Lane
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards.ids import root_of, type_of_id
from cajun_fast.cluster.shards.table import ShardTable
from cajun_fast.errors import ActorNotFoundError, NodeUnavailableError

#: Pauses between two tries: the first, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
#: Before an actor of this node that takes nothing is tried again.
LOCAL_PAUSE = 0.01


class Search(Protocol):
    """What is needed of the router: its tasks and links."""

    def bind_node(self, lane: Lane, node: str, durable: bool = False) -> None: ...

    def search(self, lane: Lane, find: Callable[[Lane], Coroutine[Any, Any, None]]) -> None: ...


class ShardRoute:
    """See the module's laws."""

    def __init__(
        self,
        table: ShardTable,
        members: Members,
        exchange: Exchange,
        owner: Callable[[], Owner],
        search: Search,
        now_ns: Callable[[], int],
        *,
        start_timeout: float,
        rehost_timeout: float,
    ) -> None:
        self._table = table
        self._members = members
        self._exchange = exchange
        self._owner = owner
        self._search = search
        self._now_ns = now_ns
        self._start_timeout = start_timeout
        self._rehost_timeout = rehost_timeout

    def resolve(self, lane: Lane) -> None:
        """Find the way; answers through the lane, at once or later."""
        if lane.refusals or lane.inbox is not None or not self._at_once(lane):
            self._search.search(lane, self._find)

    def new_home(self, actor_id: str) -> str | None:
        """The node to name in a refusal."""
        record = self._table.of_actor(actor_id)
        return None if record is None or record.owner == self._owner() else record.owner.node

    def _at_once(self, lane: Lane) -> bool:
        record = self._table.of_actor(lane.target)
        if record is None:
            return False
        if record.owner == self._owner():
            inbox = self._exchange.find_inbox(lane.target)
            if inbox is None:
                return False
            if lane.inbox is None:  # its start has bound it already, else
                lane.bind_inbox(inbox)
            return True
        if not self._members.lives(record.owner):
            return False
        self._bind(lane, record.owner.node)
        return True

    def _bind(self, lane: Lane, node: str) -> None:
        record, target = self._members.get(node), lane.target
        known = (
            record is not None and type_of_id(target) in record.durable
        )  # of children its type says nothing
        self._search.bind_node(lane, node, known and root_of(target) == target)

    async def _find(self, lane: Lane) -> None:
        began = self._now_ns()
        refused = lane.refusals
        if refused and self._follow_hint(lane):
            return
        if lane.inbox is not None:  # it is here, but takes nothing just now: frozen, or about to end
            await asyncio.sleep(LOCAL_PAUSE)
        elif refused:
            await asyncio.sleep(pause_after(refused))
        tries = 0
        while not self._try_again(lane):
            waited = (self._now_ns() - began) / 1e9 + pauses_before(refused)
            self._check_patience(lane, waited)
            tries += 1
            await self._wait(lane, pause_after(tries))

    def _try_again(self, lane: Lane) -> bool:
        if lane.inbox is not None:
            lane.bind_inbox(lane.inbox)
            return True
        limit = self._start_timeout if root_of(lane.target) != lane.target else self._rehost_timeout
        return pauses_before(lane.refusals) < limit and self._at_once(lane)

    def _follow_hint(self, lane: Lane) -> bool:
        """The refusing node has said where to: try that, every other time at most."""
        hint, lane.hint = lane.hint, None
        if (
            hint is None
            or lane.refusals % 2 == 0
            or hint == self._owner().node
            or self._members.get(hint) is None
        ):
            return False
        self._bind(lane, hint)
        return True

    async def _wait(self, lane: Lane, seconds: float) -> None:
        place = self._table.place(lane.target)
        if place is None:
            await asyncio.sleep(seconds)
        else:
            await self._table.changed(place, seconds)

    def _check_patience(self, lane: Lane, waited: float) -> None:
        """Raise what is to be told once the time is over."""
        target, type_name = lane.target, type_of_id(lane.target)
        record = self._table.of_actor(target)
        if record is None and not self._is_hosted(type_name):
            if waited >= self._start_timeout:
                raise NodeUnavailableError(
                    f"no living node hosts sharded type {type_name!r}, so actor {target!r} cannot start: start one "
                    f"that imports the module which registers it, @actor({type_name!r}, sharded=True), and offers "
                    "the roles that it asks for",
                    "",
                    target,
                )
            return
        here = record is not None and record.owner == self._owner()
        if root_of(target) != target and (here or lane.refusals) and waited >= self._start_timeout:
            raise ActorNotFoundError(f"sharded actor {root_of(target)!r} has no child {target!r}", target)
        if waited >= self._rehost_timeout:
            node = record.owner.node if record is not None else ""
            raise NodeUnavailableError(
                f"the shard of actor {target!r} is owned by node {node!r}, which did not take it within "
                f"{self._rehost_timeout:g} s: it is lost, hands over, or cannot start it",
                node,
                target,
            )

    def _is_hosted(self, type_name: str) -> bool:
        return any(type_name in record.sharded for record in self._members.nodes.values())


def pause_after(tries: int) -> float:
    """Seconds before the next try."""
    return float(min(FIRST_PAUSE * 2.0 ** max(0, min(tries, 16) - 1), LONGEST_PAUSE))


def pauses_before(refusals: int) -> float:
    """Seconds that the pauses before this refusal took together."""
    return sum(pause_after(earlier) for earlier in range(1, refusals))
