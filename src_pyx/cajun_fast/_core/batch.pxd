# What leaves together: items wait until enough of them, enough bytes or enough time have come.
#
#   add/put ─▶ [ slot | slot | … ] ─▶ take ─▶ one batch: at most max_count items and max_bytes (one item always)
#
# A batch is due when max_count or max_bytes is reached, or the oldest item has waited max_age_ns; never before the end
# of a pause. Whoever owns the queue asks `due` or sets one timer for `deadline`; nothing here acts by itself.
#
# KeyedBatchQueue holds one intention a key, for writes whose order per key matters (actor registrations):
#
#              put                take             settle
#        ─────────▶  waiting  ─────────▶ outstanding ─────▶ (done)
#            └───▶  held behind the outstanding one ──▶ waiting, once that has settled or failed
#
# Invariants
#   a key has at most one waiting or held item and at most one outstanding one; it is held exactly while it also has
#   an outstanding one. So of two intentions for a key the newer one is never sent before the older one's end is known
#   a newer item takes the place and the age of the waiting older one: a key that changes all the time cannot put off
#   its own flush
#   count and bytes are those of the items that `take` may give; `since` never falls along the line

cimport cython
from libc.stdint cimport int64_t

cdef enum verdict_t:
    BATCH_QUEUED = 0        # it waits
    BATCH_READY = 1         # it waits, and a full batch does with it
    BATCH_REFUSED = 2       # max_pending items wait already: nothing was kept

@cython.final
@cython.freelist(64)
cdef class _Slot:
    cdef object key
    cdef object item
    cdef Py_ssize_t size
    cdef int64_t since      # when it began to wait
    cdef bint gone          # discarded: its place in the line is skipped

cdef class _Line:
    cdef readonly Py_ssize_t max_count
    cdef readonly Py_ssize_t max_bytes
    cdef readonly int64_t max_age_ns
    cdef readonly Py_ssize_t max_pending    # 0: no limit
    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t bytes
    cdef readonly int64_t paused_until
    cdef list _slots                        # of _Slot, oldest first; None before _head
    cdef Py_ssize_t _head                   # where the oldest one is, and it is not a discarded one

    cpdef bint due(self, int64_t now) except -1
    cpdef object deadline(self)

    cdef bint _full(self) noexcept
    cdef _Slot _oldest(self)
    cdef object _append(self, _Slot slot, int64_t now)
    cdef list _take(self)
    cdef int _move_up(self) except -1

@cython.final
cdef class BatchQueue(_Line):
    cpdef object add(self, object item, Py_ssize_t size, int64_t now)
    cpdef list take(self)

@cython.final
cdef class KeyedBatchQueue(_Line):
    cdef dict _waiting                      # key -> _Slot in the line
    cdef dict _held                         # key -> _Slot behind an outstanding one
    cdef dict _outstanding                  # key -> _Slot that was taken

    cdef bint _refuses_more(self) noexcept
    cdef _Slot _ended(self, object key)
    cdef bint _release(self, object key, int64_t now) except -1
