"""Counters, histograms, and who is measured. See instruments.pxd."""

from libc.string cimport memset


def bucket_top(int index):
    """The largest value that falls into bucket ``index``."""
    cdef int shift = (index >> SUB_BITS) - 1
    if shift < 1:
        return index
    return ((<int64_t>(index - (shift << SUB_BITS)) + 1) << shift) - 1


cdef class Histogram:
    """Whole numbers, counted in buckets as fine as the numbers are small. Below 0 counts as 0."""

    def record(self, int64_t value, uint64_t times=1):
        """Count a value, ``times`` over."""
        self.add(value, times)

    def filled(self):
        """(bucket, count) of those that hold something, rising."""
        return [(index, self.buckets[index]) for index in range(BUCKETS) if self.buckets[index]]

    def clear(self):
        """Forget everything."""
        memset(self.buckets, 0, sizeof(self.buckets))
        self.count = 0
        self.total = 0
        self.largest = 0


cdef class Tally:
    """What the actors of one type have done."""

    def __init__(self, str type):
        self.type = type
        self.latency = Histogram()
        self.handling = Histogram()


cdef class Mark:
    """A message that is measured."""


cdef Mark mark_at(int64_t now):
    cdef Mark mark = Mark.__new__(Mark)
    mark.at = now
    return mark


cdef class Sampler:
    """One message in ``every`` is measured, so many that about ``budget`` are between two calls of ``settle``."""

    def __init__(self, uint32_t budget=256):
        self.budget = budget
        self.every = self.left = 1 if budget else 0

    cdef Mark take(self, int64_t now):
        cdef Mark mark
        if self.every == 0:
            return None
        mark = mark_at(now)
        mark.weight = self.every
        self.spend()
        self.step = self.step * 1664525 + 1013904223
        self.left = 1 + (self.step >> 11) % (2 * self.every - 1)
        return mark

    def settle(self):
        """Called about ten times a second: measure more where there was little."""
        if self.every > 1 and self.taken < self.budget >> 2:
            self.every //= 2
            if self.left > self.every:
                self.left = self.every
        self.taken = 0
