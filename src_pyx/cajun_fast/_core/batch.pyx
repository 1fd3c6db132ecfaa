# cython: binding=False
"""What leaves together: queues bounded by count, bytes and age. batch.pxd tells the design.

Laws: they read no clock and send nothing; times are int nanoseconds of one monotonic clock that never goes back. What
was put in comes out, is handed back, or was refused: nothing vanishes.
"""

import enum
from types import GenericAlias

cimport cython
from libc.stdint cimport INT64_MAX, int64_t

from cajun_fast._core.checks cimport whole


class Verdict(enum.IntEnum):
    """What became of an item."""

    QUEUED = BATCH_QUEUED
    READY = BATCH_READY
    REFUSED = BATCH_REFUSED


cdef object queued = Verdict.QUEUED
cdef object ready = Verdict.READY
cdef object refused = Verdict.REFUSED


@cython.final
cdef class _Slot:
    """One item's place."""


cdef _Slot new_slot(object key, object item, Py_ssize_t size):
    if size < 0:
        raise ValueError(f"size={size} of {item!r} is out of range: give the bytes it takes, 0 or more")
    cdef _Slot slot = _Slot.__new__(_Slot)
    slot.key, slot.item, slot.size = key, item, size
    return slot


cdef class _Line:
    """What both queues are: slots in order, and when a batch of them is due."""

    def __cinit__(self, max_count, max_bytes, max_age_ns, max_pending=0):
        self.max_count = whole(max_count, "max_count", 1)
        self.max_bytes = whole(max_bytes, "max_bytes", 1)
        self.max_age_ns = whole(max_age_ns, "max_age_ns", 0, INT64_MAX // 4)
        self.max_pending = whole(max_pending, "max_pending", 0)
        self._slots = []

    cpdef bint due(self, int64_t now) except -1:
        """Whether a batch should go now."""
        if not self.count or now < self.paused_until:
            return False
        return self._full() or now - self._oldest().since >= self.max_age_ns

    cpdef object deadline(self):
        """Nanoseconds of the clock from which a batch is due if nothing more comes; None while nothing waits.

        It lies in the past when a batch is due.
        """
        if not self.count:
            return None
        cdef int64_t since = self._oldest().since
        return max(self.paused_until, since if self._full() else since + self.max_age_ns)

    def pause(self, int64_t until):
        """Let nothing be due before that time, however much waits: after a failure, so that retries do not run hot."""
        self.paused_until = until

    @property
    def places(self):
        """Places in the line, the empty ones too; for inspection."""
        return len(self._slots)

    cdef bint _full(self) noexcept:
        return self.count >= self.max_count or self.bytes >= self.max_bytes

    cdef _Slot _oldest(self):
        """The head of the line; only while something waits."""
        return <_Slot> self._slots[self._head]

    cdef object _append(self, _Slot slot, int64_t now):
        slot.since = now
        self._slots.append(slot)
        self.count += 1
        self.bytes += slot.size
        return ready if self._full() else queued

    cdef list _take(self):
        """The slots of one batch, oldest first, out of the line."""
        cdef list batch = []
        cdef Py_ssize_t size = 0
        cdef _Slot slot
        while self.count and len(batch) < self.max_count:
            slot = self._oldest()
            if batch and size + slot.size > self.max_bytes:
                break
            batch.append(slot)
            size += slot.size
            self.count -= 1
            self._slots[self._head] = None
            self._head += 1
            self._move_up()
        self.bytes -= size
        return batch

    cdef int _move_up(self) except -1:
        """The head of the line is an item again, and the line not mostly gaps: behind a stuck one they would add up."""
        cdef Py_ssize_t places = len(self._slots)
        while self._head < places and (<_Slot> self._slots[self._head]).gone:
            self._slots[self._head] = None
            self._head += 1
        if places > 2 * self.count + 64:
            self._slots = [slot for slot in self._slots[self._head:] if not (<_Slot> slot).gone]
            self._head = 0
        return 0


@cython.final
cdef class BatchQueue(_Line):
    """Items in order, in batches of at most ``max_count`` items and ``max_bytes`` (one item always fits).

    A batch is due when that much waits, or when the oldest has waited ``max_age_ns``. With ``max_pending``, no more
    than so many items may wait. Raises TypeError or ValueError for limits that are not ints or out of range.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __len__(self):
        return self.count

    cpdef object add(self, object item, Py_ssize_t size, int64_t now):
        """Let an item of so many bytes wait; answers a Verdict. Raises ValueError for a negative size."""
        cdef _Slot slot = new_slot(None, item, size)
        if self.max_pending and self.count >= self.max_pending:
            return refused
        return self._append(slot, now)

    cpdef list take(self):
        """The next batch, oldest first, due or not; empty when nothing waits."""
        return [(<_Slot> slot).item for slot in self._take()]


@cython.final
cdef class KeyedBatchQueue(_Line):
    """One intention a key, in batches as by BatchQueue; ``max_pending`` counts what waits and what is held.

    A taken item is outstanding until ``settle`` or ``restore`` says how it ended. Meanwhile a newer one of its key is
    held back; before that, a newer one replaces the one that waits. What was replaced or superseded is handed back, so
    that whoever waits for it can be told.
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __cinit__(self, *_, **__):
        self._waiting = {}
        self._held = {}
        self._outstanding = {}

    def __len__(self):
        return self.count + len(self._held)

    @property
    def outstanding(self):
        """How many items were taken and have not ended."""
        return len(self._outstanding)

    def put(self, key, item, Py_ssize_t size, int64_t now):
        """The newest intention of a key; answers (Verdict, the item that it replaces or None).

        Raises ValueError for a negative size.
        """
        cdef _Slot slot = new_slot(key, item, size)
        cdef _Slot older = self._waiting.get(key)
        if older is not None:
            replaced, older.item = older.item, item
            self.bytes += size - older.size
            older.size = size
            return (ready if self._full() else queued), replaced
        older = self._held.get(key)
        if older is None and self._refuses_more():
            return refused, None
        if key in self._outstanding:
            self._held[key] = slot
            return queued, (None if older is None else older.item)
        self._waiting[key] = slot
        return self._append(slot, now), None

    def discard(self, key):
        """Take back what waits or is held for a key, and answer it; None when there is nothing (any more)."""
        cdef _Slot slot = self._held.pop(key, None)
        if slot is None:
            slot = self._waiting.pop(key, None)
            if slot is None:
                return None
            slot.gone = True
            self.count -= 1
            self.bytes -= slot.size
            self._move_up()
        item, slot.item = slot.item, None
        return item

    def take(self):
        """The next batch, oldest first, due or not; its items are outstanding from now on."""
        cdef _Slot slot
        items = []
        for slot in self._take():
            self._outstanding[slot.key] = self._waiting.pop(slot.key)
            items.append(slot.item)
        return items

    def settle(self, key, int64_t now):
        """The outstanding item of a key has ended for good, one way or the other; a newer one may go now.

        Answers whether there was a newer one. Raises KeyError when none is outstanding.
        """
        self._ended(key)
        return self._release(key, now)

    def restore(self, key, int64_t now):
        """The attempt with the outstanding item of a key failed: let it wait again, behind all others.

        If a newer one came meanwhile, that one waits in its place and the older is handed back: it must not be written
        any more. Else None. Raises KeyError when none is outstanding.
        """
        cdef _Slot failed = self._ended(key)
        if self._release(key, now):
            return failed.item
        self._waiting[key] = failed
        self._append(failed, now)
        return None

    cdef _Slot _ended(self, object key):
        cdef _Slot slot = self._outstanding.pop(key, None)
        if slot is None:
            raise KeyError(f"nothing is outstanding for key {key!r}: settle or restore what take() gave, once")
        return slot

    cdef bint _refuses_more(self) noexcept:
        return self.max_pending and self.count + len(self._held) >= self.max_pending

    cdef bint _release(self, object key, int64_t now) except -1:
        """What is held for a key joins the line; its age counts from here. False when nothing is."""
        cdef _Slot slot = self._held.pop(key, None)
        if slot is None:
            return False
        self._waiting[key] = slot
        self._append(slot, now)
        return True
