# Large messages: their payload travels in chunks between other frames, unnumbered; the record that stands in the lane
# then only names the transfer. A lane whose large message is still on its way holds what comes behind it.
#
#   chunk body:  total u32 | offset u32 | bytes         (the frame's sequence is the transfer's id)

from libc.stdint cimport int64_t, uint32_t, uint64_t
from cajun_fast._core.outbuf cimport Pieces

cdef class Outgoing:
    cdef uint32_t id
    cdef Pieces payload
    cdef Py_ssize_t sent
    cdef Py_ssize_t part, part_at   # of the payload: where the next chunk begins
    cdef object lane                # whose record follows the last chunk
    cdef object item                # the Waiting that stands for it

    cdef int restart(self) noexcept
    cdef Py_ssize_t next_chunk(self, list out) except -1

cdef class BulkOut:
    cdef object queue               # deque of Outgoing, oldest first
    cdef dict kept                  # id -> payload, until its record is acknowledged
    cdef object by_seq              # deque of (seq, id), to let go of `kept`
    cdef uint32_t next_id
    cdef readonly Py_ssize_t bytes  # held in here: counts against the link's window
    cdef uint64_t sent              # chunk bytes on this connection
    cdef uint64_t received          # of them, what the peer says it has
    cdef Py_ssize_t window          # bytes of chunks that may be on their way

    cdef uint32_t start(self, Pieces payload, object lane, object item) except 0
    # Chunks to be written; the transfers whose last chunk is among them are appended to `finished`.
    cdef int collect(self, list out, Py_ssize_t most, list finished) except -1
    cdef bint may_go(self) noexcept # more chunks may follow at once
    cdef int resend(self, uint32_t id, list out) except -1
    cdef int recorded(self, uint32_t id, uint64_t seq) except -1
    cdef int on_received(self, uint64_t count) except -1
    cdef int acked(self, uint64_t seq) except -1
    cdef int restart(self) except -1
    cdef list abandon(self)         # of Outgoing: what had not gone out wholly
    # Take out transfers that are not wholly sent, and answer with them: asks of this node; those past their deadline.
    cdef list drop_asks(self, object asks)
    cdef list drop_late(self, int64_t now, bint down)
    cdef list drop(self, list dropped)

cdef class Incoming:
    cdef bytearray payload          # None: over the limit, its bytes are counted and not kept
    cdef Py_ssize_t total
    cdef Py_ssize_t filled

cdef class BulkIn:
    cdef dict transfers             # id -> Incoming
    cdef Py_ssize_t held            # bytes asked for
    cdef readonly Py_ssize_t limit  # bytes of unfinished and unclaimed transfers
    cdef Py_ssize_t max_message
    cdef uint64_t received          # chunk bytes on this connection, told back in ACK
    cdef bytearray spare            # memory for the next one, or None
    cdef int idle                   # heartbeats since a transfer began

    cdef int on_chunk(self, uint32_t id, const unsigned char *body, Py_ssize_t size) except -1
    cdef Incoming open(self, uint32_t id, Py_ssize_t total)
    cdef int let_go(self) except -1
    # The whole payload, once. None: not known, or not finished. Raises MessageTooLargeError for one that was not kept.
    cdef bytearray claim(self, uint32_t id)
    cdef bytearray buffer(self, Py_ssize_t total)
    cdef int give_back(self, bytearray payload) except -1
    cdef int forget(self, uint32_t id) except -1
    cdef int restart(self) except -1
