# What becomes of what was sent: verdicts come in, messages that were refused find another way, and at the end of the
# peer's incarnation everything is settled.
#
#   ACK ─▶ refusals, one by one ─▶ Lane.take_back ─┐   the lane is `rerouting`
#      └─▶ watermark ─▶ waiters told               │
#                    └▶ all of the lane's messages have their verdict ─▶ Lane.returned_all, look_again
#                                                     └ FULL: `blocked` until the peer says ROOM
#
# Laws
#   * a number's verdict comes once; refusals stand in front of the watermark that covers them
#   * a refused lane sends nothing until every message it had on its way has its verdict
#   * a lane goes on only when its refusals can be confirmed in the same breath: until then the peer refuses it. So of
#     two refused lanes the one whose refusals lie above another's open ones waits for that other
#   * a mailbox that was full is filled in bursts that double while all of one is taken: what it cannot hold is not sent
#     to and fro
#   * `confirmed` only rises, and never passes a refusal whose lane is still rerouting

from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.bulk cimport Outgoing
from cajun_fast._core.frame cimport Record
from cajun_fast._core.lane cimport Lane, Waiting
from cajun_fast._core.outbound cimport Outbound

cdef class Rerouting:
    cdef int verdict                    # of the first refusal
    cdef uint64_t first, last           # refused numbers; 0: none, the lane only waits for its verdicts (`hold`)

cdef class Settling(Outbound):
    cdef dict rerouting                 # Lane -> Rerouting
    cdef dict blocked                   # id -> Lane: refused for want of room, waits for ROOM
    cdef set early                      # ids whose ROOM came before their last verdict
    cdef uint64_t refused_high          # highest refusal seen
    cdef uint64_t resumed               # up to here an earlier connection has carried: a ROOM may be lost with it

    cdef int on_ack(self, uint64_t sequence, const unsigned char *body, Py_ssize_t size) except -1
    cdef int on_refused(self, uint64_t seq, int verdict, object hint) except -1
    cdef int on_room(self, str id) except -1
    cdef int retry(self, Lane lane) except -1
    cdef int advance_trials(self) except -1
    cdef int forget_trials(self, int64_t now) except -1
    cdef int settle_waiters(self) except -1
    cdef int settle_lanes(self) except -1
    cdef bint is_open(self, Lane lane) except -1
    cdef int release(self, Lane lane, Rerouting state) except -1
    cdef object about(self, uint64_t seq, object error)
    cdef int note(self, int stage, int detail, uint64_t seq, Lane lane) except -1
    cdef object take_waiter(self, uint64_t seq)
    cdef Waiting waiting_from(self, Record *record, uint64_t seq)
    cdef int give_back(self, Record *record, uint64_t seq, bint was_sent) except -1
    cdef int give_back_large(self, Outgoing transfer) except -1
    cdef int unsent(self, Lane lane, Waiting item) except -1
    cdef int expire_large(self, int64_t now) except -1
    cdef int expire_seen(self, int64_t now) except -1
    cdef int void(self, unsigned char *record, uint64_t seq, Record *parts, object error) except -1
