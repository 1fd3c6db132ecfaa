"""What a node says of itself: its seat, its links, its hottest actors, its dead letters. Plain values only.

Laws: read from what is counted anyway; a report costs its asker's turn and no message anything. Ages and durations are
in seconds, counters rise from the start of what they count, so whoever wants rates takes two reports.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cajun_fast._core.cell import Cell
from cajun_fast.actors.dead_letters import DeadLetter
from cajun_fast.actors.stack import lines_of
from cajun_fast.cluster.hottest import Hottest, type_name
from cajun_fast.cluster.inspector import Inspector, inspector_id
from cajun_fast.cluster.shards import listing
from cajun_fast.errors import ActorNotFoundError
from cajun_fast.messaging.peer import Peer
from cajun_fast.metrics.snapshot import LinkSnapshot

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

#: The most that one question gets, whatever it asks for.
MOST = 1000
#: Characters of a message that are shown.
SHOWN = 300


async def start_inspector(node: Node) -> Inspector:
    """Put the inspector to work on a node that starts."""
    inspector = Inspector(node.owner.node)
    reporter = Reporter(node)
    inspector.answer("report", reporter.report)
    inspector.answer("wall-clock", lambda asked: time.time())  # for people; nothing here goes by it
    inspector.answer("snapshot", lambda asked: node.metrics.snapshot().to_dict())
    inspector.answer("actor", reporter.actor)
    inspector.answer("dead-letters", reporter.dead_letters)
    inspector.answer(listing.QUESTION, lambda asked: listing.list_sharded(node.sharding, asked))
    await node.actors.register_function(inspector.receive, inspector_id(node.owner.node))
    return inspector


class Reporter:
    """The answers of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.hottest = Hottest(node.actors, node.metrics.longest_hold)

    def _age(self, at_ns: int) -> float:
        return max(0, self._node.ports.clock.now_ns() - at_ns) / 1e9

    async def report(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """``hottest``: how many actors of each order; ``after``: the last event that is known, with ``life``: of which
        incarnation."""
        node = self._node
        snapshot = node.metrics.snapshot()
        hottest = _bounded(asked.get("hottest"), 0)
        after = int(asked.get("after") or 0) if asked.get("life") == node.owner.incarnation else 0
        return {
            "node": node.owner.node,
            "incarnation": node.owner.incarnation,
            "version": node.version,
            "is_client": node.config.client,
            "uptime": snapshot.uptime,
            "is_leader": node.leadership.is_leader,
            "is_fenced": node.membership.fenced,
            "is_store_available": node.health.available,
            "actors": snapshot.actors,
            "asks": snapshot.asks.in_flight,
            "handled": snapshot.handled,
            "handled_per_second": snapshot.handled_per_second,
            "failed": snapshot.failed,
            "queued": snapshot.queued,
            "waiting": snapshot.waiting,
            "loop_lag": snapshot.loop.last_lag,
            "longest_hold": snapshot.loop.longest_hold,
            "held_by": snapshot.loop.held_by,
            "health": dict(snapshot.health),
            "latency": snapshot.latency.to_dict(),
            "dead_letters": dict(snapshot.dead_letters),
            "links": [link_report(link, node.messaging.peer(link.peer)) for link in snapshot.links],
            "hottest": await self.hottest.look(hottest) if hottest else [],
            "events": self._events(after),
            "last_event": node.events.number,
        }

    def _events(self, after: int) -> list[dict[str, Any]]:
        return [
            {
                "number": event.number,
                "kind": event.kind,
                "text": event.text,
                "age": self._age(event.at_ns),
                "details": dict(event.details),
            }
            for event in self._node.events.after(after)
        ]

    def actor(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One actor that stands here. Raises ActorNotFoundError."""
        actor_id = str(asked.get("id"))
        cell = self._node.actors.cell(actor_id)
        if cell is None:
            raise ActorNotFoundError(f"actor {actor_id!r} does not stand on node {self._node.owner.node!r}")
        return actor_report(cell)

    def dead_letters(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The newest first; ``target`` and ``reason`` choose, ``limit`` bounds."""
        kept = self._node.actors.dead_letters
        chosen = [letter for letter in kept if _is_wanted(letter, asked)]
        chosen.reverse()
        return {
            "total": kept.total,
            "counts": kept.counts,
            "letters": [self._letter(letter) for letter in chosen[: _bounded(asked.get("limit"), 100)]],
        }

    def _letter(self, letter: DeadLetter) -> dict[str, Any]:
        return {
            "target": letter.target,
            "reason": letter.reason,
            "sender": letter.sender,
            "age": self._age(letter.at_ns),
            "type": type(letter.message).__name__,
            "message": _shown(letter.message),
            "message_id": letter.message_id,
        }


def link_report(link: LinkSnapshot, peer: Peer | None) -> dict[str, Any]:
    """One link, as it looks from this side: what changes often, without its histograms."""
    return {
        "peer": link.peer,
        "incarnation": link.incarnation,
        "up": link.is_up,
        "transport": link.transport,
        "state": str(peer.state) if peer is not None else "unknown",
        "sent": sum(link.sent.values()),
        "received": link.received,
        "sent_bytes": link.sent_bytes,
        "received_bytes": link.received_bytes,
        "resent": link.resent,
        "returned": link.returned,
        "unacknowledged": link.unacknowledged,
        "unacknowledged_bytes": link.unacknowledged_bytes,
        "credit_bytes": link.credit_bytes,
        "breaker": link.breaker.state,
        "round_trip_p50": link.round_trip.percentile(50),
        "round_trip_p99": link.round_trip.percentile(99),
    }


def actor_report(cell: Cell) -> dict[str, Any]:
    """One actor, as it stands."""
    task = cell.task
    return {
        "id": cell.id,
        "type": type_name(cell),
        "state": cell.state,
        "queue": cell.mailbox_size,
        "handled": cell.handled,
        "failed": cell.failed,
        "busy_seconds": cell.busy_ns / 1e9,
        "received_bytes": cell.bytes_in,
        "parent": cell.parent.id if cell.parent is not None else None,
        "children": sorted(cell.children or ())[:MOST],
        "handler": next(iter(lines_of(task)), None) if task is not None else None,
    }


def _is_wanted(letter: DeadLetter, asked: Mapping[str, Any]) -> bool:
    target, reason = asked.get("target"), asked.get("reason")
    return (not target or letter.target == target) and (not reason or letter.reason == reason)


def _bounded(wanted: Any, default: int) -> int:
    return min(MOST, max(0, int(default if wanted is None else wanted)))


def _shown(message: Any) -> str:
    if isinstance(message, bytes | bytearray | memoryview):
        return f"{len(message)} bytes, encoded"
    text = repr(message)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
