# Asks in flight of one node: tag -> future.
#
# One timer serves all of them: it stands at the earliest deadline; when it fires, one pass over the asks in flight fails
# what is due and finds the next. An answered ask leaves nothing behind (a heap would keep it until its deadline).

from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.instruments cimport Histogram
from cajun_fast._core.ports cimport Replies

cdef class PendingAsk:
    cdef object future
    cdef readonly str target
    cdef readonly int64_t deadline      # ns of the system's clock
    cdef readonly double timeout        # seconds, for the error's text
    cdef public object carrier          # the link it left by, or None

cdef class Asks(Replies):
    cdef dict _pending                  # tag -> PendingAsk
    cdef uint64_t _next                 # starts at a random place: an answer to an earlier incarnation hits nobody
    cdef object _loop
    cdef object _clock
    cdef object _timer
    cdef int64_t _timer_at              # ns, 0 when no timer stands
    cdef public object explainer        # port: (tag, target, future, timeout, carrier) -> bool: it ends the future, soon
    cdef readonly Py_ssize_t limit
    cdef readonly uint64_t answered, failed, timed_out      # those that timed out count as failed too
    cdef readonly Histogram round_trip  # ns, from ask to answer

    cdef uint64_t open(self, object future, str target, double timeout) except 0
    cdef int forget(self, uint64_t tag) except -1       # it was never sent
    cdef int set_carrier(self, uint64_t tag, object carrier) except -1
    cdef int give_up(self, uint64_t tag, PendingAsk ask) except -1
    cdef int _set_timer(self, int64_t at) except -1
