# Link: all that two incarnations of two nodes owe each other. It outlives connections; it ends with an incarnation.
#
# Sans-IO: bytes come in by `receive`, buffers to be written come out of `collect`; `Wire` is the port to whoever does
# the I/O. Four rooms make it: outbound (post, keep, collect), settling (verdicts, ways, the end), inbound (what comes
# in), and this one: connections come and go, frames are told apart.
#
#   post ──▶ SendWindow ──▶ collect ═══ wire ═══▶ receive ──▶ Inbound ──▶ Inbox.deliver ─▶ verdict
#    ▲          │ kept until                                                               │
#    │          ▼                                                                          ▼
#   Lane ◀─ take_back (refused) ◀─ on_ack ◀═══ wire ═══ ACK: watermark and refusals ◀─ ReceiveWindow
#
# Laws
#   * what is not acknowledged goes again on the next connection, in order, behind START and the refusals
#   * a connection that does not carry the link any more moves nothing in it

from libc.stdint cimport int64_t, uint32_t, uint64_t
from cajun_fast._core.outbound cimport Wire
from cajun_fast._core.settling cimport Settling

cdef class Link(Settling):
    cdef public object incarnation      # the peer's
    cdef Py_ssize_t body_left           # of the DATA frame that is being read
    cdef readonly bint more             # the slice was over before the bytes were

    cdef Py_ssize_t receive(self, const unsigned char *data, Py_ssize_t size) except -1
    # Memory that the next bytes of the socket may be read into straight, with `placed` afterwards; NULL: into a buffer.
    cdef unsigned char *place(self, Py_ssize_t *room) noexcept
    cdef object placing(self)           # whose memory that is; it must be held until then
    cdef bint is_placing(self, object transfer) noexcept    # it still is
    cdef int placed(self, Py_ssize_t size) except -1
    cdef bint is_bulky(self) noexcept   # the next bytes are likely to be of a large message
    cdef int wake_if_due(self) except -1
    cdef int begin_chunk(self, uint64_t sequence, const unsigned char *body, Py_ssize_t size, Py_ssize_t here) except -1
    cdef int on_frame(self, int type, uint64_t sequence, const unsigned char *body, Py_ssize_t size) except -1
    cdef bint is_carried_by(self, Wire wire) noexcept
