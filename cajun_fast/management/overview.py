"""The whole cluster at one moment, out of what its nodes say of themselves: pure, two rounds of reports in, one map
out.

Laws: no I/O and no clock; rates and percentiles are those of the time between the two rounds; a node that did not
answer stands in the result with its error, and what was known of it is not made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cajun_fast.cluster.manager import NodeInfo
from cajun_fast.errors import CajunError
from cajun_fast.metrics.histogram import EMPTY_SECONDS, HistogramSnapshot

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Round:
    """What all nodes answered at about the same time; ``at_ns`` is the asker's clock."""

    at_ns: int = 0
    answers: Mapping[str, Report | CajunError] = field(default_factory=dict)

    def report(self, node: str, incarnation: int | None = None) -> Report | None:
        """A node's, None where it gave none or was another life."""
        answer = self.answers.get(node)
        if answer is None or isinstance(answer, CajunError):
            return None
        return answer if incarnation is None or answer["incarnation"] == incarnation else None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rounds, and the seconds between them."""

    before: Round
    now: Round

    @property
    def seconds(self) -> float:
        return (self.now.at_ns - self.before.at_ns) / 1e9 if self.before.at_ns else 0.0

    def rate(self, now: float, before: float | None) -> float:
        """Per second; 0.0 where the earlier number is missing or was of something else."""
        if before is None or self.seconds <= 0:
            return 0.0
        return max(0.0, now - before) / self.seconds


def overview(infos: Sequence[NodeInfo], pair: Pair) -> dict[str, Any]:
    """See the module's laws."""
    nodes = [_node(info, pair) for info in infos]
    latency = EMPTY_SECONDS
    for info in infos:
        latency = latency.plus(_latency(info.node, pair))
    return {
        "seconds": pair.seconds,
        "leader": next((info.node for info in infos if info.is_leader), None),
        "totals": {
            "nodes": len(nodes),
            "actors": sum(node["actors"] for node in nodes),
            "handled_per_second": sum(node["handled_per_second"] for node in nodes),
            "sent_per_second": sum(node["sent_per_second"] for node in nodes),
            "queued": sum(node["queued"] for node in nodes),
            "dead_letters": sum(node["dead_letters"] for node in nodes),
            "latency": _percentiles(latency),
        },
        "nodes": nodes,
        "links": [link for info in infos for link in _links(info, pair)],
        "hottest": _hottest(infos, pair.now),
    }


def _node(info: NodeInfo, pair: Pair) -> dict[str, Any]:
    report = pair.now.report(info.node, info.incarnation)
    answer = pair.now.answers.get(info.node)
    before = pair.before.report(info.node, info.incarnation)
    row: dict[str, Any] = {
        "node": info.node,
        "incarnation": info.incarnation,
        "address": str(info.address),
        "version": info.version,
        "roles": list(info.roles),
        "is_client": info.is_client,
        "is_leader": info.is_leader,
        "is_leaving": info.is_leaving,
        "is_cordoned": bool(getattr(info, "is_cordoned", False)),
        "is_fenced": False,
        "answers": report is not None,
        "error": str(answer) if isinstance(answer, CajunError) else None,
        "actors": info.actors,
        **dict.fromkeys(("uptime", "loop_lag", "longest_hold", "handled_per_second", "sent_per_second"), 0.0),
        "held_by": "",
        **dict.fromkeys(("queued", "waiting", "asks", "failed", "dead_letters"), 0),
        "health": {},
        "latency": _percentiles(EMPTY_SECONDS),
    }
    if report is None:
        return row
    row.update({name: report[name] for name in _SAME})
    row.update({name: report[name] for name in ("longest_hold", "held_by") if name in report})
    row["dead_letters"] = sum(report["dead_letters"].values())
    row["handled_per_second"] = pair.rate(report["handled"], before["handled"] if before else None)
    row["sent_per_second"] = pair.rate(_sent(report), _sent(before) if before else None)
    row["latency"] = _percentiles(_latency(info.node, pair))
    return row


_SAME = ("is_fenced", "actors", "uptime", "loop_lag", "queued", "waiting", "asks", "failed", "health")


def _sent(report: Report) -> int:
    return sum(link["sent"] for link in report["links"])


def _latency(node: str, pair: Pair) -> HistogramSnapshot:
    """What was handled between the two rounds; all of it where there is no earlier one."""
    report = pair.now.report(node)
    if report is None:
        return EMPTY_SECONDS
    whole = HistogramSnapshot.from_dict(report["latency"])
    before = pair.before.report(node, report["incarnation"])
    return whole.since(HistogramSnapshot.from_dict(before["latency"])) if before is not None else whole


def _percentiles(histogram: HistogramSnapshot) -> dict[str, float]:
    return {
        "count": histogram.count,
        "p50": histogram.percentile(50),
        "p90": histogram.percentile(90),
        "p99": histogram.percentile(99),
        "largest": histogram.largest,
    }


def _links(info: NodeInfo, pair: Pair) -> list[dict[str, Any]]:
    """The links that this node has, each told from its side: what it sends."""
    report = pair.now.report(info.node, info.incarnation)
    if report is None:
        return []
    before = pair.before.report(info.node, info.incarnation)
    earlier = {(link["peer"], link["incarnation"]): link for link in (before["links"] if before else ())}
    return [
        _link(info.node, link, earlier.get((link["peer"], link["incarnation"])), pair)
        for link in report["links"]
        if link["up"] or link["sent"] or link["received"]
    ]


def _link(node: str, link: Report, before: Report | None, pair: Pair) -> dict[str, Any]:
    same = (
        "peer", "up", "transport", "state", "resent", "returned", "unacknowledged", "unacknowledged_bytes",
        "breaker", "round_trip_p50", "round_trip_p99",
    )  # fmt: skip
    return {
        "node": node,
        **{name: link[name] for name in same},
        "messages_per_second": pair.rate(link["sent"], before["sent"] if before else None),
        "bytes_per_second": pair.rate(link["sent_bytes"], before["sent_bytes"] if before else None),
    }


#: Seconds for which one handler had the loop that an operator wants to hear of.
LONG_HOLD = 0.05


def _hottest(infos: Sequence[NodeInfo], now: Round, limit: int = 20) -> list[dict[str, Any]]:
    rows = []
    for info in infos:
        report = now.report(info.node, info.incarnation)
        rows += [{"node": info.node, "bytes": 0.0, **row} for row in (report["hottest"] if report else ())]
    held = LONG_HOLD  # who holds a loop so long stands first, however little of the time that is
    rows.sort(
        key=lambda row: (row["hold"] >= held, row["busy"], row["rate"], row["bytes"], row["queue"]),
        reverse=True,
    )
    return rows[:limit]
