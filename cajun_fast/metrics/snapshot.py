"""What a node is and has done, at one moment: plain frozen data, the same for the HTTP interface, the dashboard, the
exporters and tests.

Laws: counters only rise while their owner lives (a link's with its link, a node's with its process); times are in
seconds, sizes in bytes, rates per second over the window that their name says; "now" is the node's own clock. Nothing
here refers to anything that runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cajun_fast.metrics.histogram import EMPTY_NUMBERS, EMPTY_SECONDS, HistogramSnapshot

NOTHING: Mapping[str, Any] = {}
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """The circuit breaker of one peer. ``state``: closed, open, half-open. ``failures``: in a row, now; the others
    count since the peer is known."""

    state: str = "closed"
    failures: int = 0
    opened: int = 0
    refused: int = 0
    retry_in: float = 0.0  # seconds until a probe may go


@dataclass(frozen=True, slots=True)
class LinkSnapshot:
    """One link: this node and one incarnation of ``peer``. Counters begin anew with the peer's next incarnation."""

    peer: str
    incarnation: int | None
    is_up: bool
    transport: str  # what carries it: tcp, unix, …; "" while nothing does
    silent: float  # seconds since bytes last came; 0 while it is down
    sent: Mapping[str, int] = field(default_factory=dict)  # messages by guarantee, answers under "answer"
    received: int = 0  # messages and answers, each once
    sent_bytes: int = 0
    received_bytes: int = 0
    writes: int = 0  # batches handed to the transport by this connection
    resent: int = 0  # messages sent again on a new connection
    duplicates: int = 0  # that came again and were passed over
    refused: int = 0  # of the peer's messages, by this node
    returned: int = 0  # of this node's messages, refused by the peer
    unacknowledged: int = 0  # messages without a verdict, now
    unacknowledged_bytes: int = 0
    credit_bytes: int = 0  # that may still be sent before senders wait
    waiting: Mapping[str, int] = field(default_factory=dict)  # lanes and asks that wait in it, by what for
    round_trip: HistogramSnapshot = EMPTY_SECONDS  # from a batch's write to its acknowledgement
    batch: HistogramSnapshot = EMPTY_NUMBERS  # messages that left in one write
    breaker: BreakerSnapshot = BreakerSnapshot()


@dataclass(frozen=True, slots=True)
class ActorTypeSnapshot:
    """All actors of one type on this node. The histograms are of sampled messages, each weighted with the number that
    it stands for, so that ``count`` estimates all of them (exact where little comes)."""

    type: str
    actors: int
    handled: int  # messages whose handler was begun, those that failed among them
    failed: int  # whose handler raised
    latency: HistogramSnapshot = EMPTY_SECONDS  # from the mailbox's door to the handler's end
    handling: HistogramSnapshot = EMPTY_SECONDS  # the handler alone, its awaits with it


@dataclass(frozen=True, slots=True)
class AskSnapshot:
    """Asks of this node."""

    in_flight: int = 0
    limit: int = 0
    answered: int = 0
    failed: int = 0  # ended with an error, time-outs among them
    timed_out: int = 0
    round_trip: HistogramSnapshot = EMPTY_SECONDS  # from ask to answer


@dataclass(frozen=True, slots=True)
class CacheSnapshot:
    """The location cache. ``hit_ratio``: of all look-ups since the start; 0.0 before the first."""

    entries: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    expirations: int = 0
    invalidations: int = 0

    @property
    def hit_ratio(self) -> float:
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


@dataclass(frozen=True, slots=True)
class LoopSnapshot:
    """The event loop: how late its timers come, and the collector's pauses, by generation. ``longest_hold``: within a
    few ms, and of async handlers only what they did while somebody looked (``cajun-fast top``, the dashboard)."""

    lag: HistogramSnapshot = EMPTY_SECONDS
    gc_pauses: HistogramSnapshot = EMPTY_SECONDS
    gc_collections: Mapping[str, int] = field(default_factory=dict)
    last_lag: float = 0.0
    longest_hold: float = 0.0  # seconds that one handler had the loop without a break, in the last minute
    held_by: str = ""  # which actor's


@dataclass(frozen=True, slots=True)
class SeatSnapshot:
    """This node's place in the cluster. ``lease_age``: seconds since its lease was last surely renewed;
    ``lease_left``: until it must not act any more, by its own clock."""

    leader: bool = False
    fenced: bool = False
    store_available: bool = True
    lease_age: float = 0.0
    lease_left: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One node, at one moment. ``uptime`` in seconds since its start; the ``…_per_second`` over the last ten."""

    node: str
    incarnation: int
    version: str
    uptime: float
    nodes: int  # members of the cluster that live, clients and this one among them
    actors: int  # on this node, the engine's own left out
    handled: int
    handled_per_second: float
    sent_per_second: float  # to other nodes
    failed: int  # see ``ClusterMetrics.get_failed_message_count``
    queued: int  # messages in mailboxes, now
    waiting: int  # messages that have no way or no room, in lanes, now
    dead_letters: Mapping[str, int] = field(default_factory=dict)  # by reason
    answers_lost: int = 0  # their asker's node was gone, or gone before it had acknowledged them
    refused_connections: int = 0
    sample_every: int = 1  # one message in so many is measured, now
    health: Mapping[str, bool] = field(default_factory=dict)
    seat: SeatSnapshot = SeatSnapshot()
    asks: AskSnapshot = AskSnapshot()
    cache: CacheSnapshot = CacheSnapshot()
    loop: LoopSnapshot = LoopSnapshot()
    links: tuple[LinkSnapshot, ...] = ()
    types: tuple[ActorTypeSnapshot, ...] = ()
    gauges: Mapping[str, float] = field(default_factory=dict)  # added by others: certificate expiry …

    @property
    def latency(self) -> HistogramSnapshot:
        """From the mailbox's door to the handler's end, over all types."""
        whole = EMPTY_SECONDS
        for each in self.types:
            whole = whole.plus(each.latency)
        return whole

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; ``snapshot_from_dict`` is the inverse."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, HistogramSnapshot):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def snapshot_from_dict(plain: Mapping[str, Any]) -> Snapshot:
    """The inverse of ``Snapshot.to_dict``; fields that are not known are passed over, missing ones have defaults.

    Raises TypeError, KeyError or ValueError for what is no snapshot."""
    return _build(
        Snapshot,
        plain,
        {
            "seat": lambda each: _build(SeatSnapshot, each),
            "asks": lambda each: _build(AskSnapshot, each, {"round_trip": HistogramSnapshot.from_dict}),
            "cache": lambda each: _build(CacheSnapshot, each),
            "loop": lambda each: _build(LoopSnapshot, each, _histograms("lag", "gc_pauses")),
            "links": lambda each: tuple(_link(link) for link in each),
            "types": lambda each: tuple(_type(kind) for kind in each),
        },
    )


def _link(plain: Mapping[str, Any]) -> LinkSnapshot:
    readers = {"breaker": lambda each: _build(BreakerSnapshot, each)}
    return _build(LinkSnapshot, plain, readers | _histograms("round_trip", "batch"))


def _type(plain: Mapping[str, Any]) -> ActorTypeSnapshot:
    return _build(ActorTypeSnapshot, plain, _histograms("latency", "handling"))


def _histograms(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, HistogramSnapshot.from_dict)


def _build(kind: type[Part], plain: Mapping[str, Any], readers: Mapping[str, Any] = NOTHING) -> Part:
    known = {each.name for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(
        **{
            name: readers[name](value) if name in readers else value
            for name, value in plain.items()
            if name in known
        }
    )
