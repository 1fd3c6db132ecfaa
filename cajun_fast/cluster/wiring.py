"""From a node to its parts: what each of them is given of the others.

Laws: the only place that knows what all the parts take. Nothing is started or asked here, so a part may name one that
is made after it, as long as it does so within a function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster import settings
from cajun_fast.cluster.deaths import ClusterDeaths
from cajun_fast.cluster.detector import Detector, DetectorHooks, ring
from cajun_fast.cluster.directory import Directory
from cajun_fast.cluster.failover import Failover
from cajun_fast.cluster.finder import Finder
from cajun_fast.cluster.groups import ClusterGroups
from cajun_fast.cluster.health import StoreHealth
from cajun_fast.cluster.hold import Hold
from cajun_fast.cluster.host import (
    Host,
    ask_for_all_promises,
    ask_for_each_promise,
    ask_for_promise,
    ask_to_adopt,
)
from cajun_fast.cluster.hosting import Hosting
from cajun_fast.cluster.leader import Leadership
from cajun_fast.cluster.links import probe
from cajun_fast.cluster.locator import Locator
from cajun_fast.cluster.members import MemberHooks, Members
from cajun_fast.cluster.membership import Membership, MembershipHooks, patience_of
from cajun_fast.cluster.promises import Collector
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.router import ClusterRouter
from cajun_fast.cluster.shards.parts import Sharding

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

#: Times the lease that a node without a record is kept while it is still heard from.
KEPT_LEASES = 2
#: Of a lease: a member's time to say what it promises, when one asks on behalf of all.
COLLECT = 0.16
#: Seconds for which a node without a record is kept to hear whether it lives.
LISTEN = 1.3


# ---- the directory and its readers


def make_directory(node: Node) -> Directory:
    return Directory(node.store, node.keys, reads_at_once=node.config.placement.lookups_at_once)


def make_registrar(node: Node) -> Registrar:
    metadata = node.config.metadata
    return Registrar(
        node.store,
        node.keys,
        node.directory,
        node.backoff(0.02),
        batch_size=metadata.registration_batch_size,
        batch_age=metadata.registration_batch_age_ms / 1e3,
        queue_limit=metadata.registration_queue_limit,
        timeout=metadata.registration_timeout,
    )


def make_locator(node: Node) -> Locator:
    placement = node.config.placement
    return Locator(
        node.store,
        node.keys,
        node.directory,
        node.ports.clock.now_ns,
        node.backoff(),
        size=placement.location_cache_size,
        expiry_ms=placement.location_cache_expiry_ms,
        negative_ms=placement.negative_cache_ms,
    )


def make_router(node: Node) -> ClusterRouter:
    return ClusterRouter(
        node.locator,
        node.members,
        node.ports.clock.now_ns,
        settings.patience(node.config),
        on_actor_stopped=node.news.actor_stopped,
        is_starting=lambda actor_id: node.hosting.is_starting(actor_id),
        is_moving=lambda actor_id: node.hosting.is_moving(actor_id),
        is_fenced=lambda: node.membership.fenced,
    )


# ---- who lives


def make_members(node: Node) -> Members:
    news = node.news
    return Members(
        node.store,
        node.keys,
        node.config.system_id,
        backoff=node.backoff(),
        grace=KEPT_LEASES * node.config.membership.lease_ttl,
        hooks=MemberHooks(
            news.node_joined,
            news.node_changed,
            news.node_left,
            node.hears,
            is_stuck=lambda record: node.detector.is_stuck(record.node),
        ),
        listen=LISTEN,
    )


def make_membership(node: Node) -> Membership:
    fencing, config = node.fencing, node.config.membership
    return Membership(
        node.store,
        node.keys,
        node.ports.clock,
        ttl=config.lease_ttl,
        hooks=MembershipHooks(
            on_fenced=fencing.on_fenced,
            on_regained=fencing.on_regained,
            probe=lambda record: probe(node.ports.network, record),
            on_unanswered=lambda: node.hold.begin(),
            on_answered=lambda: node.hold.end(),
            on_deadline=fencing.on_deadline,
            on_paused=lambda why: fencing.standstill.freeze(),
            on_resumed=fencing.thaw,
        ),
        patience=config.suspicion_timeout,
    )


def others(node: Node) -> list[str]:
    """All other members, in the order of the ring behind this one."""
    return ring(node.config.system_id, sorted(node.members.nodes.keys() - {node.config.system_id}))


def make_hold(node: Node) -> Hold:
    async def ask(peer: str, timeout: float) -> bool:
        return await ask_for_promise(node.exchange, peer, node.owner, timeout)

    async def ask_for_all(peer: str, timeout: float) -> list[str]:
        return await ask_for_all_promises(node.exchange, peer, node.owner, timeout)

    return Hold(
        node.store,
        node.ports.clock,
        node.config.membership.lease_ttl,
        peers=lambda: others(node),
        ask=ask,
        extend=node.membership.hold_until,
        stands=node.members.stands,
        ask_for_all=ask_for_all,
    )


def make_collector(node: Node) -> Collector:
    timeout = COLLECT * node.config.membership.lease_ttl

    async def ask_each(peer: str, askers: Sequence[Owner]) -> list[bool]:
        return await ask_for_each_promise(node.exchange, peer, askers, timeout)

    return Collector(node.hold, node.owner.node, lambda: others(node), ask_each)


def make_detector(node: Node) -> Detector:
    config = node.config.membership
    return Detector(
        node.store,
        node.keys,
        node.members,
        node.leadership,
        DetectorHooks(
            liveness=lambda other: node.messaging.liveness(other),
            watch=lambda other, on: node.messaging.watch(other, on),
            resign=node.leadership.resign,
            may_take=lambda: node.membership.holds and not node.hold.has_promised,
            on_evicted=node.members.evicted,
        ),
        node_id=node.config.system_id,
        patience=patience_of(config.lease_ttl, config.suspicion_timeout),
        ttl=config.lease_ttl,
        stuck_timeout=config.stuck_timeout,
        backoff=node.backoff(0.1),
    )


def make_finder(node: Node) -> Finder:
    config = node.config
    return Finder(
        settings.discoveries(config),
        config.system_id,
        config.membership.discovery_interval,
        node.news.address_found,
    )


def make_health(node: Node) -> StoreHealth:
    return StoreHealth(
        node.store,
        interval=min(1.0, node.config.membership.lease_ttl / 3),
        timeout=min(1.0, node.config.metadata.timeout),
        on_lost=node.news.store_lost,
        on_recovered=node.news.store_recovered,
    )


# ---- who leads, and what leaders do


def make_leadership(node: Node) -> Leadership:
    return Leadership(
        node.store,
        node.keys,
        node.ports.clock,
        ttl=settings.leader_ttl(node.config),
        backoff=node.backoff(),
        on_elected=node.news.elected,
        on_deposed=node.news.deposed,
    )


def make_failover(node: Node) -> Failover:
    return Failover(
        node.store,
        node.keys,
        node.directory,
        node.registrar,
        node.members,
        node.ports.clock,
        lambda target, actors: ask_to_adopt(
            node.exchange, target, actors, node.config.placement.adoption_timeout
        ),
        node.backoff(0.1, 2.0),
        settings.failover_settings(node.config),
        may_take=lambda: not node.hold.has_promised,
    )


# ---- actors


def make_actors(node: Node) -> ActorSystem:
    return ActorSystem(
        node.config.system_id,
        ports=node.ports,
        settings=settings.actor_settings(node.config),
        router=node.router,
    )


def make_sharding(node: Node) -> Sharding:
    return Sharding(
        node.config,
        node.store,
        node.keys,
        node.types,
        node.members,
        node.membership,
        node.ports.clock,
        node.backoff,
        owner=lambda: node.owner,
        links=lambda: node.messaging.links(),
        may_take=lambda: not node.hold.has_promised,
    )


def make_hosting(node: Node) -> Hosting:
    return Hosting(
        node.actors,
        node.registrar,
        node.directory,
        node.exchange,
        node.owner,
        may_own=node.fencing.may_own,
        until_seated=node.fencing.until_seated,
        on_started=node.fencing.actor_started,
    )


def make_host(node: Node) -> Host:
    return Host(
        node.owner.node,
        node.hosting,
        node.types,
        node.exchange,
        node.store,
        node.keys,
        is_client=node.config.client,
        resign=node.leadership.resign,
        hold=node.hold,
        promises=make_collector(node),
        offers=node.sharding.offers,
        shards=node.sharding.handle,
        is_cordoned=lambda: node.mover.cordoned,
    )


def make_deaths(node: Node) -> ClusterDeaths:
    actors = node.actors
    return ClusterDeaths(
        node.exchange,
        node.locator,
        node.members,
        node.hosting,
        lambda: node.owner,
        lambda: actors.deaths,
        node.backoff,
        actors.on_end,
        node.sharding.table,
        node.sharding.keeps,
    )


def make_groups(node: Node) -> ClusterGroups:
    actors = node.actors
    return ClusterGroups(
        node.exchange,
        node.store,
        node.keys,
        node.membership,
        node.owner.node,
        lambda: actors.groups,
        node.backoff,
    )
