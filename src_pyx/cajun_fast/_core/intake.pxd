# The mailbox of one actor and its rules: what a full one does, what has come too late, who waits for room.
#
#   full   BLOCK: FULL, and the sender waits; on_room() tells him when the mailbox has drained to half
#          DROP_NEW: DROPPED; DROP_OLDEST: the oldest one goes; FAIL: raises, or DROPPED where nobody could catch it
#   dropped, expired, left over at the end: an ask is faulted, a tell becomes a dead letter

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.context cimport Context
from cajun_fast._core.instruments cimport Mark
from cajun_fast._core.mailbox cimport Entry, Ring
from cajun_fast._core.ports cimport Replies
from cajun_fast._core.turns cimport Resident

@cython.final
cdef class Dated:                       # stands in Entry.extra for a message with a deadline, or one that is measured
    cdef Replies replies
    cdef int64_t deadline
    cdef Mark mark

cdef class Intake(Resident):
    cdef Ring ring
    cdef list room_waiters              # None when there are none

    # Into the ring, or what the policy says: a Verdict. `direct` as in Inbox.deliver.
    cdef int keep(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                  bint direct) except -1
    cdef int refuse(self, object message, object sender, Replies replies, uint64_t tag, bint direct) except -1
    cdef int let_go(self, Entry* entry, str reason, object error) except -1
    cdef int let_mail_go(self, object mail, str reason) except -1
    cdef int end_all(self, str reason, object error) except -1
    # The oldest message that is still good, into `context`; False when none waits.
    cdef bint take(self, Context context) except -1
    cdef bint take_extra(self, Context context, Entry* entry) except -1
    cdef int note_dropped(self, Dated dated) except -1
    cdef int note_trace(self, Dated dated, object error) except -1
    cdef int announce_room(self) except -1
