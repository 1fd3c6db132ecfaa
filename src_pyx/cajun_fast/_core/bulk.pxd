# Large messages: their payload travels in chunks between other frames, unnumbered; the record that stands in the lane
# then only names the transfer. A lane whose large message is still on its way holds what comes behind it.
#
#   chunk body:  total u32 | offset u32 | bytes         (the frame's sequence is the transfer's id)

# What comes in goes where it stays: the first large bytes object of a message is made when its transfer begins, and its
# bytes are put there and not copied again; a connection may read them there straight from the socket.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from cajun_fast._core.codec cimport Serializer
from cajun_fast._core.frame cimport BULK_HEADER
from cajun_fast._core.outbuf cimport Pieces

cdef enum:
    BEGIN_LEAST = 512

cdef class Outgoing:
    cdef uint32_t id
    cdef Pieces payload
    cdef Py_ssize_t sent
    cdef Py_ssize_t part, part_at   # of the payload: where the next chunk begins
    cdef object lane                # whose record follows the last chunk
    cdef object item                # the Waiting that stands for it

    cdef int restart(self) noexcept
    cdef Py_ssize_t next_chunk(self, list out, Py_ssize_t most) except -1

cdef class BulkOut:
    cdef object queue               # deque of Outgoing, oldest first
    cdef dict kept                  # id -> payload, until its record is acknowledged
    cdef object by_seq              # deque of (seq, id), to let go of `kept`
    cdef uint32_t next_id
    cdef readonly Py_ssize_t bytes  # held in here: counts against the link's window
    cdef uint64_t sent              # chunk bytes on this connection
    cdef uint64_t received          # of them, what the peer says it has
    cdef Py_ssize_t window          # bytes of chunks that may be on their way
    cdef readonly Py_ssize_t chunk  # bytes of one: as many as the peer takes

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
    cdef bytearray rest             # all but the bytes of `large`; None: over the limit, they are counted and not kept
    cdef bytes large                # made before it is filled; None: nothing of the message is worth it
    cdef Py_ssize_t large_at, large_size
    cdef Py_ssize_t total
    cdef Py_ssize_t filled

    cdef unsigned char *place(self, Py_ssize_t *room) noexcept      # where the next bytes go
    cdef object decode(self, Serializer serializer)
    cdef bytearray whole(self)

cdef class BulkIn:
    cdef dict transfers             # id -> Incoming
    cdef Incoming current           # whose chunk is coming in
    cdef Py_ssize_t left            # bytes of that chunk that have not come; 0: none is coming in
    cdef Py_ssize_t held            # bytes asked for
    cdef readonly Py_ssize_t limit  # bytes of unfinished and unclaimed transfers
    cdef Py_ssize_t max_message
    cdef uint64_t received          # chunk bytes on this connection, told back in ACK
    cdef Serializer serializer      # knows what of a message is large
    cdef bytearray spare            # memory for the next one, or None
    cdef int idle                   # heartbeats since a transfer began

    # The head of a chunk of `size` bytes; `here` bytes of its frame's body have come, at least `least_of` them.
    cdef int begin_chunk(self, uint32_t id, const unsigned char *body, Py_ssize_t size, Py_ssize_t here) except -1
    cdef Py_ssize_t take(self, const unsigned char *data, Py_ssize_t size) noexcept     # how many were of the chunk
    cdef unsigned char *place(self, Py_ssize_t *room) noexcept      # of bytes that are of the chunk; NULL: it is not kept
    cdef void placed(self, Py_ssize_t size) noexcept                # so many were put there
    cdef Incoming open(self, uint32_t id, Py_ssize_t total, const unsigned char *data, Py_ssize_t size)
    cdef int let_go(self) except -1
    # The whole payload, once. None: not known, or not finished. Raises MessageTooLargeError for one that was not kept.
    cdef Incoming claim(self, uint32_t id)
    cdef bytearray buffer(self, Py_ssize_t total)
    cdef int give_back(self, Incoming payload) except -1
    cdef int forget(self, uint32_t id) except -1
    cdef int restart(self) except -1

# Bytes of a chunk's frame that must be there before it is begun: among the first is what `Serializer.large_in` looks at.
cdef inline Py_ssize_t least_of(Py_ssize_t size) noexcept nogil:
    return min(size, <Py_ssize_t>BULK_HEADER + BEGIN_LEAST)
