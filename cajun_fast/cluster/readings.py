"""How each part of a node is read into its snapshot: the only place that knows both.

Laws: plain functions, nothing is changed, nothing raises while the node runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cajun_fast._core.asks import Asks
from cajun_fast._core.breaker import CircuitBreaker
from cajun_fast._core.instruments import Tally
from cajun_fast._core.locations import LocationCache
from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.messaging.peer import Peer
from cajun_fast.metrics.histogram import numbers_of, seconds_of
from cajun_fast.metrics.holds import Hold
from cajun_fast.metrics.recorder import Recorder
from cajun_fast.metrics.snapshot import (
    ActorTypeSnapshot,
    AskSnapshot,
    BreakerSnapshot,
    CacheSnapshot,
    LinkSnapshot,
    LoopSnapshot,
    SeatSnapshot,
)

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

#: The type under which the engine's own actors are counted.
ENGINE = "cajun"
#: In the order of the core's counters.
SENT = (*(each.name for each in sorted(DeliveryGuarantee)), "answer")


def seat(node: Node) -> SeatSnapshot:
    now, membership = node.ports.clock.now_ns(), node.membership
    return SeatSnapshot(
        leader=node.leadership.is_leader,
        fenced=membership.fenced,
        store_available=node.health.available,
        lease_age=membership.lease_age,
        lease_left=max(0.0, (membership.deadline_ns - now) / 1e9),
    )


def asks(asks: Asks) -> AskSnapshot:
    return AskSnapshot(
        in_flight=len(asks),
        limit=asks.limit,
        answered=asks.answered,
        failed=asks.failed,
        timed_out=asks.timed_out,
        round_trip=seconds_of(asks.round_trip),
    )


def cache(cache: LocationCache) -> CacheSnapshot:
    return CacheSnapshot(
        entries=len(cache),
        hits=cache.hits,
        misses=cache.misses,
        evictions=cache.evictions,
        expirations=cache.expirations,
        invalidations=cache.invalidations,
    )


def loop(recorder: Recorder, hold: Hold) -> LoopSnapshot:
    return LoopSnapshot(
        lag=seconds_of(recorder.lag),
        gc_pauses=seconds_of(recorder.gc_pauses),
        gc_collections={str(number): count for number, count in enumerate(recorder.gc_collections)},
        last_lag=recorder.last_lag,
        longest_hold=hold.seconds,
        held_by=hold.actor,
    )


def tallies(node: Node) -> list[Tally]:
    """One for each actor type, without the engine's own."""
    return [tally for name, tally in node.actors.dispatcher.tallies.items() if name != ENGINE]


def types(node: Node) -> tuple[ActorTypeSnapshot, ...]:
    return tuple(
        ActorTypeSnapshot(
            type=name,
            actors=tally.actors,
            handled=tally.handled,
            failed=tally.failed,
            latency=seconds_of(tally.latency),
            handling=seconds_of(tally.handling),
        )
        for name, tally in sorted(node.actors.dispatcher.tallies.items())
    )


def links(node: Node) -> tuple[LinkSnapshot, ...]:
    messaging = node.messaging
    return tuple(
        _link(peer) for name in sorted(messaging.nodes) if (peer := messaging.peer(name)) is not None
    )


def _link(peer: Peer) -> LinkSnapshot:
    link, connection, now = peer.link, peer.connection, peer.system.now()
    inbound, window = link.inbound, link.window
    held = link.held_bytes
    return LinkSnapshot(
        peer=peer.node,
        incarnation=link.incarnation if link.incarnation is not None else peer.incarnation,
        is_up=link.is_up,
        transport=connection.kind if connection is not None else "",
        silent=(now - connection.heard_ns) / 1e9 if connection is not None else 0.0,
        sent=dict(zip(SENT, link.sent_by_guarantee, strict=True)),
        received=inbound.messages,
        sent_bytes=link.bytes_out,
        received_bytes=link.bytes_in,
        writes=connection.writes if connection is not None else 0,
        resent=link.resent,
        duplicates=inbound.duplicates,
        refused=inbound.refused,
        returned=link.returned,
        unacknowledged=max(0, window.next_seq - 1 - window.acked),
        unacknowledged_bytes=held,
        credit_bytes=max(0, window.limit - held),
        waiting=link.waits,
        round_trip=seconds_of(link.round_trip),
        batch=numbers_of(link.batch),
        breaker=_breaker(peer.breaker, now),
    )


def _breaker(breaker: CircuitBreaker, now: int) -> BreakerSnapshot:
    return BreakerSnapshot(
        state=str(breaker.state),
        failures=breaker.failures,
        opened=breaker.opened,
        refused=breaker.refused,
        retry_in=breaker.remaining_ns(now) / 1e9,
    )


def sent(node: Node) -> int:
    """Messages and answers that went to links that stand; a link that ended takes its own with it."""
    peers = (node.messaging.peer(name) for name in node.messaging.nodes)
    return sum(peer.link.messages_out for peer in peers if peer is not None)


def failed(node: Node) -> int:
    letters = node.actors.dead_letters.total
    return letters + node.exchange.ended_told + sum(tally.failed for tally in tallies(node))


def messaging_serves(node: Node) -> bool:
    """It listens, and some link stands where this node has spoken with others."""
    messaging = node.messaging
    alive = [messaging.node_alive(name) for name in messaging.nodes]
    known = [each for each in alive if each is not None]
    return not messaging.stopping and (not known or any(known))
