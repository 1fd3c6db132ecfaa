"""Numbers for Prometheus, by its conventions: ``pip install 'cajun-fast[prometheus]'``.

    prometheus_client.REGISTRY.register(SnapshotCollector(system))     # beside what your program shows already
    body = render(system.metrics.snapshot())                           # the text of one node, for a handler of your own

Laws: a snapshot is read when Prometheus asks and never between; each series says its node, so that several nodes of one
process can be shown together, by one collector. Counters of a link begin anew with the peer's next life, which
Prometheus expects.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.registry import Collector

from cajun_fast.errors import NotRunningError
from cajun_fast.metrics.catalogue import Kind, Series, series
from cajun_fast.metrics.histogram import HistogramSnapshot
from cajun_fast.metrics.snapshot import Snapshot

__all__ = ["CONTENT_TYPE", "SnapshotCollector", "families", "render"]

#: Bounds of the shown buckets: 1, 2.5 and 5 of each decade. What is kept inside is finer.
SECONDS = tuple(float(f"{digit}e{power}") for power in range(-6, 2) for digit in (1, 2.5, 5))
MESSAGES = tuple(float(4**power) for power in range(9))
#: Seconds that a scrape from another thread waits for the node's loop.
PATIENCE = 5.0


class Metrics(Protocol):
    """What is needed of ``system.metrics``."""

    def snapshot(self) -> Snapshot: ...


class System(Protocol):
    """What is needed of a system."""

    @property
    def metrics(self) -> Metrics: ...


class SnapshotCollector(Collector):
    """The numbers of running systems of one loop, read at each scrape. Make it on that loop; scrapes may come from any
    thread. A system that does not run shows nothing; a loop that does not answer a scrape for 5 s raises TimeoutError.
    """

    def __init__(self, *systems: System) -> None:
        self._systems = systems
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def describe(self) -> Iterable[Metric]:
        """Nothing is read at the registration."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        if threading.get_ident() == self._thread:
            return families(*self._read())
        if self._loop.is_closed():
            return ()
        return families(*asyncio.run_coroutine_threadsafe(self._read_there(), self._loop).result(PATIENCE))

    def _read(self) -> list[Snapshot]:
        found = []
        for system in self._systems:
            with contextlib.suppress(NotRunningError):
                found.append(system.metrics.snapshot())
        return found

    async def _read_there(self) -> list[Snapshot]:
        return self._read()


class _Fixed(Collector):
    def __init__(self, snapshots: tuple[Snapshot, ...]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterable[Metric]:
        return families(*self._snapshots)


def render(*snapshots: Snapshot) -> bytes:
    """Nodes in the text format, to be sent as ``CONTENT_TYPE``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(snapshots))
    return generate_latest(registry)


def families(*snapshots: Snapshot) -> Iterable[Metric]:
    """All numbers of some nodes, each family once."""
    found: dict[str, Metric] = {}
    for snapshot in snapshots:
        for each in series(snapshot):
            family = found.get(each.row.name)
            if family is None:
                family = found[each.row.name] = _family(each)
            _fill(family, each, snapshot.node)
    return found.values()


def _family(of: Series) -> Any:
    kind = {
        Kind.COUNTER: CounterMetricFamily,
        Kind.GAUGE: GaugeMetricFamily,
        Kind.HISTOGRAM: HistogramMetricFamily,
    }[of.row.kind]
    return kind(f"cajun_{of.row.name}", of.row.text, labels=["node", *of.labels])


def _fill(family: Any, of: Series, node: str) -> None:
    for labels, value in of.values.items():
        if of.row.kind is Kind.HISTOGRAM:
            bounds = MESSAGES if value.unit == "1" else SECONDS
            family.add_metric([node, *labels], list(cumulated(value, bounds)), value.sum)
        else:
            family.add_metric([node, *labels], float(value))


def cumulated(histogram: HistogramSnapshot, bounds: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    """(le, how many values do not exceed it), the last one +Inf."""
    buckets, seen, at = histogram.buckets, 0, 0
    for bound in bounds:
        while at < len(buckets) and buckets[at][0] <= bound:
            seen += buckets[at][1]
            at += 1
        yield f"{bound:.10g}", float(seen)
    yield "+Inf", float(histogram.count)
