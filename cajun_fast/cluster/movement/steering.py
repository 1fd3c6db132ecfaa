"""What the manager offers of moves: one actor, all of a node, and who takes new ones.

Laws: the node that owns an actor moves it; this room finds that node and waits for what it says. What was
asked is answered by what is: where an answer was lost, the directory is read. A drain moves several at once,
tries other nodes where one refuses, goes round again while that helps, and ends in bounded time with the name
of each actor that is left and why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cajun_fast._core.rendezvous import get_top_nodes
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.host import decode_answer
from cajun_fast.cluster.movement.results import (
    CordonResult,
    DrainProgress,
    DrainResult,
    MigrationResult,
    Outcome,
    Stayed,
)
from cajun_fast.cluster.movement.world import mover_id
from cajun_fast.cluster.steps import Steps
from cajun_fast.errors import (
    ActorNotFoundError,
    AskTimeoutError,
    CajunError,
    ConfigError,
    NodeUnavailableError,
    OutcomeUnknownError,
    ProtocolError,
)

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

log = logging.getLogger("cajun_fast.cluster")

#: Seconds for an answer that needs no work; seconds between two rounds of a drain; rounds without progress.
ANSWER, ROUND, FRUITLESS = 5.0, 0.2, 5
#: Nodes that are tried for one actor.
CANDIDATES = 5

Tell = Callable[[DrainProgress], None]


class Steering:
    """See the module's laws."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ask(self, node_id: str, request: Mapping[str, Any], timeout: float) -> Any:
        """Ask a node's mover. Raises NodeUnavailableError for one that does not live, and what it raises."""
        node = self._node
        if node_id != node.owner.node and not await node.members.knows(node_id):
            living = ", ".join(sorted(node.members.nodes))
            raise NodeUnavailableError(
                f"no node {node_id!r} lives in this cluster (living: {living})", node_id
            )
        pid = node.exchange.pid(mover_id(node_id))
        return decode_answer(await pid.ask(dict(request), timeout=timeout), pid)

    # ---- one actor

    async def migrate(
        self, actor_id: str, target: str, *, without_state: bool = False, timeout: float = 60.0
    ) -> MigrationResult:
        """See ``ClusterManager.migrate_actor``."""
        node = self._node
        if target != node.owner.node and not await node.members.knows(target):
            living = ", ".join(sorted(node.members.nodes))
            raise NodeUnavailableError(f"no node {target!r} lives in this cluster (living: {living})", target)
        standing = await node.locator.locate(actor_id, fresh=True)
        if standing is None:
            raise ActorNotFoundError(f"no node of the cluster hosts an actor {actor_id!r}", actor_id)
        source = standing.record.owner.node
        request = {"op": "move", "id": actor_id, "to": target, "without_state": without_state}
        try:
            return result_of(await self.ask(source, request, timeout))
        except ActorNotFoundError:
            return await self._what_is(standing, target, "it was not there any more")
        except (OutcomeUnknownError, AskTimeoutError, NodeUnavailableError) as error:
            return await self._what_is(standing, target, str(error))

    async def _what_is(self, before: Standing, target: str, why: str) -> MigrationResult:
        """The answer was lost: what the directory says."""
        actor_id, source = before.actor_id, before.record.owner.node
        standing = await self._node.locator.locate(actor_id, fresh=True)
        if standing is None:
            raise ActorNotFoundError(f"actor {actor_id!r} is gone: {why}", actor_id)
        owner, epoch = standing.record.owner, standing.record.epoch
        if owner.node == target:
            return MigrationResult(
                actor_id, source, target, Outcome.MOVED, why, epoch=epoch, revision=standing.revision
            )
        if standing.revision != before.revision:
            why = f"node {owner.node!r} owns it now: {why}"
            return MigrationResult(actor_id, owner.node, target, Outcome.STAYED, why, epoch=epoch)
        return MigrationResult(actor_id, source, target, Outcome.UNKNOWN, why, epoch=epoch)

    # ---- a node

    async def cordon(self, node_id: str, on: bool) -> CordonResult:
        """See ``ClusterManager.cordon_node``."""
        answer = await self.ask(node_id, {"op": "cordon", "on": on}, ANSWER)
        return CordonResult(node_id, bool(answer["cordoned"]), bool(answer["changed"]))

    def drain(
        self,
        node_id: str,
        *,
        without_state: bool = False,
        moves_at_once: int | None = None,
        timeout: float | None = None,
    ) -> Steps[DrainProgress, DrainResult]:
        """See ``ClusterManager.drain_node``."""
        settings = self._node.config.movement
        drain = Drain(
            self,
            self._node,
            node_id,
            without_state=without_state,
            moves_at_once=settings.moves_at_once if moves_at_once is None else moves_at_once,
            timeout=settings.drain_timeout if timeout is None else timeout,
        )
        return Steps(drain.run, lambda step: step.phase)


class Drain:
    """One drain; see the module's laws."""

    def __init__(
        self,
        steering: Steering,
        node: Node,
        node_id: str,
        *,
        without_state: bool,
        moves_at_once: int,
        timeout: float,
    ) -> None:
        if moves_at_once < 1:
            raise ConfigError(f"moves_at_once={moves_at_once!r}: give 1 or more")
        self._steering = steering
        self._node = node
        self._node_id = node_id
        self._without_state = without_state
        self._moves_at_once = moves_at_once
        self._timeout = timeout
        self._to: Counter[str] = Counter()
        self._stayed: dict[str, str] = {}
        self._moving = 0
        self._left = 0
        self._revision = 0

    async def run(self, tell: Tell) -> DrainResult:
        """Cordon, move, settle. Raises NodeUnavailableError for a node that does not live."""
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._end = self._began + self._timeout
        self._teller = tell
        await self._steering.cordon(self._node_id, True)
        self._tell("cordon")
        reason = await self._rounds() or await self._shards()
        self._tell("settle")
        await self._settle()
        self._tell("done")
        stayed = tuple(Stayed(actor_id, why) for actor_id, why in sorted(self._stayed.items()))
        return DrainResult(
            self._node_id,
            complete=not reason and not stayed,
            moved=self._to.total(),
            stayed=stayed,
            seconds=self._loop.time() - self._began,
            reason=reason or (f"{len(stayed)} actors cannot move" if stayed else ""),
            to=dict(self._to),
        )

    # ---- moving

    async def _rounds(self) -> str:
        """Until nothing is left that can move; why it ended before."""
        fruitless = 0
        while True:
            ids = await self._owned()
            self._stayed = {each: why for each, why in self._stayed.items() if each in ids}
            self._tell("move")
            if not ids:
                return ""
            if self._loop.time() >= self._end:
                for each in ids:
                    self._stayed.setdefault(each, "its turn did not come in time")
                return f"{len(ids)} actors are left after {self._timeout:g} s"
            if not self._hosts():
                self._stayed = dict.fromkeys(ids, "no other node takes actors")
                return "no other node takes actors"
            before = self._to.total()
            line = iter(ids)
            async with asyncio.TaskGroup() as group:
                for _ in range(self._moves_at_once):
                    group.create_task(self._move_all(line))
            fruitless = 0 if self._to.total() > before else fruitless + 1
            if fruitless >= FRUITLESS:
                return ""
            if fruitless:
                await asyncio.sleep(min(ROUND * fruitless, max(0.0, self._end - self._loop.time())))

    async def _shards(self) -> str:
        """Wait until the leader has had its shards moved, as a cordoned node's are; why it ended before."""
        sharding = self._node.sharding
        while left := sharding.shards_of(self._node_id):
            if self._loop.time() >= self._end:
                return f"{left} shards are left after {self._timeout:g} s: no other node hosts their type, or is free"
            await asyncio.sleep(ROUND)
        return ""

    async def _owned(self) -> list[str]:
        """Ids of what the node hosts, as it says itself."""
        ids: list[str] = []
        while True:
            answer = await self._steering.ask(
                self._node_id, {"op": "owned", "after": ids[-1] if ids else ""}, ANSWER
            )
            page = [str(each) for each in answer["ids"]]
            ids += page
            if len(page) == int(answer["left"]):
                self._left = len(ids)
                return ids

    async def _move_all(self, line: Iterator[str]) -> None:
        for actor_id in line:  # shared with the others: each id is one's
            left = self._end - self._loop.time()
            if left <= 0:
                return
            self._moving += 1
            try:
                await self._try_nodes(actor_id, left)
            finally:
                self._moving -= 1
                self._tell("move")

    async def _try_nodes(self, actor_id: str, left: float) -> None:
        reason = "no other node takes actors"
        for target in self._candidates(actor_id):
            try:
                result = await self._steering.migrate(
                    actor_id, target, without_state=self._without_state, timeout=left
                )
            except ActorNotFoundError:
                self._stayed.pop(actor_id, None)
                return  # it has ended by itself
            except CajunError as error:
                reason = str(error)
                continue
            if result.moved:
                self._to[target] += 1
                self._left -= 1
                self._revision = max(self._revision, result.revision)
                self._stayed.pop(actor_id, None)
                return
            reason = result.reason
        self._stayed[actor_id] = reason

    def _hosts(self) -> list[str]:
        return [record.node for record in self._node.members.hosts() if record.node != self._node_id]

    def _candidates(self, actor_id: str) -> Sequence[str]:
        hosts = self._hosts()
        return get_top_nodes(actor_id, hosts, min(CANDIDATES, len(hosts))) if hosts else ()

    # ---- afterwards

    async def _settle(self) -> None:
        """What is in flight at the node ends, and every member has heard where its actors live now."""
        timeout = max(0.1, min(ANSWER, self._end - self._loop.time()))
        await asyncio.gather(
            *(self._told(member, timeout) for member in self._node.members.nodes), self._quiet(timeout)
        )

    async def _told(self, member: str, timeout: float) -> None:
        """Wait until a member's watch has come so far; one that does not say so is told by refusals."""
        try:
            request = {"op": "seen", "revision": self._revision, "timeout": timeout}
            await self._steering.ask(member, request, timeout + 1.0)
        except CajunError as error:
            log.info(
                "whether node %r knows where the actors of %r are is not known: %s",
                member,
                self._node_id,
                error,
            )

    async def _quiet(self, timeout: float) -> None:
        try:
            await self._steering.ask(self._node_id, {"op": "quiet", "timeout": timeout}, timeout + 1.0)
        except CajunError as error:
            log.info("what is in flight at node %r is not known: %s", self._node_id, error)

    def _tell(self, phase: str) -> None:
        self._teller(
            DrainProgress(
                self._node_id,
                phase,
                moved=self._to.total(),
                stayed=len(self._stayed),
                moving=self._moving,
                left=max(0, self._left),
                seconds=self._loop.time() - self._began,
            )
        )


def result_of(tree: Any) -> MigrationResult:
    """What a node says of a move. Raises ProtocolError for what cannot be read."""
    try:
        return MigrationResult(**{**tree, "outcome": Outcome(tree["outcome"])})
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"the result of a move cannot be read: {tree!r:.200}") from exc
