"""Looking at a live cluster and steering it.

Laws: what is listed is read from the store, page by page at one revision, never gathered node by node; a
result says what happened and why, not just whether.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cajun_fast._core.lane import Pid
from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.fate import Fate, MessageId, Noted
from cajun_fast.cluster.follow import entries
from cajun_fast.cluster.host import decode_answer, host_id
from cajun_fast.cluster.inspector import ask_node, ask_nodes
from cajun_fast.cluster.leader import Leadership
from cajun_fast.cluster.movement.results import CordonResult, DrainProgress, DrainResult, MigrationResult
from cajun_fast.cluster.movement.steering import Steering
from cajun_fast.cluster.records import NodeRecord
from cajun_fast.cluster.shards.ids import type_of_id
from cajun_fast.cluster.shards.listing import MOST, QUESTION
from cajun_fast.cluster.steps import Steps
from cajun_fast.config import NodeAddress
from cajun_fast.errors import CajunError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import MetadataStore

if TYPE_CHECKING:
    from cajun_fast.cluster.system import ClusterActorSystem


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A living node. ``actors`` is its own count when it last renewed its record."""

    node: str
    incarnation: int
    address: NodeAddress
    version: str
    is_client: bool
    is_leader: bool
    is_leaving: bool
    #: It takes no new actors: see ``cordon_node``.
    is_cordoned: bool
    roles: tuple[str, ...]
    actors: int
    #: As the asking node sees it: "alive", "stuck", "cut", "silent", "unknown" (no link was wanted yet), or "self".
    state: str
    #: What carries the asking node's link to it: "unix" on the same host, "tcp", "tls", None while nothing does.
    transport: str | None


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """An actor of the directory. ``epoch`` counts its owners; ``type`` is None if only its owner can start
    it.
    """

    actor_id: str
    node: str
    incarnation: int
    epoch: int
    type: str | None


@dataclass(frozen=True, slots=True)
class ActorPage:
    """Part of a listing; ``after`` and ``revision`` go into the next call; ``after`` is None at the end."""

    actors: tuple[ActorInfo, ...]
    revision: int
    after: str | None


@dataclass(frozen=True, slots=True)
class ShardedPage:
    """Part of a listing; ``after`` goes into the next call, None at the end. ``silent``: nodes that did not answer, and
    why; what runs there is missing.
    """

    actors: tuple[ActorInfo, ...]
    after: str | None
    silent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ElectionResult:
    """``resigned``: whether the leader of before has stepped down; ``reason`` says what happened."""

    resigned: bool
    previous: str | None
    reason: str


class ClusterManager:
    """``system.manager``. Every call raises MetadataStoreUnavailableError when the store does not answer."""

    def __init__(
        self,
        system: ClusterActorSystem,
        store: MetadataStore,
        keys: KeySpace,
        directory: Directory,
        leadership: Leadership,
        steering: Steering,
    ) -> None:
        self._system = system
        self._store = store
        self._keys = keys
        self._directory = directory
        self._leadership = leadership
        self._steering = steering

    async def get_cluster_nodes(self) -> list[NodeInfo]:
        """All living nodes, in order of id."""
        leader = await self._leadership.read()
        nodes = [
            NodeRecord.decode(self._keys.node_of(entry.key), entry.value)
            async for entry, _ in entries(self._store, self._keys.nodes)
        ]
        return [
            NodeInfo(
                node=record.node,
                incarnation=record.incarnation,
                address=record.address,
                version=record.version,
                is_client=record.client,
                is_leader=leader is not None and leader.owner == record.owner,
                is_leaving=record.leaving,
                is_cordoned=record.cordoned,
                roles=record.roles,
                actors=record.actors,
                state=state,
                transport=transport,
            )
            for record in nodes
            for state, transport in [self._link_to(record.node)]
        ]

    def _link_to(self, node: str) -> tuple[str, str | None]:
        if node == self._system.node_id:
            return "self", None
        life = self._system.liveness(node)
        return ("unknown", None) if life is None else (str(life.state), life.transport)

    async def get_cluster_actors(
        self,
        *,
        prefix: str = "",
        node: str | None = None,
        limit: int = 1000,
        after: str | None = None,
        revision: int | None = None,
    ) -> ActorPage:
        """Up to ``limit`` actors in order of id, those that start with ``prefix``, owned by ``node`` if
        given.
        """
        found: list[ActorInfo] = []
        while True:
            page = await self._directory.page(prefix, limit=limit, after=after, revision=revision)
            revision = page.revision if revision is None else revision
            for standing in page.actors:
                if node is not None and standing.record.owner.node != node:
                    continue
                found.append(_info(standing))
                if len(found) == limit:
                    more = page.after is not None or standing is not page.actors[-1]
                    return ActorPage(tuple(found), revision, standing.actor_id if more else None)
            after = page.after
            if after is None:
                return ActorPage(tuple(found), revision, None)

    async def get_sharded_actors(
        self,
        *,
        prefix: str = "",
        node: str | None = None,
        type_name: str | None = None,
        limit: int = 1000,
        after: str | None = None,
        timeout: float = 2.0,
    ) -> ShardedPage:
        """Up to ``limit`` (1000 at most) of the sharded actors that run now, in order of id, as their nodes say;
        ``epoch`` is that of the shard. Children are not listed."""
        limit = min(limit, MOST)
        lives = {
            info.node: info.incarnation
            for info in await self.get_cluster_nodes()
            if not info.is_client and node in (None, info.node)
        }
        answers = await self.inspect_nodes(
            QUESTION, nodes=lives, timeout=timeout, prefix=prefix, type=type_name, limit=limit, after=after
        )
        told = {name: each for name, each in answers.items() if not isinstance(each, CajunError)}
        found = sorted(
            (ActorInfo(id, name, lives[name], epoch, type_of_id(id)) for name, answer in told.items()
             for id, epoch in answer["actors"]),
            key=lambda info: info.actor_id,
        )  # fmt: skip
        more = len(found) > limit or any(answer["more"] for answer in told.values())
        page = tuple(found[:limit])
        silent = {name: str(each) for name, each in answers.items() if isinstance(each, CajunError)}
        return ShardedPage(page, page[-1].actor_id if more and page else None, silent)

    async def all_actors(self, *, prefix: str = "", node: str | None = None) -> AsyncIterator[ActorInfo]:
        """Each actor that ``get_cluster_actors`` lists, all pages of it; use it with ``async for``.

        Raises CompactedError if the store forgets the listing's revision before its end (etcd, when it is compacted):
        begin again.
        """
        async for page in self._directory.all(prefix):
            for standing in page:
                if node is None or standing.record.owner.node == node:
                    yield _info(standing)

    async def get_leader(self) -> str | None:
        """Id of the node that leads, None during an election."""
        record = await self._leadership.read()
        return None if record is None else record.owner.node

    async def force_leader_election(self, *, timeout: float = 5.0) -> ElectionResult:
        """Have the present leader step down; the next in line takes over (the same node, if nobody else
        waits).
        """
        leader = await self.get_leader()
        if leader is None:
            return ElectionResult(False, None, "nobody leads: an election is under way already")
        if leader == self._system.node_id:
            resigned = self._leadership.resign()
        else:
            pid = self._system.pid(host_id(leader))
            try:
                resigned = bool(decode_answer(await pid.ask({"op": "resign"}, timeout=timeout), pid))
            except CajunError as error:
                return ElectionResult(False, leader, f"node {leader!r} leads but could not be told: {error}")
        reason = f"node {leader!r} stepped down" if resigned else f"node {leader!r} leads no longer"
        return ElectionResult(resigned, leader, reason)

    async def inspect(self, node: str, question: str, *, timeout: float = 2.0, **arguments: Any) -> Any:
        """What a node says of itself (``report``, ``actor``, ``dead-letters`` …).

        Raises NodeUnavailableError, and what the answer raised there."""
        return await ask_node(self._system.exchange, node, question, arguments, timeout)

    async def inspect_nodes(
        self, question: str, *, nodes: Iterable[str] | None = None, timeout: float = 2.0, **arguments: Any
    ) -> dict[str, Any]:
        """The same of many nodes at once (all that live, if none are named): each answer, or the CajunError instead."""
        asked = self._system.known_nodes if nodes is None else nodes
        return await ask_nodes(self._system.exchange, asked, question, arguments, timeout)

    # ---- moving: see docs/movement.md

    async def migrate_actor(
        self, actor_id: str, target_node_id: str, *, without_state: bool = False, timeout: float = 60.0
    ) -> MigrationResult:
        """Have an actor move to another node, with its state, mailbox, children and timers; senders notice nothing.

        Actors that cannot say their state stay where they are, unless ``without_state``: they begin anew on the other
        node, with their mailbox. The result says what happened and why; whatever happened, the actor has one owner.

        Raises ActorNotFoundError, NodeUnavailableError (no such node), ConfigError (one of the engine's own, a child,
        one that moves already).
        """
        return await self._steering.migrate(
            actor_id, target_node_id, without_state=without_state, timeout=timeout
        )

    async def cordon_node(self, node_id: str) -> CordonResult:
        """From now on no new actors are placed on that node, until ``uncordon_node`` or its next start.

        Raises NodeUnavailableError, AskTimeoutError.
        """
        return await self._steering.cordon(node_id, True)

    async def uncordon_node(self, node_id: str) -> CordonResult:
        """New actors are placed on that node again. Raises as ``cordon_node``."""
        return await self._steering.cordon(node_id, False)

    def drain_node(
        self,
        node_id: str,
        *,
        without_state: bool = False,
        moves_at_once: int | None = None,
        timeout: float | None = None,
    ) -> Steps[DrainProgress, DrainResult]:
        """Cordon a node and move its actors to the others; then it can stop without anybody noticing.

        ``await`` it for its result, or follow it with ``async for``: a DrainProgress after each step, and ``result``
        at the end. Several actors move at once (``movement.moves_at_once``); what cannot move stays, and is named
        with the reason. ``timeout`` defaults to ``movement.drain_timeout``. A drain that is cancelled, or whose loop
        is left, begins no more moves: the node stays cordoned, those under way come to their end, and each actor has
        one owner.

        Raises ConfigError at once for a number that makes no sense; while it runs NodeUnavailableError for a node that
        does not live, or is lost meanwhile.
        """
        return self._steering.drain(
            node_id, without_state=without_state, moves_at_once=moves_at_once, timeout=timeout
        )

    async def explain(self, message_id: MessageId | str, *, timeout: float = 2.0) -> Fate:
        """What became of a message that went to another node: see ``cluster/fate.py``. Every member is asked; those
        that do not answer within ``timeout`` seconds are left out. Raises ValueError for what is no message id.
        """
        wanted = MessageId.parse(message_id) if isinstance(message_id, str) else message_id
        return await self._system.fates.explain(wanted, timeout)

    def last_message_id(self, pid: Pid) -> MessageId | None:
        """Of the last message that this node sent to that actor by its present link: ask right after the ``tell``.

        None: the actor lives here (such a message has no number), or the message waits for its way.
        """
        return self._system.fates.last_id(pid)

    def recent_messages(self, *, target: str | None = None, limit: int = 100) -> list[Noted]:
        """Stages of measured messages that this node's flight recorder has noted, the newest first; of all messages
        while few come, else of one in ``metrics.snapshot().sample_every``."""
        return self._system.fates.noted(False, limit, target)

    def lost_messages(self, *, target: str | None = None, limit: int = 100) -> list[Noted]:
        """Messages that were refused or lost on their way from or to this node, measured or not, the newest first."""
        return self._system.fates.noted(True, limit, target)

    async def count_actors(self) -> Mapping[str, int]:
        """Actors of the directory by node; reads all of it."""
        return Counter([actor.node async for actor in self.all_actors()])


def _info(standing: Standing) -> ActorInfo:
    record = standing.record
    return ActorInfo(
        standing.actor_id, record.owner.node, record.owner.incarnation, record.epoch, record.type
    )
