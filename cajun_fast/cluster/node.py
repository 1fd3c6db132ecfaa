"""One running member: its parts, and the order in which they start and stop.

Laws: parts do not know each other beyond what stands in their constructors (``wiring``); who is told of what stands
in ``news``, what becomes of a node that is not sure of its seat in ``fencing``. A stop runs every step whatever the
others raise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from cajun_fast._core.lane import Exchange, Pid
from cajun_fast._core.turns import Dispatcher
from cajun_fast.actors.registry import Registry
from cajun_fast.cluster import settings, wiring
from cajun_fast.cluster.deaths import ClusterDeaths, deaths_id
from cajun_fast.cluster.durable import DurableActors
from cajun_fast.cluster.events import EventLog
from cajun_fast.cluster.fate import Fates
from cajun_fast.cluster.fencing import Fencing
from cajun_fast.cluster.groups import ClusterGroups, groups_id
from cajun_fast.cluster.host import Host, host_id
from cajun_fast.cluster.hosting import Hosting
from cajun_fast.cluster.inspector import Inspector
from cajun_fast.cluster.links import make_messaging
from cajun_fast.cluster.membership import take_incarnation
from cajun_fast.cluster.metrics import ClusterMetrics
from cajun_fast.cluster.movement.mover import Mover
from cajun_fast.cluster.movement.tombstones import Tombstones
from cajun_fast.cluster.movement.wiring import make_mover
from cajun_fast.cluster.movement.world import mover_id
from cajun_fast.cluster.news import News
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.report import start_inspector
from cajun_fast.cluster.security import security_of, show_security
from cajun_fast.cluster.shards.ids import is_sharded
from cajun_fast.cluster.standstill import Standstill
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.cluster.unanswered import Unanswered
from cajun_fast.config import ClusterConfig, NodeAddress
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    CajunError,
    MetadataStoreError,
)
from cajun_fast.messaging.liveness import PeerState
from cajun_fast.messaging.system import MessagingSystem
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.persistence import Persistence
from cajun_fast.ports import Address, Ports

log = logging.getLogger("cajun_fast.cluster")


class Node:
    """See the module's laws."""

    # what there is from ``start`` on
    exchange: Exchange
    messaging: MessagingSystem
    hosting: Hosting
    mover: Mover
    host: Host
    inspector: Inspector
    deaths: ClusterDeaths
    groups: ClusterGroups

    def __init__(
        self,
        config: ClusterConfig,
        ports: Ports,
        store: MetadataStore,
        types: Registry,
        version: str,
        persistence: Persistence | None = None,
    ) -> None:
        self.config = config
        self.ports = ports
        self.store = store
        self.types = types
        self.version = version
        self.security = security_of(config)
        self.keys = KeySpace(config.cluster_name)
        self.owner = Owner(config.system_id, 0)
        self.bound = Address("", 0)
        self.events = EventLog(ports.clock)
        self.tasks = Tasks(f"node {config.system_id}")
        self._left = False  # in order, and the others are told
        self.news = News(self)
        self.fencing = Fencing(self)
        self._make_parts()
        self.metrics = ClusterMetrics(self)
        self.unanswered = Unanswered(self)
        show_security(self)
        self.fates = Fates(self)
        self.durable = DurableActors(self, persistence)

    def _make_parts(self) -> None:
        """In the order in which they take each other."""
        self.directory = wiring.make_directory(self)
        self.registrar = wiring.make_registrar(self)
        self.locator = wiring.make_locator(self)
        self.tombstones = Tombstones(self.ports.clock.now_ns, settings.tombstone_life(self.config))
        self.members = wiring.make_members(self)
        self.membership = wiring.make_membership(self)
        self.hold = wiring.make_hold(self)
        self.router = wiring.make_router(self)
        self.actors = wiring.make_actors(self)
        #: Called with the dispatcher before any connection is made.
        self.tracers: list[Callable[[Dispatcher], None]] = []
        self.standstill = Standstill(self.actors)
        self.failover = wiring.make_failover(self)
        self.sharding = wiring.make_sharding(self)
        self.leadership = wiring.make_leadership(self)
        self.detector = wiring.make_detector(self)
        self.finder = wiring.make_finder(self)
        self.health = wiring.make_health(self)

    def backoff(self, first: float = 0.05, cap: float = 1.0) -> Backoff:
        """Growing waits by this node's chance."""
        return Backoff(self.ports.random, first, cap)

    # ---- life

    async def start(self) -> None:
        """Come up in order; whoever calls undoes it with ``stop`` if this raises."""
        self.security.load(self.config.system_id)  # before anything is started
        await self.store.connect()
        await self.sharding.agree()
        await self.take_incarnation()
        await self.actors.start()
        self.exchange = self.actors.exchange
        for install in self.tracers:
            install(self.actors.dispatcher)
        await self.open_links(self.config.messaging.port)
        self.hosting = wiring.make_hosting(self)
        self.locator.on_moved = self.news.actor_moved
        self.registrar.start()
        self.mover = make_mover(self)
        await self._start_host()
        await self._start_doors()
        self.router.start(self.exchange, self.messaging, self.owner)
        await self.members.start()
        self.sharding.start(self.actors, self.router)
        self.locator.start()
        await self.membership.enter(self.record())
        if not self.config.client:
            self.leadership.start(self.owner)
        self.health.start()
        self.finder.start()
        self.tasks.start(self._report_load(), "load")
        self.tasks.start(self.durable.look_after(), "durable")
        self.metrics.start()

    async def stop(self) -> None:
        """Go in order; what never started is passed over. Never raises but for cancellation."""
        self.metrics.stop()
        steps: Sequence[tuple[str, Callable[[], Awaitable[Any]]]] = (
            ("shards that move", lambda: self.sharding.depart(self.config.actors.stop_timeout)),
            ("background work", self.tasks.stop),
            ("unanswered asks", self.unanswered.stop),
            ("hold", self.hold.stop),
            ("detector", self.detector.stop),
            ("leadership", self.leadership.stop),
            ("failover", self.failover.stop),
            ("moves", self._stop_moves),
            ("sharded actors", lambda: self.sharding.finish(self.config.actors.stop_timeout)),
            ("actors", self._stop_actors),
            ("errands", self._stop_errands),
            ("shards", self.sharding.stop),
            ("deaths", lambda: self.deaths.stop() if hasattr(self, "deaths") else no_work()),
            ("groups", lambda: self.groups.stop() if hasattr(self, "groups") else no_work()),
            ("durable actors", self.durable.stop),
            ("registrations", self.registrar.stop),
            ("membership", self._leave),
            ("health", self.health.stop),
            ("finder", self.finder.stop),
            ("locator", self.locator.stop),
            ("members", self.members.stop),
            ("router", self.router.stop),
            ("links", self.close_links),
            ("directory", self.directory.stop),
            ("store", self.store.close),
        )
        for name, step in steps:
            try:
                await step()
            except Exception:
                log.exception("stopping node %r: %s", self.owner.node, name)

    async def _stop_moves(self) -> None:
        if hasattr(self, "mover"):
            await self.mover.stop()

    async def _stop_actors(self) -> None:
        if not hasattr(self, "hosting"):
            await self.actors.stop(0.0)
            return
        self.hosting.begin_stop()
        await self.actors.stop(self.config.actors.stop_timeout)
        await self.hosting.stop()

    async def _leave(self) -> None:
        self._left = await self.membership.leave()

    async def _stop_errands(self) -> None:
        if hasattr(self, "host"):
            await self.host.stop()

    async def take_incarnation(self) -> None:
        """The next life of this node."""
        incarnation = await take_incarnation(self.store, self.keys, self.config.system_id)
        self.owner = Owner(self.config.system_id, incarnation)

    async def open_links(self, port: int) -> None:
        """Of this incarnation, at that port."""
        self.exchange.life = self.owner.incarnation
        self.messaging = make_messaging(
            self.config, self.owner, self.actors, self.ports, self.security, self._new_home
        )
        self.messaging.on_suspect = lambda node, incarnation: self.detector.look_at(node)
        self.messaging.on_liveness = lambda node, incarnation, state: self.detector.look_at(node)
        self.bound = await self.messaging.start(self.config.messaging.host, port)

    def _new_home(self, actor_id: str) -> str | None:
        if is_sharded(actor_id):
            return self.sharding.new_home(actor_id)
        root = actor_id.partition("/")[0]
        if self.membership.fenced or root in self.hosting.arriving:
            return self.owner.node  # whose it is is known soon; it comes, by itself or with its parent
        if root in self.hosting.owned:
            return None  # it has come back since, whatever its stone says
        return self.tombstones.find(actor_id)

    async def close_links(self) -> None:
        """If there are any."""
        if hasattr(self, "messaging"):
            await self.messaging.stop(left=self._left)

    async def _start_host(self) -> None:
        self.host = wiring.make_host(self)
        await self.actors.register_function(self.host.receive, host_id(self.owner.node))
        await self.actors.register_function(self.mover.receive, mover_id(self.owner.node))
        self.inspector = await start_inspector(self)
        self.unanswered.start()
        self.fates.start()
        await self.durable.start()

    async def _start_doors(self) -> None:
        """Death watch and groups: an actor each that hears from other nodes; nothing more until they are used."""
        actors, node = self.actors, self.owner.node
        self.deaths, self.groups = wiring.make_deaths(self), wiring.make_groups(self)
        actors.deaths.remote, actors.groups.remote = self.deaths, self.groups
        self.sharding.watches = self.deaths.shards
        await actors.register_function(self.deaths.receive, deaths_id(node))
        await actors.register_function(self.groups.receive, groups_id(node))

    def record(self) -> NodeRecord:
        """What this node says of itself in the store."""
        types, sharded, durable = self.sharding.hosted_types()
        return NodeRecord(
            node=self.owner.node,
            incarnation=self.owner.incarnation,
            address=self.address,
            path=self.bound.path,
            version=self.version,
            client=self.config.client,
            roles=self.config.roles,
            actors=self._load(),
            types=types,
            sharded=sharded,
            durable=durable,
            cordoned=self.mover.cordoned,
        )

    def _load(self) -> int:
        return len(self.hosting.owned) + self.sharding.region.count

    @property
    def address(self) -> NodeAddress:
        """What other nodes dial."""
        messaging = self.config.messaging
        return NodeAddress(
            messaging.advertised_host or messaging.host, messaging.advertised_port or self.bound.port
        )

    async def _report_load(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, self.config.membership.lease_ttl))
            count = self._load()
            if self.membership.fenced or abs(count - self.membership.record.actors) * 20 <= count:
                continue  # within a twentieth: not worth waking every node
            try:
                await self.membership.update(actors=count)
            except MetadataStoreError as error:
                log.info("this node's load was not reported: %s", error)

    def hears(self, record: NodeRecord) -> bool:
        """Whether that node is heard from by itself, whatever the store says. One that this node has nothing to do with
        is not asked, for its neighbours and the leader listen to it: a hundred nodes would dial each other.
        """
        seen = self.messaging.liveness(record.node)
        return seen is not None and seen.state in (PeerState.ALIVE, PeerState.CUT, PeerState.UNKNOWN)

    # ---- claims

    def sync_soon(self) -> None:
        """In the background."""
        self.tasks.start(self._sync_unasked(), "sync")

    async def _sync_unasked(self) -> None:
        try:
            await self.sync()
        except CajunError as error:
            log.warning("the registry of actors was not synced: %s", error)

    async def sync(self) -> tuple[int, int]:
        """Put claims back where nobody else took the actor; returns how many stand and how many were lost."""
        kept, lost = await self.hosting.sync()
        await self.sharding.sync()
        log.info("registry of actors synced: %d stand, %d were lost", kept, lost)
        return kept, lost

    async def host_actor(
        self,
        target: Any,
        type_name: str | None,
        actor_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Pid:
        """Claim and start here. An owner that was lost is waited for: the leader settles whose the id is."""
        self.mover.require_open(f"registering actor {actor_id!r}")
        self.health.require(f"registering actor {actor_id!r}")
        give_up = self.ports.clock.now_ns() + round(self.config.placement.rehost_timeout * 1e9)
        while True:
            try:
                return await self.hosting.host(target, type_name, actor_id, args, kwargs)
            except ActorAlreadyExistsError as error:
                lives = error.node == self.owner.node or self.members.get(error.node) is not None
                if lives or self.ports.clock.now_ns() >= give_up:
                    raise
                await self.locator.changed(actor_id, 0.25)


async def no_work() -> None:
    """What never started needs no stop."""
