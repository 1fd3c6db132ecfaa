"""ClusterMetrics: the numbers of one member, under the names of the seed, and one picture of all of them.

Laws: reading changes nothing and waits for nothing; a snapshot costs the links and actor types that there are, plus one
compiled pass over the mailboxes. Numbers are this node's own unless a name says cluster; each says its unit and window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cajun_fast._core.cell import queued_messages
from cajun_fast.cluster import readings
from cajun_fast.cluster.security import is_secure
from cajun_fast.errors import ConfigError
from cajun_fast.metrics.holds import Hold, Holds
from cajun_fast.metrics.recorder import Recorder
from cajun_fast.metrics.snapshot import Snapshot

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

#: A loop whose timers come later than this (seconds) is not well.
LAG_LIMIT = 1.0
#: Messages that wait in lanes are counted again after this time (seconds): there may be a hundred thousand lanes.
COUNT_AGAIN = 1.0

Gauge = Callable[[], float | None]


class ClusterMetrics:
    """``system.metrics``. Of a system that does not run, every call raises NotRunningError."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._gauges: dict[str, Gauge] = {}
        self._recorder: Recorder | None = None
        self._waiting = 0
        self._waiting_at_ns = 0

    # ---- life, for the node

    def start(self) -> None:
        """Begin to look at the loop; the node's actors run already."""
        node = self._node
        self._holds = Holds(node.actors.dispatcher.take_longest)
        self._recorder = Recorder(node.ports.clock, self._counts, node.exchange.sampler, self._holds)
        self._recorder.start()

    def stop(self) -> None:
        """The numbers stand still from now on."""
        if self._recorder is not None:
            self._recorder.stop()

    def add_gauge(self, name: str, read: Gauge) -> Callable[[], None]:
        """Show a number of somebody else's in every snapshot, ``tls_certificate_expiry_seconds`` for example; the
        returned function ends that. ``read()`` must be quick and not raise; None: nothing to show right now.

        Raises ConfigError for a name that is taken."""
        if name in self._gauges:
            raise ConfigError(f"a gauge {name!r} is shown already: choose another name")
        self._gauges[name] = read
        return lambda: self._gauges.pop(name, None) and None

    # ---- the seed's names

    def get_actor_count(self) -> int:
        """Actors on this node now, those that start or stop among them, the engine's own left out."""
        return sum(tally.actors for tally in readings.tallies(self._node))

    def get_node_count(self) -> int:
        """Living members of the cluster now, as this node knows them: clients count, and this node."""
        return len(self._node.members.nodes.keys() | {self._node.owner.node})

    def get_message_throughput(self) -> float:
        """Messages per second that this node's actors began to handle, over the last 10 s (or since the start)."""
        return self._recording.rates()[0]

    def get_average_message_latency(self) -> float:
        """Seconds from the mailbox's door to the end of the handler: the mean over all messages since the start, of
        a sample that stands for all (see ``snapshot().latency`` for percentiles, and each link's ``round_trip`` for
        the time to the acknowledgement, which is another thing). 0.0 before the first message."""
        tallies = readings.tallies(self._node)
        count = sum(tally.latency.count for tally in tallies)
        return sum(tally.latency.total for tally in tallies) / count / 1e9 if count else 0.0

    def get_failed_message_count(self) -> int:
        """Messages of which this node knows since its start that they were not handled well: its dead letters, sends
        and asks that ended with an error before a handler saw them, and messages whose handler raised."""
        return readings.failed(self._node)

    def get_health_status(self) -> dict[str, bool]:
        """What this node needs, and whether it has it right now.

        metadata_store: it answers · membership: this node holds its seat (its actors may act) · messaging: it listens,
        and at least one link stands where there are other nodes · event_loop: the last timer came within 1 s of its
        time · security, where TLS or authentication is on: the certificate counts, and the newest files are in use.
        """
        node = self._node
        return {
            "metadata_store": node.health.available,
            "membership": not node.membership.fenced,
            "messaging": readings.messaging_serves(node),
            "event_loop": self._recording.last_lag < LAG_LIMIT,
            **({"security": is_secure(node)} if node.security.is_on else {}),
        }

    # ---- all of it

    def snapshot(self) -> Snapshot:
        """Everything, at this moment. ``to_dict()`` makes JSON of it."""
        node, recorder = self._node, self._recording
        rates = recorder.rates()
        return Snapshot(
            node=node.owner.node,
            incarnation=node.owner.incarnation,
            version=node.version,
            uptime=recorder.uptime,
            nodes=self.get_node_count(),
            actors=self.get_actor_count(),
            handled=self._counts()[0],
            handled_per_second=rates[0],
            sent_per_second=rates[1],
            failed=self.get_failed_message_count(),
            queued=queued_messages(node.exchange.inboxes),
            waiting=self._count_waiting(),
            dead_letters=node.actors.dead_letters.counts,
            answers_lost=node.exchange.answers_lost,
            refused_connections=node.messaging.turned_down,
            sample_every=node.exchange.sampler.every,
            health=self.get_health_status(),
            seat=readings.seat(node),
            asks=readings.asks(node.exchange.asks),
            cache=readings.cache(node.locator.cache),
            loop=readings.loop(recorder, self.longest_hold()),
            links=readings.links(node),
            types=readings.types(node),
            gauges=self._read_gauges(),
        )

    def longest_hold(self, since_ns: int = 0) -> Hold:
        """Which actor's handler had the loop for longest without a break: in the last minute, or since then."""
        self._holds.look(self._node.ports.clock.now_ns())
        return self._holds.longest(since_ns)

    @property
    def _recording(self) -> Recorder:
        self._node.actors.dispatcher  # noqa: B018 - raises before the start and after the stop
        assert self._recorder is not None
        return self._recorder

    def _counts(self) -> tuple[int, ...]:
        handled = sum(tally.handled for tally in readings.tallies(self._node))
        return handled, readings.sent(self._node)

    def _count_waiting(self) -> int:
        now = self._node.ports.clock.now_ns()
        if now - self._waiting_at_ns > COUNT_AGAIN * 1e9:
            self._waiting = sum(lane.waiting_count for lane in self._node.exchange.lanes())
            self._waiting_at_ns = now
        return self._waiting

    def _read_gauges(self) -> Mapping[str, float]:
        read = ((name, gauge()) for name, gauge in self._gauges.items())
        return {name: float(value) for name, value in read if value is not None}
