# What stands between a durable actor and the rest: it drops what is committed, keeps the answers until the commit, and
# says what has to be committed.
#
#   Inbound / Way ─▶ admit ─┬─ committed before ─▶ its answer again, and a note
#                           ├─ a gap ─▶ a note: send again from …
#                           └─ new ─▶ Cell's mailbox ─▶ begin ─▶ handler ─▶ handled ─▶ done
#                                                                            │ the state, as bytes: the checkpoint
#        store: take ─▶ one transaction ─▶ settle(True) ─▶ answers, the outbox, notes          ◀──┘
#                                       └▶ settle(False): fenced: nothing of it counts, the copy ends
#
# Laws
#   * a message counts as committed only when its state, its answer, what it has told and its number are
#   * after a handler that raised the state is that of the checkpoint before it
#   * one commit of an actor is under way at a time; what is handled meanwhile goes with the next
#   * what changed nothing and told nobody needs no commit of its own: handling it again does no harm

cimport cython
from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.cell cimport Cell
from cajun_fast._core.durable cimport Ways
from cajun_fast._core.mail cimport Mail
from cajun_fast._core.ports cimport Gate

cdef enum:
    UNCOMMITTED_MOST = 8192         # messages of one actor between mailbox and commit; beyond them its senders wait
    REPLY_MOST = 1 << 20            # bytes of an answer that is kept; whoever asks again for a larger one hears unknown
    STREAMS_MOST = 10_000           # streams of one actor; those that were silent longest are forgotten beyond it

@cython.final
cdef class Cursor:                  # where one stream stands
    cdef readonly str stream
    cdef readonly str node          # who is told of commits
    cdef readonly uint64_t accepted     # in the mailbox or further
    cdef readonly uint64_t done         # handled without a gap
    cdef readonly uint64_t committed
    cdef readonly uint64_t low          # below it the sender keeps nothing
    cdef uint64_t trimmed           # answers below it are gone from the store
    cdef set early                  # done above a gap
    cdef dict waiting               # number -> Mail: accepted, not committed
    cdef dict replies               # number -> (ok, bytes): committed, and the sender may ask again
    cdef dict late                  # number -> Mail: committed, its answer is still to be given
    cdef list unsaved               # numbers of replies that the store does not have
    cdef bint touched               # to be written with the next commit

cdef class DurableGate(Gate):
    cdef readonly str id
    cdef readonly Cell cell
    cdef Ways ways
    cdef readonly object store      # port: enqueue(gate), broken(gate, error); see cajun_fast/durable
    cdef readonly object encode, decode, encode_error, decode_error
    cdef object streams             # ordered: name -> Cursor, the one that was silent longest first
    cdef dict bases                 # name without its life -> names, the oldest first
    cdef list dropped               # names of streams to be deleted
    cdef list done                  # Mails since the last `take`
    cdef list batch                 # Mails that are being committed; None when none are
    cdef readonly Py_ssize_t uncommitted
    cdef Mail current
    cdef list room_waiters
    cdef readonly bytes checkpoint  # the state after the last handler that ended well; None before the start
    cdef readonly bytes saved       # the state as the store has it, once the batch is committed
    cdef readonly bint journaled    # changes are kept as events, and the state now and then
    cdef list events                # handled, not taken: (number, bytes)
    cdef list replay                # events since `checkpoint`, for going back: journaled only
    cdef list pending               # events of the handler that runs
    cdef public uint64_t event      # number of the last one
    cdef readonly int snapshot_every    # events between two states that are kept
    cdef bint snapshot              # `checkpoint` takes the place of all events before it
    cdef readonly bint is_open
    cdef readonly bint is_lost
    cdef bint is_closed
    cdef bint queued
    cdef public str name            # of the outbox of this life of this actor
    cdef dict told                  # target -> last number
    cdef public uint64_t row        # of the outbox: the last one
    cdef dict rows                  # (target, stream, number) -> row
    cdef list finished              # rows to be deleted

    cdef Cursor cursor(self, str stream)
    cdef int add_stream(self, Cursor cursor) except -1
    cdef int again(self, Cursor cursor, Mail mail) except -1
    cdef int finish(self, Mail mail) except -1
    cdef int close_message(self, Mail mail, object error) except -1
    cdef int roll_back(self) except -1
    cdef int take_events(self) except -1
    cdef int advance(self, Mail mail) except -1
    cdef int commit_mail(self, Mail mail) except -1
    cdef int announce(self) except -1
    cdef dict parts(self)
    cdef list number_told(self)
