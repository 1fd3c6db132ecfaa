# The sending half of a link: a message comes by `post`, is numbered and kept in the window, and goes out by `collect`.
#
#   post ─▶ encode ─┬─ small ─▶ append ─▶ SendWindow ─────────────▶ collect ─▶ [control, data, bulk chunks]
#                   └─ large ─▶ BulkOut ─▶ chunks … last one ─▶ append the record that names them
#                                 └ what comes behind it for the same lane is held until then
#
# Laws
#   * control frames go before data, data before bulk
#   * on each connection the first record that names an actor is preceded by a NAME record
#   * tells go together, at the end of the turn or at 64 KiB; asks and answers already at 2 KiB: somebody waits for them,
#     and while 64 of them are made the other side could work on the first
#   * nothing is kept of a message that `post` raised for or answered FULL

from libc.stdint cimport int64_t, uint32_t, uint64_t
from cajun_fast._core.bulk cimport BulkOut
from cajun_fast._core.codec cimport Codec, Serializer
from cajun_fast._core.inbound cimport Inbound
from cajun_fast._core.instruments cimport Histogram
from cajun_fast._core.lane cimport Exchange, Lane, Waiting
from cajun_fast._core.names cimport Names
from cajun_fast._core.outbuf cimport OutBuf
from cajun_fast._core.ports cimport Carrier, Replies
from cajun_fast._core.window cimport SendWindow

cdef class Wire:
    # Port: the connection that carries a link now.
    cdef int wake(self) except -1       # there is something to collect; soon, once
    cdef int push(self) except -1       # a batch is full: collect and write now, if the transport takes it
    cdef bint turn_over(self) noexcept  # the time slice of this turn of the loop is used up: stop reading

cdef class LinkReplies(Replies):        # where answers go to asks that came by this link
    cdef Outbound link

cdef class Trial:                       # a burst may go, and when all of it was taken one of twice the size
    cdef int burst, left
    cdef int calm                       # largest bursts that were taken in a row
    cdef int64_t since                  # when the mailbox was full the last time: coarse ns

cdef class Outbound(Carrier):
    cdef readonly Exchange exchange
    cdef readonly SendWindow window
    cdef readonly Inbound inbound
    cdef readonly BulkOut bulk
    cdef readonly Names names
    cdef readonly LinkReplies replies
    cdef readonly object ports          # LinkPorts: see cajun_fast/messaging/link_ports.py
    cdef readonly bint ended
    cdef readonly object refusal        # target -> error, while the breaker is open: asks and untracked messages get it
    cdef Serializer serializer
    cdef Codec plain                    # for errors: whatever the serializer of messages is, these can be read
    cdef Wire wire                      # None while there is no connection
    cdef bint woken                     # the wire has been told already
    cdef OutBuf scratch                 # for encoding; None while in use
    cdef OutBuf control                 # control frames that stand to be written
    cdef readonly Py_ssize_t max_message
    cdef uint64_t connection            # rises with each attach
    cdef object waiters                 # deque of (seq, future): told when the far node has the message
    cdef dict deadlines                 # seq -> ns, rising: of messages in the window that have one
    cdef dict holding                   # Lane -> list of Waiting: behind a large message that is on its way
    cdef dict room_listeners            # ordered sets: who waits for the window,
    cdef dict bulk_listeners            # and for something else: large messages to be gone, a burst to be taken
    cdef dict trials                    # Lane -> Trial: its mailbox was full a moment ago, so it goes on step by step
    cdef dict spent                     # those of them that have used their burst up and wait for its verdicts
    cdef uint64_t confirmed             # refusals settled up to here
    cdef public bint traces             # the peer knows what a trace is, as far as is known: then it is told
    cdef public uint64_t messages_out, bytes_out, bytes_in, resent, returned
    cdef readonly uint64_t stream       # number of our outgoing lane, told in START
    cdef uint64_t sent[4]               # messages by guarantee; answers stand at 3
    cdef readonly Histogram batch       # messages that left together
    cdef readonly Histogram round_trip  # ns from a batch's write to its acknowledgement; one batch at a time is timed
    cdef uint64_t told                  # the last number whose acknowledgement comes at once: answers' may wait
    cdef uint64_t timed                 # the number that is timed; 0: none
    cdef int64_t timed_at

    cpdef list collect(self)
    cdef bint bulk_is_full(self) noexcept
    cdef bint is_large(self, object lane, object message)
    cdef int note_batch(self, uint64_t before) except -1
    cdef int signal(self, Py_ssize_t most=*) except -1
    cdef OutBuf take_scratch(self)
    cdef void give_scratch(self, OutBuf out) noexcept
    cdef int encode(self, OutBuf out, object message, bint encoded) except -1
    cdef int post_encoded(self, Lane lane, int kind, int guarantee, OutBuf out, Lane sender, uint64_t tag,
                          Lane origin, int64_t deadline, object waiter, object trace) except -1
    cdef int post_large(self, Lane lane, Waiting item) except -1
    cdef uint64_t append(self, Lane lane, int kind, int flags, const unsigned char *payload, Py_ssize_t size,
                         Lane sender, uint64_t tag, Lane origin, int64_t deadline, object trace) except 0
    cdef bytes extra_of(self, bytes trace, Py_ssize_t size)
    cdef uint32_t number_of(self, Lane lane) except 0
    cdef int announce(self, uint32_t number) except -1
    cdef int write_name(self, uint32_t number, bytes id) except -1
    cdef bint bulk_mentions(self, Lane lane) except -1
    cdef Lane origin_of(self, Waiting item)
    cdef int answer_with(self, int kind, uint64_t tag, object value) except -1
    cdef int answer_unless_bad(self, int kind, uint64_t tag, object value) except -1
    cdef int finish_bulk(self, list finished) except -1
    cdef int post_held(self, Lane lane) except -1
    cdef int write_ack(self) except -1
    cdef int write_frame(self, int type, const unsigned char *body, Py_ssize_t size, uint64_t sequence) except -1

cdef uint32_t milliseconds_left(int64_t deadline, int64_t now) noexcept
