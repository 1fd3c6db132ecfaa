"""Time and chance, as ports: everything that needs them is handed them, so that a simulation can hand in others.

Laws: durations are measured on a monotonic clock in integer nanoseconds; the wall clock is never read.
"""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time. On one machine all processes see the same clock (CLOCK_MONOTONIC)."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary point in the past; never goes back."""
        ...


class MonotonicClock:
    """The real one."""

    __slots__ = ()

    now_ns = staticmethod(time.monotonic_ns)


class ManualClock:
    """A clock that stands until it is turned: for tests."""

    __slots__ = ("_now",)

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self._now = now_ns

    def now_ns(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Turn it forward; raises ValueError for a negative step."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {seconds!r} s")
        self._now += round(seconds * 1e9)


def system_random() -> random.Random:
    """A generator seeded by the operating system."""
    return random.Random()
