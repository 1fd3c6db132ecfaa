# Connection: the only room that does I/O. A BufferedProtocol's skin over a link: bytes land in a buffer of its own and
# are read in place; what the link collects goes out in one call a turn.
#
#   handshake phase   bytes go to `owner.on_handshake(self, data)`, which says how many it took; a stranger gets
#                     HANDSHAKE_MOST bytes and not one more
#   link phase        bytes go to Link.receive; what is left when the time slice is over waits for the next turn,
#                     and nothing more is read from the socket meanwhile

from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.cell cimport Dispatcher
from cajun_fast._core.link cimport Link
from cajun_fast._core.outbound cimport Wire

cdef class ConnectionCore(Wire):
    cdef readonly object owner          # port: on_connected, on_handshake, on_lost, on_broken
    cdef readonly object transport
    cdef readonly Link link
    cdef readonly object loop
    cdef Dispatcher dispatcher
    cdef readonly bint closed
    cdef bint paused                    # the transport has enough
    cdef bint held                      # reading is paused, the rest of the buffer waits
    cdef bint in_link
    cdef bint reading                   # the link takes in what came; it is flushed afterwards if `due`
    cdef bint due
    cdef bint at_once                   # bytes came: one flush need not wait for the next turn of the loop
    cdef bint flushing
    cdef object buffer                  # bytearray
    cdef object view                    # memoryview of all of it
    cdef unsigned char *data
    cdef Py_ssize_t capacity
    cdef object into                    # the transfer that is read into; None: the buffer is
    cdef Py_ssize_t head, tail          # what came and is not done with: data[head:tail]
    cdef public int64_t heard_ns        # when bytes last came
    cdef public int64_t sent_ns         # when bytes last went
    cdef public uint64_t writes

    cdef int take_in(self, int64_t now, Py_ssize_t placed) except -1
    cdef int read_link(self, int64_t now, Py_ssize_t placed) except -1
    cdef int read_handshake(self) except -1
    cdef bint carries(self) noexcept    # the link, and not a newer connection
    cdef int flush(self) except -1
