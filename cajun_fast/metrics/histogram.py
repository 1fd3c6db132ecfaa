"""A histogram at one moment: what the compiled one held, as plain data that can be compared and sent.

Laws: frozen; buckets are those of the core (32 to each doubling), so a value is found again within 3 %; nothing is
averaged away. The difference of two pictures of one histogram is the histogram of what came between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cajun_fast._core.instruments import Histogram, bucket_top


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """``unit``: "s" for times (kept in ns inside), "1" for plain numbers. ``count`` values, their ``sum``, the
    ``largest`` since the start; ``buckets``: (the largest value that falls into it, how many did), rising, empty ones
    left out."""

    unit: str
    count: int
    sum: float
    largest: float
    buckets: tuple[tuple[float, int], ...] = ()

    @property
    def mean(self) -> float:
        """0.0 where there are no values."""
        return self.sum / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The value that ``percent`` of all values do not exceed; 0.0 where there are none."""
        due, seen = percent / 100 * self.count, 0
        for top, count in self.buckets:
            seen += count
            if seen >= due and seen:
                return min(top, self.largest)
        return self.largest

    def since(self, earlier: HistogramSnapshot) -> HistogramSnapshot:
        """What came after ``earlier``, a picture of the same histogram; ``largest`` is then known to a bucket only."""
        before = dict(earlier.buckets)
        left = ((top, count - before.get(top, 0)) for top, count in self.buckets)
        buckets = tuple((top, count) for top, count in left if count > 0)
        largest = min(self.largest, buckets[-1][0]) if buckets else 0.0
        return HistogramSnapshot(
            self.unit, max(0, self.count - earlier.count), max(0.0, self.sum - earlier.sum), largest, buckets
        )

    def plus(self, other: HistogramSnapshot) -> HistogramSnapshot:
        """Both together."""
        both = dict(self.buckets)
        for top, count in other.buckets:
            both[top] = both.get(top, 0) + count
        return HistogramSnapshot(
            self.unit,
            self.count + other.count,
            self.sum + other.sum,
            max(self.largest, other.largest),
            tuple(sorted(both.items())),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, with the percentiles that people ask for; ``from_dict`` is the inverse."""
        return {
            "unit": self.unit,
            "count": self.count,
            "sum": self.sum,
            "mean": self.mean,
            "p50": self.percentile(50),
            "p90": self.percentile(90),
            "p99": self.percentile(99),
            "p999": self.percentile(99.9),
            "largest": self.largest,
            "buckets": [[top, count] for top, count in self.buckets],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> HistogramSnapshot:
        """The inverse of ``to_dict``."""
        return cls(
            str(plain["unit"]),
            int(plain["count"]),
            float(plain["sum"]),
            float(plain["largest"]),
            tuple((float(top), int(count)) for top, count in plain["buckets"]),
        )


EMPTY_SECONDS = HistogramSnapshot("s", 0, 0.0, 0.0)
EMPTY_NUMBERS = HistogramSnapshot("1", 0, 0.0, 0.0)


def seconds_of(histogram: Histogram) -> HistogramSnapshot:
    """Of one that holds nanoseconds."""
    return _taken(histogram, "s", 1e-9)


def numbers_of(histogram: Histogram) -> HistogramSnapshot:
    """Of one that holds plain numbers."""
    return _taken(histogram, "1", 1)


def _taken(histogram: Histogram, unit: str, scale: float) -> HistogramSnapshot:
    buckets = tuple((bucket_top(index) * scale, count) for index, count in histogram.filled())
    return HistogramSnapshot(
        unit, histogram.count, histogram.total * scale, histogram.largest * scale, buckets
    )
