# The two ends of one numbered lane.
#
#   SendWindow     its memory *is* the frames: slabs of encoded records, kept until acknowledged. No object per message:
#                  what became of number n is found by walking the records of one slab.
#   ReceiveWindow  one contiguous watermark, and the refusals that the sender has not confirmed yet
#
#   sequence:      acked ─────── flushed ─────── next_seq
#                    │ kept, handed to │ kept, not yet │
#                    │ a transport     │ handed over   │
#
# acked only rises; flushed is the highest number any transport ever saw: above it a loss is known to be none.

from libc.stdint cimport uint32_t, uint64_t
from cajun_fast._core.outbuf cimport OutBuf, Slab

cdef class SendWindow:
    cdef readonly uint64_t next_seq
    cdef readonly uint64_t acked
    cdef readonly uint64_t flushed
    cdef readonly Py_ssize_t retained       # bytes kept
    cdef readonly Py_ssize_t limit          # bytes; above it the window is full
    cdef Py_ssize_t slab_size
    cdef Py_ssize_t unflushed               # bytes not yet handed over
    cdef list slabs                         # oldest first; the last one is written to
    cdef list spare
    cdef Slab current
    cdef Py_ssize_t frame_at                # of the open DATA frame in `current`, -1 for none
    cdef uint64_t frame_seq
    cdef Slab sought                        # where `find` was last, and behind which record; None: nowhere
    cdef Py_ssize_t sought_at, sought_end
    cdef uint64_t sought_seq

    # Room for a record of `size` bytes (its size field included, which is filled in). Numbered ones take next_seq.
    cdef unsigned char *open_record(self, Py_ssize_t size, bint numbered) except NULL
    cdef int new_slab(self, Py_ssize_t least) except -1
    cdef void close_frame(self) noexcept
    cdef int collect(self, list out) except -1
    cdef bint collect_small(self, OutBuf out) except -1
    cdef int ack(self, uint64_t seq) except -1
    cdef int release(self) except -1
    # The record numbered `seq` (without its size field), borrowed until the next call; NULL if it is not kept.
    cdef unsigned char *find(self, uint64_t seq, Py_ssize_t *size) noexcept
    cdef unsigned char *seek(self, uint64_t seq, Py_ssize_t *size) noexcept     # onwards in `sought`
    # Slabs that hold numbers above `flushed`: nobody has seen those. The open frame is closed, so that they can be walked.
    cdef list unseen(self)
    # Take all slabs out, to be appended again from acked + 1 on.
    cdef list rewind(self)

cdef enum:
    REFUSALS_MOST = 1 << 20                 # unconfirmed ones; no honest sender's window holds so many

cdef class ReceiveWindow:
    cdef readonly uint64_t watermark        # everything up to it has its verdict
    cdef object refusals                    # deque of (seq, verdict, hint, id): not yet confirmed by the sender
    cdef list news                          # those of them that were not told on this connection

    cdef int refuse(self, uint64_t seq, int verdict, object hint, object id) except -1
    cdef list untold(self)                  # and now they count as told
    cdef int restart(self) except -1        # a new connection: all of them are told again
    # Let go of the refusals up to `seq`, and give them.
    cdef list confirm(self, uint64_t seq)

# Walk the records of a slab: the next one at *at, with its size and number; False at the end.
cdef bint next_record(Slab slab, Py_ssize_t *at, Py_ssize_t *body_end, uint64_t *seq, unsigned char **record,
                      Py_ssize_t *size, bint *numbered) noexcept
