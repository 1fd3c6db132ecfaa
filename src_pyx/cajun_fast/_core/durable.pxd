# How durable actors are told: what is for them is numbered, kept until their commit, and sent again to whoever owns them
# then. So the way may break, and the owner die, at any time.
#
#   Lane ─▶ Way ─┬─ Stream (this life of this lane) ─┬─ Inbox of this node ─────────────┐
#                └─ Stream (an outbox) …             └─ link ═══▶ Inbound ─▶ Inbox ─────┤
#            ▲                                                                         ▼
#            └─ Ways.on_note: "committed up to n", "send again from n" ◀── notes ◀── Gate, after its commit
#
# Laws
#   * numbers of a stream rise by one and never mean two messages; what is not committed stays here, in order
#   * whenever the way changes, all that is kept goes again: the gate drops what it has
#   * the hot path of other actors knows nothing of this: a Way is a Carrier like a link, and a lane has one only once
#     the directory has said that its actor is durable, or, where it does not, the actor has refused a plain message

cimport cython
from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.lane cimport Exchange, Lane, Pid
from cajun_fast._core.ports cimport Carrier, Inbox, Replies

@cython.final
cdef class Entry:
    cdef uint64_t number
    cdef int kind, guarantee
    cdef object message         # bytes where `encoded`
    cdef bint encoded
    cdef bint void
    cdef bint doubtful          # it was handed over on a way that is lost: it may have been handled
    cdef Py_ssize_t size
    cdef Pid sender
    cdef uint64_t tag
    cdef Replies origin
    cdef int64_t deadline
    cdef object waiter
    cdef object trace           # bytes of a frame's TRACE option, or None

@cython.final
cdef class Stream:
    cdef readonly str name
    cdef Way way
    cdef object entries         # deque of Entry, their numbers without a gap
    cdef readonly uint64_t next_number
    cdef readonly uint64_t sent         # handed over on the present way up to here
    cdef Py_ssize_t bytes
    cdef readonly object outbox         # told of what was released: released(target, stream, number); None: the node's own
    cdef Stream before          # of an earlier life of the same outbox: its messages go first

    cdef uint64_t low(self)
    cdef int rewind(self) except -1

@cython.final
cdef class Way(Carrier):
    cdef readonly Ways ways
    cdef readonly Lane lane
    cdef readonly Stream own
    cdef dict streams           # name -> Stream
    cdef Inbox inbox            # at most one of the two
    cdef Carrier carrier
    cdef Carrier last           # the link before: coming back to it loses nothing
    cdef readonly bint takes_all        # the actor is durable: plain messages go this way too, not outboxes' alone
    cdef bint pushing
    cdef list room_listeners
    cdef object timer           # a look again at an inbox that takes nothing just now
    cdef readonly uint64_t progress     # rises with each release
    cdef public uint64_t looked         # the watchdog's
    cdef public int patience            # the watchdog's: looks until it acts, and how long it waits then

    cdef int keep(self, Stream stream, Entry entry) except -1
    cdef int push(self, Stream stream) except -1
    cdef int push_all(self) except -1
    cdef int look_again(self) except -1
    cdef int end(self, Entry entry, object error) except -1
    cdef int hand_over(self, Stream stream, Entry entry) except -1
    cdef int hand_local(self, Stream stream, Entry entry) except -1
    cdef int lost(self) except -1
    cdef int release(self, Stream stream, uint64_t number) except -1
    cdef int settle(self) except -1

cdef class Ways:
    cdef readonly Exchange exchange
    cdef readonly str life      # begins the names of this node's streams: another text in each life
    cdef uint64_t made          # streams of this node so far
    cdef readonly dict active   # target -> Way: those that keep something
    cdef dict notes             # node -> list of notes that leave together
    cdef public object send     # (node, notes) -> None: to another node
    cdef bint scheduled

    cdef str new_name(self)
