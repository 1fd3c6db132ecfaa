"""Numbers for OpenTelemetry: ``pip install 'cajun-fast[otel]'`` and an exporter of your choice.

    meter = opentelemetry.metrics.get_meter("my-program")
    observe(meter, system)

The instruments are those of Prometheus under dotted names (``cajun.link.messages_sent``). OpenTelemetry has no
histogram that is read: of each of ours, the count and the sum go as counters, and p50, p99 and the largest value as
gauges.

Laws: read when the SDK collects, on the system's own loop, whichever thread the SDK's reader has; what cannot be read
in time shows nothing, once. The instruments of one collection share a snapshot.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from cajun_fast.errors import NotRunningError
from cajun_fast.metrics.catalogue import LINK, NODE, TYPE, Kind, Row, Series, series
from cajun_fast.metrics.snapshot import Snapshot

#: Seconds that a reader's thread waits for the node's loop.
PATIENCE = 5.0
#: Seconds within which the instruments of one collection share a snapshot.
SHARED = 0.25
QUANTILES = (("p50", 50.0), ("p99", 99.0), ("largest", 100.0))
Read = Callable[[Any], float]


class Metrics(Protocol):
    """What is needed of ``system.metrics``."""

    def snapshot(self) -> Snapshot: ...


class System(Protocol):
    """What is needed of a system."""

    @property
    def metrics(self) -> Metrics: ...


def observe(meter: Meter, system: System) -> None:
    """Make the instruments; call it once for a system, on its loop."""
    source = _Source(system)
    for row in (*NODE, *TYPE, *LINK):
        name = f"cajun.{row.name.replace('_', '.', 1)}"
        if row.kind is not Kind.HISTOGRAM:
            _make(meter, row, name, source, float)
            continue
        _counter(meter, f"{name}.count", row, source, lambda value: value.count)
        _counter(meter, f"{name}.sum", row, source, lambda value: value.sum)
        for label, percent in QUANTILES:
            _gauge(meter, f"{name}.{label}", row, source, _percentile(percent))


def _percentile(percent: float) -> Read:
    return lambda value: float(value.percentile(percent))


def _make(meter: Meter, row: Row, name: str, source: _Source, read: Read) -> None:
    (_counter if row.kind is Kind.COUNTER else _gauge)(meter, name, row, source, read)


def _counter(meter: Meter, name: str, row: Row, source: _Source, read: Read) -> None:
    meter.create_observable_counter(name, [source.callback(row, read)], description=row.text)


def _gauge(meter: Meter, name: str, row: Row, source: _Source, read: Read) -> None:
    meter.create_observable_gauge(name, [source.callback(row, read)], description=row.text)


class _Source:
    """One system's snapshot, for all instruments of a pass."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._rows: dict[str, Series] = {}
        self._node = ""
        self._at = -SHARED

    def callback(self, row: Row, read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observations(_: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                self._refresh()
                of, node = self._rows.get(row.name), self._node
            if of is None:
                return
            for labels, value in of.values.items():
                names = dict(zip(of.labels, labels, strict=True))
                yield Observation(read(value), {"node": node, **names})

        return observations

    def _refresh(self) -> None:
        if self._loop.time() - self._at < SHARED:
            return
        self._rows, self._at = {}, self._loop.time()
        try:
            snapshot = self._read()
        except (NotRunningError, TimeoutError):
            return
        self._node, self._rows = snapshot.node, {each.row.name: each for each in series(snapshot)}

    def _read(self) -> Snapshot:
        if threading.get_ident() == self._thread:
            return self._system.metrics.snapshot()
        if self._loop.is_closed():
            raise NotRunningError("the system's loop is closed")
        return asyncio.run_coroutine_threadsafe(self._read_there(), self._loop).result(PATIENCE)

    async def _read_there(self) -> Snapshot:
        return self._system.metrics.snapshot()
