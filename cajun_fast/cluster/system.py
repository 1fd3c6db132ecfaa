"""ClusterActorSystem: what a user holds of one member of a cluster.

Laws: a face over ``Node``, which has the parts; here arguments are checked, so that an error is raised where
the user stands. Before ``start`` and after ``stop`` every use raises NotRunningError.
"""

from __future__ import annotations

import asyncio
import enum
import importlib
import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Self

from cajun_fast._core.lane import Exchange, Pid
from cajun_fast._core.turns import Dispatcher
from cajun_fast.actors.dead_letters import DeadLetters
from cajun_fast.actors.groups import Group
from cajun_fast.actors.ids import check_id, random_ids
from cajun_fast.actors.registry import Registry, registry, type_of
from cajun_fast.clock import Clock
from cajun_fast.cluster.events import EventLog
from cajun_fast.cluster.fate import Fates
from cajun_fast.cluster.host import decode_answer, host_id
from cajun_fast.cluster.inspector import Inspector
from cajun_fast.cluster.manager import ClusterManager
from cajun_fast.cluster.metrics import ClusterMetrics
from cajun_fast.cluster.movement.steering import Steering
from cajun_fast.cluster.node import Node
from cajun_fast.cluster.placement import choose_new
from cajun_fast.cluster.settings import store_of
from cajun_fast.cluster.shards.face import ShardedType
from cajun_fast.cluster.shards.ids import check_unsharded, is_sharded
from cajun_fast.config import ClusterConfig, NodeAddress
from cajun_fast.discovery.base import Discovery
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    ActorNotFoundError,
    ConfigError,
    NodeUnavailableError,
    NotRunningError,
)
from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.messaging.hearts import SocketHearts
from cajun_fast.messaging.liveness import Liveness
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.persistence import Persistence
from cajun_fast.ports import Ports

log = logging.getLogger("cajun_fast.cluster")
Target = Callable[..., Any]


class Life(enum.Enum):
    """Of a system."""

    NEW = "not started: enter it with `async with`, or await start()"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped: make a new one"


class ClusterActorSystem:
    """One member of a cluster. Made by ``ClusterFactory.create_cluster_system``; an async context manager."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        ports: Ports | None = None,
        store: MetadataStore | None = None,
        types: Registry | None = None,
        persistence: Persistence | None = None,
    ) -> None:
        """``ports``: time, chance and network, where a test hands in its own. ``store``, ``persistence``:
        instead of the configured ones.

        Raises ConfigError for a store URL that nothing serves. Nothing is opened before ``start``.
        """
        self.config = config
        self._ports = ports or Ports(network=SocketNetwork(), hearts=SocketHearts())
        self._types = types or registry
        self._life = Life.NEW
        self._node = Node(
            config,
            self._ports,
            store or store_of(config, self._ports),
            self._types,
            _version(),
            persistence,
        )
        self._new_id = random_ids(self._ports.random)
        self._stopped: asyncio.Future[None] | None = None

    # ---- life

    async def start(self) -> None:
        """Join the cluster. Raises ConfigError (port in use, node id in use, a module that cannot be
        imported), MetadataStoreUnavailableError; then nothing is left behind.
        """
        if self._life is not Life.NEW:
            raise self._not_running()
        self._import_modules()
        self._life = Life.STARTING
        try:
            await self._node.start()
        except BaseException:
            self._life = Life.STOPPED
            await self._node.stop()
            raise
        self._life = Life.RUNNING
        self._node.actors.view = self
        self.manager = ClusterManager(
            self,
            self._node.store,
            self._node.keys,
            self._node.directory,
            self._node.leadership,
            Steering(self._node),
        )

    def trace_with(self, install: Callable[[Dispatcher], None]) -> None:
        """For ``cajun_fast.metrics.tracing.trace``: call ``install`` with the dispatcher, now or once there is one, to
        set its exchange's tracer. Raises NotRunningError once the system has stopped.
        """
        if self._life is Life.NEW:
            self._node.tracers.append(install)
        else:
            install(self._running.actors.dispatcher)

    async def join_cluster(self, *discoveries: Discovery) -> Mapping[str, NodeAddress]:
        """Join, unless that was done: ``start``. Asks ``discoveries`` and the configured one where nodes are, now and
        again from then on. Returns the living nodes with their addresses, this one among them.

        Raises what ``start`` raises. A discovery that cannot be asked is logged, and asked again.
        """
        if self._life is Life.NEW:
            await self.start()
        finder = self._running.finder
        finder.add(discoveries)
        await finder.look()
        return self.known_nodes

    def _import_modules(self) -> None:
        for module in self.config.imports:
            try:
                importlib.import_module(module)
            except ImportError as exc:
                raise ConfigError(
                    f"module {module!r} of setting imports={list(self.config.imports)!r} cannot be "
                    f"imported: {exc}; "
                    "correct the name, or add its folder to PYTHONPATH"
                ) from exc

    async def stop(self) -> None:
        """Leave the cluster in order. A second call waits for the first; before a start it does nothing."""
        if self._life is Life.RUNNING:
            self._life = Life.STOPPING
            self._stopped = asyncio.get_running_loop().create_future()
            try:
                await self._node.stop()
            finally:
                self._life = Life.STOPPED
                self._stopped.set_result(None)
        elif self._life is Life.STOPPING and self._stopped is not None:
            await asyncio.shield(self._stopped)
        elif self._life is Life.NEW:
            self._life = Life.STOPPED

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _not_running(self) -> NotRunningError:
        return NotRunningError(f"cluster system {self.config.system_id!r} is {self._life.value}")

    @property
    def _running(self) -> Node:
        if self._life is not Life.RUNNING:
            raise self._not_running()
        return self._node

    # ---- what it is

    @property
    def system_id(self) -> str:
        """This node's id."""
        return self.config.system_id

    @property
    def node_id(self) -> str:
        """This node's id."""
        return self.config.system_id

    @property
    def incarnation(self) -> int:
        """Which life of this node id this is."""
        return self._running.owner.incarnation

    @property
    def address(self) -> NodeAddress:
        """What other nodes dial."""
        return self._running.address

    @property
    def known_nodes(self) -> Mapping[str, NodeAddress]:
        """Living nodes by id, this one among them."""
        node = self._running
        nodes = {name: record.address for name, record in node.members.nodes.items()}
        return MappingProxyType({**nodes, node.owner.node: node.address})

    def liveness(self, node_id: str) -> Liveness | None:
        """What this node knows of another one's life, and what carries the link to it; None for an unknown node."""
        return self._running.messaging.liveness(node_id)

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, surely, right now."""
        return self._running.leadership.is_leader

    @property
    def is_fenced(self) -> bool:
        """Whether this node does not know its seat to be its own: its actors stand still until it does."""
        membership = self._running.membership
        return membership.fenced or membership.paused

    @property
    def is_store_available(self) -> bool:
        """Whether the metadata store answers; without it, messages to known actors go on."""
        return self._running.health.available

    @property
    def is_messaging_available(self) -> bool:
        """Whether any other node is heard, of those that there are; judged by heartbeats, so that a short silence
        does not turn it. Without it, actors of this node go on, and it does not lead.
        """
        return not self._running.detector.hears_nobody

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages of this node that reached no handler."""
        return self._node.actors.dead_letters

    @property
    def metrics(self) -> ClusterMetrics:
        """What this node counts and measures; ``metrics.snapshot()`` is all of it."""
        return self._running.metrics

    @property
    def events(self) -> EventLog:
        """What happened here, the last of it: nodes that came and went, elections, outages, movements."""
        return self._node.events

    @property
    def inspector(self) -> Inspector:
        """Answers other members' questions about this node; an answer of one's own: ``inspector.answer``."""
        return self._running.inspector

    @property
    def clock(self) -> Clock:
        """This node's clock."""
        return self._ports.clock

    @property
    def version(self) -> str:
        """Of this package."""
        return self._node.version

    @property
    def fates(self) -> Fates:
        """What became of messages: ``manager.explain`` asks it."""
        return self._running.fates

    @property
    def exchange(self) -> Exchange:
        """The switchboard below."""
        return self._running.exchange

    # ---- actors

    async def register(
        self, target: Target | str, actor_id: str | None = None, /, *args: Any, **kwargs: Any
    ) -> Pid:
        """Start an actor here and make it known to the cluster: a class, a function, or the name of a
        registered type.

        Done when it has started and its id is its own; on a node that stands still for a moment, that waits until it
        goes on. Raises ActorAlreadyExistsError (naming the owner), MetadataStoreUnavailableError (the store does not
        answer, or not what this node has to know before it may act), UnknownActorTypeError, and what its constructor
        and ``pre_start`` raise: then the id is free again.
        """
        node = self._running
        if self.config.client:
            raise ConfigError(
                f"node {self.node_id!r} is a client and hosts no actors: use create_actor_on_node, or drop "
                "as_client()"
            )
        target = self._types.lookup(target).target if isinstance(target, str) else target
        kind = type_of(target)
        name = kind.name if kind is not None and kind.name in self._types.names() else None
        if kind is not None and not node.sharding.offers(kind):
            raise ConfigError(
                f"actor type {kind.name!r} asks for roles {list(kind.roles)}, and node {self.node_id!r} offers "
                f"{list(self.config.roles)}: use create_actor, or give this node the roles"
            )
        actor_id = self._id_for(target, actor_id)
        return await node.host_actor(target, name, actor_id, args, kwargs)

    def _id_for(self, target: Target, actor_id: str | None) -> str:
        if actor_id is None:
            return self._new_id(getattr(target, "__name__", "actor").lower())
        return check_unsharded(check_id(actor_id))

    async def spawn(
        self, target: Target | str, actor_id: str | None = None, /, *args: Any, **kwargs: Any
    ) -> Pid:
        """As ``register``: what ``context.system.spawn`` does in a cluster."""
        return await self.register(target, actor_id, *args, **kwargs)

    async def create_actor_on_node(
        self,
        type_: str | Target,
        actor_id: str,
        node_id: str,
        /,
        *args: Any,
        timeout: float = 15.0,
        **kwargs: Any,
    ) -> Pid:
        """Start an actor of a registered type on another node (or this one); the arguments must be encodable.

        Raises UnknownActorTypeError (not registered there), ActorAlreadyExistsError, NodeUnavailableError (no
        such node), RemoteActorError (its start raised), AskTimeoutError (whether it started is not known).
        """
        node = self._running
        check_unsharded(check_id(actor_id))
        if node_id == self.node_id:
            return await self.register(type_, actor_id, *args, **kwargs)
        name = self._name_of(type_)
        node.health.require(f"creating actor {actor_id!r}")
        if not await node.members.knows(node_id):
            living = ", ".join(sorted(self.known_nodes))
            raise NodeUnavailableError(
                f"no node {node_id!r} lives in this cluster (living: {living})", node_id
            )
        request = {
            "op": "spawn",
            "type": name,
            "id": actor_id,
            "args": node.exchange.encode([list(args), kwargs]),
        }
        host = node.exchange.pid(host_id(node_id))
        decode_answer(await host.ask(request, timeout=timeout), host)
        return node.exchange.pid(actor_id)

    async def create_actor(
        self, type_: str | Target, actor_id: str, /, *args: Any, timeout: float = 15.0, **kwargs: Any
    ) -> Pid:
        """Start an actor of a registered type on a node that can host it: the less loaded of the two that its id
        names first. Its type must be registered there, and the node must offer the roles that the type asks for.

        Raises NodeUnavailableError if no node can, and what ``create_actor_on_node`` raises.
        """
        node = self._running
        check_unsharded(check_id(actor_id))
        name = self._name_of(type_)
        hosts = [record for record in node.members.hosts() if name in record.types]
        if not hosts:
            offers = {record.node: list(record.roles) for record in node.members.hosts()}
            raise NodeUnavailableError(
                f"no living node can host actor type {name!r}: it must be registered there (cajun-fast node --import "
                f"MODULE), and the node must offer the roles that the type asks for (nodes and their roles: {offers})",
                "",
                actor_id,
            )
        chosen = choose_new(actor_id, hosts)
        return await self.create_actor_on_node(name, actor_id, chosen, *args, timeout=timeout, **kwargs)

    def sharded(self, type_: str | Target) -> ShardedType:
        """The actors of a sharded type, by the ids of their entities: ``system.sharded("account").pid("42")``.

        Nothing is registered and nothing is looked up; the actor starts with its first message. Raises ConfigError
        for a type that is registered here and not sharded.
        """
        node = self._running
        name = self._name_of(type_)
        return ShardedType(name, node.sharding, node.exchange, self._types)

    def _name_of(self, type_: str | Target) -> str:
        if isinstance(type_, str):
            return type_
        kind = type_of(type_)
        if kind is None:
            raise ConfigError(
                f"{getattr(type_, '__qualname__', type_)!r} has no name that other nodes know: "
                f'decorate it with @cajun_fast.actor("name")'
            )
        return kind.name

    def pid(self, actor_id: str) -> Pid:
        """A handle on the actor of that id, wherever it lives; whether it exists is not checked."""
        return self._running.exchange.pid(actor_id)

    def route_message(self, actor_id: str, message: Any, guarantee: DeliveryGuarantee | None = None) -> None:
        """``pid(actor_id).tell(message)``: send and go on."""
        self.pid(actor_id).tell(message, guarantee=guarantee)

    async def stop_actor(self, actor_id: str, *, timeout: float = 15.0) -> bool:
        """Stop an actor wherever it lives; done when it is gone and its id is free. False: there is none.

        Raises NodeUnavailableError, MetadataStoreUnavailableError, AskTimeoutError.
        """
        node = self._running
        if is_sharded(actor_id):
            raise ConfigError(
                f"actor {actor_id!r} is sharded, and its next message would start it again: have it call "
                "context.passivate(), or set passivate_after"
            )
        if (
            actor_id in node.hosting.owned or node.actors.cell(actor_id) is not None
        ) and await node.hosting.end(actor_id):
            return True
        standing = await node.locator.locate(actor_id, fresh=True)
        if standing is None or standing.record.owner.node == self.node_id:
            return False
        host = node.exchange.pid(host_id(standing.record.owner.node))
        try:
            return bool(decode_answer(await host.ask({"op": "stop", "id": actor_id}, timeout=timeout), host))
        except ActorNotFoundError:
            return False

    def group(self, topic: str) -> Group:
        """A handle on a topic: what is published to it goes to every actor of the cluster that has subscribed by
        ``context.subscribe(topic)``. Raises ConfigError for a bad name, NotRunningError.
        """
        return self._running.actors.group(topic)

    async def delete_actor_state(self, actor_id: str) -> bool:
        """Forget what is kept of a durable actor: whoever registers it again begins anew. False: there is nothing.

        A stop keeps the state; this is the other thing. Raises ConfigError (no persistence here),
        ActorAlreadyExistsError while the actor is registered anywhere, PersistenceUnavailableError.
        """
        node = self._running
        check_id(actor_id)
        standing = await node.locator.locate(actor_id, fresh=True)
        if standing is not None:
            raise ActorAlreadyExistsError(actor_id, standing.record.owner.node)
        return await node.durable.forget(actor_id)

    def actor_ids(self) -> list[str]:
        """Ids of the actors of this node, without the engine's own."""
        return [
            actor_id for actor_id in self._running.actors.actor_ids() if not actor_id.startswith("cajun:")
        ]

    async def sync_actor_registry(self) -> tuple[int, int]:
        """Put this node's claims back where nobody else took the actor, and stop the copies that lost.

        Happens by itself after an outage of the store. Returns how many stand and how many were lost.
        """
        return await self._running.sync()


class ShardedClusterActorSystem(ClusterActorSystem):
    """A member with a stated number of shards; ``ClusterConfig.Builder.with_sharding`` does the same."""

    def __init__(self, config: ClusterConfig, shard_count: int = 256, **given: Any) -> None:
        """As ClusterActorSystem. Raises ConfigError for a number of shards that makes no sense."""
        sharding = replace(config.sharding, shard_count=shard_count)
        super().__init__(replace(config, sharding=sharding), **given)


def _version() -> str:
    try:
        return importlib.metadata.version("cajun-fast")
    except importlib.metadata.PackageNotFoundError:
        return "0"
