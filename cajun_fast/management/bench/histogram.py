"""Latencies, counted in buckets that are as fine as their values are small (as in an HDR histogram).

Laws: a value is found again with an error below one percent; nothing is averaged away; two histograms of
the same thing can be merged. What is recorded should be measured from the moment the work was *due*, or a
stall hides the many that would have been started during it (coordinated omission); see ``measure.paced``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

FINE_BITS = 7  # 128 buckets for each doubling


class Histogram:
    """Counts of whole numbers above 0, nanoseconds here."""

    __slots__ = ("_buckets", "count", "largest")

    def __init__(self, values: Iterable[int] = ()) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.largest = 0
        for value in values:
            self.record(value)

    def record(self, value: int) -> None:
        """Count one value; what is below 0 counts as 0."""
        value = max(value, 0)
        self._buckets[bucket_of(value)] += 1
        self.count += 1
        self.largest = max(self.largest, value)

    def merge(self, other: Self) -> None:
        """Count the other's values too."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.largest = max(self.largest, other.largest)

    def percentile(self, percent: float) -> int:
        """The value that ``percent`` of all values do not exceed; 0 when there are none."""
        due = percent / 100 * self.count
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= due:
                return min(top_of(bucket), self.largest)
        return self.largest

    def to_json(self) -> dict[str, int]:
        """Its buckets, as JSON can hold them."""
        return {str(bucket): count for bucket, count in sorted(self._buckets.items())}

    @classmethod
    def from_json(cls, buckets: Mapping[str, int]) -> Self:
        """The inverse of ``to_json``; the largest value is known to a bucket only."""
        found = cls()
        found._buckets.update({int(bucket): count for bucket, count in buckets.items()})
        found.count = sum(buckets.values())
        found.largest = top_of(max(found._buckets)) if found._buckets else 0
        return found


def bucket_of(value: int) -> int:
    """Which bucket a value falls into."""
    shift = max(value.bit_length() - FINE_BITS - 1, 0)
    return (shift << FINE_BITS) + (value >> shift)


def top_of(bucket: int) -> int:
    """The largest value that falls into a bucket."""
    shift = max((bucket >> FINE_BITS) - 1, 0)
    return ((bucket - (shift << FINE_BITS) + 1) << shift) - 1
