"""What one node measures of itself by looking now and then: its loop, the collector's pauses, rates over a window.

Laws: one timer, ten times a second; nothing here is called for a message. Time comes from the clock that is handed in,
waiting is the loop's. The collector tells every recorder of the process, until its ``stop``.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable
from typing import Any

from cajun_fast._core.instruments import Histogram, Sampler
from cajun_fast.clock import Clock
from cajun_fast.metrics.holds import Holds

#: Seconds between two looks.
TICK = 0.1
#: Seconds that rates are measured over.
WINDOW = 10.0


class Recorder:
    """``counts()`` gives the counters whose rates are wanted, always as many and in the same order."""

    def __init__(
        self, clock: Clock, counts: Callable[[], tuple[int, ...]], sampler: Sampler, holds: Holds
    ) -> None:
        self._clock = clock
        self._counts = counts
        self._sampler = sampler
        self._holds = holds
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns = 0
        self._paused_at_ns = 0
        self.started_ns = clock.now_ns()
        self._past: deque[tuple[int, tuple[int, ...]]] = deque(maxlen=round(WINDOW / TICK) + 1)
        self.lag = Histogram()
        self.last_lag = 0.0
        self.gc_pauses = Histogram()
        self.gc_collections = [0, 0, 0]

    def start(self) -> None:
        """Begin to look, on the running loop."""
        self.started_ns = self._clock.now_ns()
        self._past.append((self.started_ns, self._counts()))
        gc.callbacks.append(self._on_gc)
        self._arm()

    def stop(self) -> None:
        """Look no more. A second call does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._on_gc)

    def _arm(self) -> None:
        self._due_ns = self._clock.now_ns() + round(TICK * 1e9)
        self._timer = asyncio.get_running_loop().call_later(TICK, self._look)

    def _look(self) -> None:
        now = self._clock.now_ns()
        late = max(0, now - self._due_ns)
        self.lag.record(late)
        self.last_lag = late / 1e9
        self._sampler.settle()
        self._holds.look(now)
        self._past.append((now, self._counts()))
        self._arm()

    def _on_gc(self, phase: str, info: dict[str, Any]) -> None:
        now = self._clock.now_ns()
        if phase == "start":
            self._paused_at_ns = now
        elif self._paused_at_ns:
            self.gc_pauses.record(now - self._paused_at_ns)
            self.gc_collections[min(int(info["generation"]), 2)] += 1
            self._paused_at_ns = 0

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return (self._clock.now_ns() - self.started_ns) / 1e9

    def rates(self) -> tuple[float, ...]:
        """Of each counter, per second over the last ten seconds, or since the start where that is less."""
        now, counts = self._clock.now_ns(), self._counts()
        if not self._past or now <= self._past[0][0]:
            return (0.0,) * len(counts)
        then, before = self._past[0]
        seconds = (now - then) / 1e9
        return tuple(max(0, count - earlier) / seconds for count, earlier in zip(counts, before, strict=True))
