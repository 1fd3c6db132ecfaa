"""What the benchmarks of single parts share: a ratio that holds on a machine which is busy with other things."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

Work = Callable[[], object]


def median_ratio(ours: Work, plain: Work, rounds: int = 41) -> float:
    """How much more CPU time ``ours`` takes than ``plain``; both alternate, so that noise meets both alike."""
    ratios = []
    for _ in range(rounds):
        times = []
        for work in (ours, plain):
            began = time.process_time_ns()
            work()
            times.append(time.process_time_ns() - began)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios)


@pytest.fixture
def costs_at_most() -> Callable[[str, Work, Work, float], None]:
    """``costs_at_most(name, ours, plain, limit)``: prints the ratio of CPU time (``-s`` shows it), and holds it."""

    def hold(name: str, ours: Work, plain: Work, limit: float) -> None:
        ratio = median_ratio(ours, plain)
        print(f"\n{name}: {ratio:.2f} × (at most {limit:g})")
        assert ratio <= limit

    return hold
