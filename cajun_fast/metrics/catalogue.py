"""The numbers that leave the process: name, meaning, and where each stands in a snapshot. Every exporter goes by this
table, so that they show the same.

Laws: names follow Prometheus' conventions (base units; an exporter adds ``_total``); a row is read once a scrape.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from cajun_fast.metrics.snapshot import ActorTypeSnapshot, LinkSnapshot, Snapshot


class Kind(enum.Enum):
    """Of a number."""

    COUNTER = enum.auto()  # only rises while its owner lives
    GAUGE = enum.auto()  # is what it is now
    HISTOGRAM = enum.auto()  # a HistogramSnapshot


Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """``read(part)`` gives the value, or, with ``labels``, a mapping of label values to values."""

    kind: Kind
    name: str
    text: str
    read: Callable[[Any], Any]
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class Series:
    """One number of a snapshot with its labels' values."""

    row: Row
    labels: Labels
    values: Mapping[Labels, Any]


def counter(name: str, text: str, path: str | Callable[[Any], Any], *labels: str) -> Row:
    return Row(Kind.COUNTER, name, text, _reader(path), labels)


def gauge(name: str, text: str, path: str | Callable[[Any], Any], *labels: str) -> Row:
    return Row(Kind.GAUGE, name, text, _reader(path), labels)


def histogram(name: str, text: str, path: str) -> Row:
    return Row(Kind.HISTOGRAM, name, text, _reader(path))


def _reader(path: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    return attrgetter(path) if isinstance(path, str) else path


def _info(of: Snapshot) -> Mapping[Labels, int]:
    return {(of.version, str(of.incarnation)): 1}


def _breaker(of: LinkSnapshot) -> Mapping[str, bool]:
    return {state: of.breaker.state == state for state in ("closed", "open", "half-open")}


NODE = (
    gauge("node_info", "Version and incarnation.", _info, "version", "incarnation"),
    gauge("node_uptime_seconds", "Since the start of the node.", "uptime"),
    gauge("cluster_nodes", "Living members, as this node knows them.", "nodes"),
    gauge("node_healthy", "1 where the check passes.", "health", "check"),
    gauge("node_leader", "1 on the node that leads.", "seat.leader"),
    gauge("node_fenced", "1 while this node must not act.", "seat.fenced"),
    gauge("lease_age_seconds", "Since the last renewal that was answered.", "seat.lease_age"),
    gauge("lease_left_seconds", "Until this node must not act.", "seat.lease_left"),
    counter("refused_connections", "Connections that were turned down.", "refused_connections"),
    gauge("mailbox_messages", "Messages that wait in mailboxes.", "queued"),
    gauge("lane_messages", "Messages that have no way or no room yet.", "waiting"),
    counter("dead_letters", "Messages that reached no handler.", "dead_letters", "reason"),
    counter("answers_lost", "Answers whose asker's node was lost.", "answers_lost"),
    counter("messages_failed", "Messages known not to have been handled well.", "failed"),
    gauge("sample_every", "One message in so many is measured.", "sample_every"),
    gauge("asks_in_flight", "Asks that wait for their answers.", "asks.in_flight"),
    counter("asks_answered", "Asks that were answered.", "asks.answered"),
    counter("asks_failed", "Asks that ended with an error, time-outs among them.", "asks.failed"),
    counter("asks_timed_out", "Asks that were not answered in time.", "asks.timed_out"),
    histogram("ask_duration_seconds", "From ask to answer.", "asks.round_trip"),
    gauge("location_cache_entries", "Locations that are known.", "cache.entries"),
    counter("location_cache_hits", "Look-ups that were answered.", "cache.hits"),
    counter("location_cache_misses", "Look-ups that were not.", "cache.misses"),
    counter("location_cache_evictions", "Locations let go for want of room.", "cache.evictions"),
    counter("location_cache_invalidations", "Locations found to be wrong.", "cache.invalidations"),
    histogram("event_loop_lag_seconds", "How late a timer came.", "loop.lag"),
    gauge("event_loop_longest_hold_seconds", "By one handler, in the last minute.", "loop.longest_hold"),
    histogram("gc_pause_seconds", "How long a collection took.", "loop.gc_pauses"),
    counter("gc_collections", "Collections.", "loop.gc_collections", "generation"),
)

#: Of each actor type: an ActorTypeSnapshot.
TYPE = (
    gauge("actors", "Actors on this node.", "actors"),
    counter("messages_handled", "Messages whose handler was begun.", "handled"),
    counter("handler_failures", "Messages whose handler raised.", "failed"),
    histogram("message_latency_seconds", "From the mailbox's door to the handler's end; sampled.", "latency"),
    histogram("handler_duration_seconds", "The handler alone, with its awaits; sampled.", "handling"),
)

#: Of each link: a LinkSnapshot.
LINK = (
    gauge("link_up", "1 while a connection carries it.", "is_up"),
    gauge("link_silent_seconds", "Since bytes last came.", "silent"),
    counter("link_messages_sent", "Messages that were sent.", "sent", "guarantee"),
    counter("link_messages_received", "Messages and answers, each once.", "received"),
    counter("link_sent_bytes", "Bytes written.", "sent_bytes"),
    counter("link_received_bytes", "Bytes read.", "received_bytes"),
    counter("link_messages_resent", "Sent again on a new connection.", "resent"),
    counter("link_duplicates", "Came again and were passed over.", "duplicates"),
    counter("link_messages_refused", "Of the peer's, by this node.", "refused"),
    counter("link_messages_returned", "Of this node's, by the peer.", "returned"),
    gauge("link_unacknowledged_messages", "Without a verdict.", "unacknowledged"),
    gauge("link_unacknowledged_bytes", "Kept for them.", "unacknowledged_bytes"),
    gauge("link_credit_bytes", "Room before senders wait.", "credit_bytes"),
    histogram("link_round_trip_seconds", "From a write to its acknowledgement.", "round_trip"),
    histogram("link_batch_messages", "Messages that left together.", "batch"),
    gauge("link_breaker_state", "1 for the state it is in.", _breaker, "state"),
    counter("link_breaker_opened", "How often it opened.", "breaker.opened"),
)


def series(of: Snapshot) -> Iterator[Series]:
    """All numbers of a snapshot. Each row comes once, also where it has no values."""
    for row in NODE:
        yield Series(row, row.labels, _values(row, of, ()))
    yield from _of_parts(TYPE, "type", {each.type: each for each in of.types})
    yield from _of_parts(LINK, "peer", {each.peer: each for each in of.links})
    for name, value in of.gauges.items():
        row = gauge(name, "Added by another part of the program.", "gauges")
        yield Series(row, (), {(): value})


def _of_parts(
    rows: tuple[Row, ...], label: str, parts: Mapping[str, ActorTypeSnapshot | LinkSnapshot]
) -> Iterator[Series]:
    for row in rows:
        values: dict[Labels, Any] = {}
        for name, part in parts.items():
            values |= _values(row, part, (name,))
        yield Series(row, (label, *row.labels), values)


def _values(row: Row, part: Any, before: Labels) -> dict[Labels, Any]:
    value = row.read(part)
    if not row.labels:
        return {before: value}
    return {(*before, *((key,) if isinstance(key, str) else key)): each for key, each in value.items()}
