"""The parts of one running member and their wiring: who is told of what, in which order they start and stop.

Laws: parts do not know each other beyond what stands in their constructors; the crossings are here. A stop
runs every step whatever the others raise. A node that was fenced has its actors frozen at once and comes back
as a new incarnation, keeping those actors that nobody else has taken meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from cajun_fast._core.lane import Exchange, Pid
from cajun_fast.actors.registry import Registry
from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster import settings
from cajun_fast.cluster.deaths import ClusterDeaths, deaths_id
from cajun_fast.cluster.detector import Detector, DetectorHooks
from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.durable import DurableActors
from cajun_fast.cluster.events import EventLog
from cajun_fast.cluster.failover import Failover
from cajun_fast.cluster.fate import Fates
from cajun_fast.cluster.finder import Finder
from cajun_fast.cluster.groups import ClusterGroups, groups_id
from cajun_fast.cluster.health import StoreHealth
from cajun_fast.cluster.hold import Hold
from cajun_fast.cluster.host import Host, ask_for_promise, ask_to_adopt, host_id
from cajun_fast.cluster.hosting import Hosting
from cajun_fast.cluster.leader import Leadership, Term
from cajun_fast.cluster.links import addresses_of, make_messaging, probe
from cajun_fast.cluster.locator import Locator
from cajun_fast.cluster.members import MemberHooks, Members
from cajun_fast.cluster.membership import Membership, MembershipHooks, patience_of, take_incarnation
from cajun_fast.cluster.metrics import ClusterMetrics
from cajun_fast.cluster.movement.tombstones import Tombstones
from cajun_fast.cluster.movement.wiring import make_mover
from cajun_fast.cluster.movement.world import mover_id
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.report import start_inspector
from cajun_fast.cluster.router import ClusterRouter
from cajun_fast.cluster.security import security_of, show_security
from cajun_fast.cluster.shards.ids import is_sharded
from cajun_fast.cluster.shards.parts import Sharding
from cajun_fast.cluster.standstill import Either, Standstill
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.cluster.unanswered import Unanswered
from cajun_fast.config import ClusterConfig, NodeAddress
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    CajunError,
    MetadataStoreError,
    NotRunningError,
)
from cajun_fast.messaging.liveness import PeerState
from cajun_fast.messaging.system import MessagingSystem
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.persistence import Persistence
from cajun_fast.ports import Address, Ports

log = logging.getLogger("cajun_fast.cluster")

#: Times the lease that a node without a record is kept while it is still heard from.
KEPT_LEASES = 2
#: Seconds for which a node without a record is kept to hear whether it lives.
LISTEN = 1.3
#: Seconds that a claim waits for a node that stands still to know whether its seat is its own.
SETTLE_TIMEOUT = 1.0


class Node:
    """See the module's laws."""

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
        self._tasks = Tasks(f"node {config.system_id}")
        self._returning: asyncio.Task[None] | None = None
        self._build()
        self.metrics = ClusterMetrics(self)
        self.unanswered = Unanswered(self)
        show_security(self)
        self.fates = Fates(self)
        self.durable = DurableActors(self, persistence)

    def _backoff(self, first: float = 0.05, cap: float = 1.0) -> Backoff:
        return Backoff(self.ports.random, first, cap)

    def _build(self) -> None:
        config, store, keys, clock = self.config, self.store, self.keys, self.ports.clock
        ttl = config.membership.lease_ttl
        placement, metadata = config.placement, config.metadata
        self.directory = Directory(store, keys, reads_at_once=placement.lookups_at_once)
        self.registrar = Registrar(
            store,
            keys,
            self.directory,
            self._backoff(0.02),
            batch_size=metadata.registration_batch_size,
            batch_age=metadata.registration_batch_age_ms / 1e3,
            queue_limit=metadata.registration_queue_limit,
            timeout=metadata.registration_timeout,
        )
        self.locator = Locator(
            store,
            keys,
            self.directory,
            clock.now_ns,
            self._backoff(),
            size=placement.location_cache_size,
            expiry_ms=placement.location_cache_expiry_ms,
            negative_ms=placement.negative_cache_ms,
        )
        self.tombstones = Tombstones(clock.now_ns, settings.tombstone_life(config))
        self.members = Members(
            store,
            keys,
            config.system_id,
            backoff=self._backoff(),
            grace=KEPT_LEASES * ttl,
            hooks=MemberHooks(
                self._on_join,
                self._on_change,
                self._on_leave,
                self._heard,
                on_unlisted=lambda record: self.messaging.watch(record.node),
                is_stuck=lambda record: self.detector.is_stuck(record.node),
            ),
            listen=LISTEN,
        )
        self.membership = Membership(
            store,
            keys,
            clock,
            ttl=ttl,
            hooks=MembershipHooks(
                on_fenced=self._on_fenced,
                on_regained=self._on_regained,
                probe=self._probe,
                on_unanswered=lambda: self.hold.begin(),
                on_answered=lambda: self.hold.end(),
                on_deadline=self._on_deadline,
                on_paused=lambda why: self.standstill.freeze(),
                on_resumed=self._on_resumed,
            ),
            patience=config.membership.suspicion_timeout,
        )
        self.hold = Hold(
            store,
            clock,
            ttl,
            peers=lambda: [node for node in self.members.nodes if node != config.system_id],
            ask=self._ask_promise,
            extend=self.membership.hold_until,
            stands=self._stands,
        )
        self.router = ClusterRouter(
            self.locator,
            self.members,
            clock.now_ns,
            settings.patience(config),
            on_actor_stopped=self._on_actor_stopped,
            is_starting=lambda actor_id: self.hosting.is_starting(actor_id),
        )
        self.actors = ActorSystem(
            config.system_id, ports=self.ports, settings=settings.actor_settings(config), router=self.router
        )
        self.standstill = Standstill(self.actors)
        self.failover = Failover(
            store,
            keys,
            self.directory,
            self.registrar,
            self.members,
            clock,
            self._adopt,
            self._backoff(0.1, 2.0),
            settings.failover_settings(config),
            may_take=lambda: not self.hold.has_promised,
        )
        self.sharding = Sharding(
            config,
            store,
            keys,
            self.types,
            self.members,
            self.membership,
            clock,
            self._backoff,
            owner=lambda: self.owner,
            links=lambda: self.messaging.links(),
            may_take=lambda: not self.hold.has_promised,
        )
        self.leadership = Leadership(
            store,
            keys,
            clock,
            ttl=settings.leader_ttl(config),
            backoff=self._backoff(),
            on_elected=self._on_elected,
            on_deposed=self._on_deposed,
        )
        self.detector = Detector(
            store,
            keys,
            self.members,
            self.leadership,
            DetectorHooks(
                liveness=lambda node: self.messaging.liveness(node),
                watch=lambda node, on: self.messaging.watch(node, on),
                resign=self.leadership.resign,
                may_take=lambda: self.membership.holds and not self.hold.has_promised,
                on_evicted=self.members.evicted,
            ),
            node_id=config.system_id,
            patience=patience_of(ttl, config.membership.suspicion_timeout),
            ttl=ttl,
            stuck_timeout=config.membership.stuck_timeout,
            backoff=self._backoff(0.1),
        )
        self.finder = Finder(
            settings.discoveries(config),
            config.system_id,
            config.membership.discovery_interval,
            self._on_found,
        )
        self.health = StoreHealth(
            store,
            interval=min(1.0, ttl / 3),
            timeout=min(1.0, metadata.timeout),
            on_lost=self._on_store_lost,
            on_recovered=self._on_store_recovered,
        )

    # ---- life

    async def start(self) -> None:
        """Come up in order; whoever calls undoes it with ``stop`` if this raises."""
        self.security.load(self.config.system_id)  # before anything is started
        await self.store.connect()
        await self.sharding.agree()
        await self._new_incarnation()
        await self.actors.start()
        self.exchange: Exchange = self.actors.exchange
        await self._open_links(self.config.messaging.port)
        self.hosting = Hosting(
            self.actors,
            self.registrar,
            self.directory,
            self.exchange,
            self.owner,
            may_own=self._may_own,
            on_started=self._on_started,
        )
        self.locator.on_moved = self._on_moved
        self.registrar.start()
        self.mover = make_mover(self)
        await self._start_host()
        await self._start_doors()
        self.router.start(self.exchange, self.messaging, self.owner)
        await self.members.start()
        self.sharding.start(self.actors, self.router)
        self.locator.start()
        await self.membership.enter(self._record())
        if not self.config.client:
            self.leadership.start(self.owner)
        self.health.start()
        self.finder.start()
        self._tasks.start(self._report_load(), "load")
        self._tasks.start(self.durable.look_after(), "durable")
        self.metrics.start()

    async def stop(self) -> None:
        """Go in order; what never started is passed over. Never raises but for cancellation."""
        self.metrics.stop()
        steps: Sequence[tuple[str, Callable[[], Awaitable[Any]]]] = (
            ("shards that move", lambda: self.sharding.depart(self.config.actors.stop_timeout)),
            ("background work", self._tasks.stop),
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
            ("membership", self.membership.leave),
            ("health", self.health.stop),
            ("finder", self.finder.stop),
            ("locator", self.locator.stop),
            ("members", self.members.stop),
            ("router", self.router.stop),
            ("links", self._close_links),
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

    async def _stop_errands(self) -> None:
        if hasattr(self, "host"):
            await self.host.errands.stop()

    async def _new_incarnation(self) -> None:
        incarnation = await take_incarnation(self.store, self.keys, self.config.system_id)
        self.owner = Owner(self.config.system_id, incarnation)

    async def _open_links(self, port: int) -> None:
        self.messaging: MessagingSystem = make_messaging(
            self.config, self.owner, self.actors, self.ports, self.security, self._new_home
        )
        self.messaging.on_suspect = lambda node, incarnation: self.detector.look_at(node)
        self.messaging.on_liveness = lambda node, incarnation, state: self.detector.look_at(node)
        self.bound = await self.messaging.start(self.config.messaging.host, port)

    def _new_home(self, actor_id: str) -> str | None:
        find = self.sharding.new_home if is_sharded(actor_id) else self.tombstones.find
        return find(actor_id)

    async def _close_links(self) -> None:
        if hasattr(self, "messaging"):
            await self.messaging.stop()

    async def _start_host(self) -> None:
        self.host = Host(
            self.owner.node,
            self.hosting,
            self.types,
            self.exchange,
            self.store,
            self.keys,
            is_client=self.config.client,
            resign=self.leadership.resign,
            hold=self.hold,
            offers=self.sharding.offers,
            shards=self.sharding.handle,
            is_cordoned=lambda: self.mover.cordoned,
        )
        await self.actors.register_function(self.host.receive, host_id(self.owner.node))
        await self.actors.register_function(self.mover.receive, mover_id(self.owner.node))
        self.inspector = await start_inspector(self)
        self.unanswered.start()
        self.fates.start()
        await self.durable.start()

    async def _start_doors(self) -> None:
        """Death watch and groups: an actor each that hears from other nodes; nothing more until they are used."""
        actors, node = self.actors, self.owner.node
        self.deaths = ClusterDeaths(
            self.exchange,
            self.locator,
            self.members,
            self.hosting,
            lambda: self.owner,
            lambda: actors.deaths,
            self._backoff,
            actors.on_end,
        )
        self.groups = ClusterGroups(
            self.exchange, self.store, self.keys, self.membership, node, lambda: actors.groups, self._backoff
        )
        actors.deaths.remote, actors.groups.remote = self.deaths, self.groups
        await actors.register_function(self.deaths.receive, deaths_id(node))
        await actors.register_function(self.groups.receive, groups_id(node))

    def _on_moved(self, actor_id: str, standing: Standing | None, revision: int) -> None:
        self.hosting.on_moved(actor_id, standing, revision)
        self.deaths.on_moved(actor_id, standing)
        self.mover.on_moved(actor_id, standing, revision)

    def _record(self) -> NodeRecord:
        types, sharded = self.sharding.hosted_types()
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
            cordoned=self.mover.cordoned,
        )

    def _load(self) -> int:
        return len(self.hosting.owned) + self.sharding.region.count

    def _on_actor_stopped(self, actor_id: str) -> None:
        if is_sharded(actor_id):
            self.sharding.region.actor_stopped(actor_id)
        else:
            self.hosting.actor_stopped(actor_id)

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

    # ---- nodes that come and go

    def _on_join(self, record: NodeRecord) -> None:
        self.events.add("node-joined", f"node {record.node!r} joined at {record.address}", node=record.node)
        self.messaging.add_node(record.node, record.incarnation, self._addresses_of(record))
        self.failover.node_joined()
        self.detector.watch_all()
        self.sharding.allocator.look()

    def _addresses_of(self, record: NodeRecord) -> list[Address]:
        return addresses_of(record, self.config, self.finder.found)

    def _on_found(self, node: str) -> None:
        """Discovery names an address that is new: one more to dial, if the node lives."""
        record = self.members.get(node)
        if record is not None:
            self.messaging.add_node(node, record.incarnation, self._addresses_of(record))

    def _on_change(self, before: NodeRecord, now: NodeRecord) -> None:
        self.sharding.on_change(before, now)
        if (before.address, before.path) != (now.address, now.path):
            log.info("node %r has a new address: %s", now.node, now.address)
            self.messaging.add_node(now.node, now.incarnation, self._addresses_of(now))

    def _on_leave(self, record: NodeRecord) -> None:
        how = "left" if record.leaving else "is lost"
        self.events.add("node-left", f"node {record.node!r} {how}", node=record.node)
        self.locator.node_left(record.node)
        self.messaging.remove_node(record.node, record.incarnation)
        self.failover.node_left(record.owner)
        self.detector.watch_all()
        self.sharding.allocator.node_left(record.owner)
        self.deaths.node_left(record.owner)
        self.mover.node_left(record.owner)

    def _heard(self, record: NodeRecord) -> bool:
        seen = self.messaging.liveness(record.node)
        return seen is not None and seen.state in (PeerState.ALIVE, PeerState.CUT)

    def _stands(self, owner: Owner) -> bool:
        record = self.members.get(owner.node)
        return record is not None and self.members.is_listed(owner) and not record.suspected

    async def _probe(self, record: NodeRecord) -> bool:
        return await probe(self.ports.network, record)

    # ---- leading

    def _on_elected(self, term: Term) -> None:
        self.events.add("leader-elected", f"node {self.owner.node!r} leads", node=self.owner.node)
        self.failover.on_elected(term)
        self.detector.watch_all()
        self.sharding.on_elected(term)

    def _on_deposed(self, why: str) -> None:
        self.events.add(
            "leader-deposed", f"node {self.owner.node!r} leads no longer: {why}", node=self.owner.node
        )
        self.failover.on_deposed(why)
        self.detector.watch_all()
        self.sharding.allocator.on_deposed(why)

    async def _adopt(self, node: str, actors: Sequence[Standing]) -> Sequence[tuple[str, str, str]]:
        return await ask_to_adopt(self.exchange, node, actors, self.config.placement.adoption_timeout)

    # ---- the store comes and goes

    async def _ask_promise(self, node: str, timeout: float) -> bool:
        return await ask_for_promise(self.exchange, node, self.owner, timeout)

    def _on_store_lost(self, error: str) -> None:
        self.events.add("store-lost", f"the metadata store does not answer: {error}")
        self.leadership.resign()

    def _on_store_recovered(self) -> None:
        self.events.add("store-recovered", "the metadata store answers again")
        self._tasks.start(self._sync_unasked(), "sync")

    def _on_regained(self) -> None:
        self.groups.renew()
        self._tasks.start(self._sync_unasked(), "sync")

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

    # ---- standing still, and going on

    async def _may_own(self) -> bool:
        return await self.membership.settled(SETTLE_TIMEOUT)

    def _on_started(self, actor_id: str) -> None:
        if not self.membership.holds:
            self.standstill.freeze_one(actor_id)

    def _on_deadline(self, deadline_ns: int) -> None:
        """Whoever gives actors their turns asks first, once this moment is over: a process that was paused
        finds bytes and timers ready when it wakes, and they may come before the loop's own timer.
        """
        exchange = getattr(self.actors, "exchange", None)
        if exchange is not None:  # a start that failed before its actors ran has nothing to stop
            exchange.overdue, exchange.fence_at = self._overdue, deadline_ns or self._rising()

    def _overdue(self) -> None:
        self.membership.check()
        if self.membership.paused or self.membership.fenced:
            self.standstill.freeze_risen()
            self.exchange.fence_at = self._rising()

    def _rising(self) -> int:
        """Ask before each turn as long as an actor may come up by itself while all others stand still."""
        return 0 if self.standstill.is_complete else 1

    def _on_resumed(self) -> None:
        self._thaw()

    def _on_fenced(self, why: str) -> None:
        self.events.add("node-fenced", f"node {self.owner.node!r} stands still: {why}", node=self.owner.node)
        self.leadership.resign()
        self.standstill.freeze()
        self.mover.on_fenced()
        if self._returning is None or self._returning.done():
            self._returning = self._tasks.start(self._return(), "return")

    def _thaw(self) -> None:
        """What is owned goes on; what is on its way to another node is its hand-off's."""
        staying = self.hosting.owned.keys() - self.hosting.departing.keys()
        self.standstill.thaw(Either(staying, self.sharding.region))

    async def _return(self) -> None:
        """Come back as a new incarnation, as soon as the store answers; actors go on once it is known whose
        they are.
        """
        backoff = self._backoff(0.1, 2.0)
        while True:
            await backoff.wait()
            try:
                if self.membership.fenced:
                    await self._new_life()
                await self.sync()
            except CajunError as error:
                log.warning("node %r still stands still: %s", self.owner.node, error)
                continue
            if not self.membership.fenced:
                self._thaw()
                self.events.add("node-back", f"node {self.owner.node!r} is back", node=self.owner.node)
                log.warning("node %r is back as incarnation %d", self.owner.node, self.owner.incarnation)
                return

    async def _new_life(self) -> None:
        await self._new_incarnation()
        self.router.pause()
        await self._close_links()
        await self._open_links(self.bound.port)
        self.hosting.owner = self.leadership.owner = self.owner
        for record in self.members.nodes.values():
            if record.node != self.owner.node:
                self.messaging.add_node(record.node, record.incarnation, self._addresses_of(record))
        self.router.start(self.exchange, self.messaging, self.owner)
        self.detector.watch_all()
        await self.membership.enter(self._record())
        self.groups.renew()

    # ---- hosting

    async def host_actor(
        self,
        target: Any,
        type_name: str | None,
        actor_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Pid:
        """Claim and start here. An owner that was lost is waited for: the leader settles whose the id is."""
        if not self.membership.holds and not await self._may_own():
            raise NotRunningError(f"node {self.owner.node!r} is fenced: it may own nothing until it is back")
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
