# The circuit breaker of one peer: leave it alone for a while after it failed repeatedly, then ask it once.
#
# A call takes a ticket before it begins and hands it back with what became of it. The ticket is the breaker's epoch,
# which goes up with every transition: what is recorded with an older ticket began before it, and moves nothing.
#
#   ticket = breaker.acquire(now)        0: refused, at no cost
#   breaker.record_success(ticket) | record_failure(ticket, now) | record_abandoned(ticket, now)
#
# Invariants
#   state is OPEN exactly after `trip` or a failed probe, and then no ticket is given before retry_ns
#   HALF_OPEN: exactly one ticket of this epoch was given, the probe's; a probe that is never heard of again makes room
#   for another one after reset_ns
#   0 <= failures < failure_threshold while CLOSED
#
# The table of transitions stands in breaker.pyx. All cdef methods touch no object and may be called without the GIL
# held by this thread's own code, but not from two threads at once.

cimport cython
from libc.stdint cimport int64_t, uint64_t

cdef enum state_t:
    CLOSED = 0          # calls pass
    OPEN = 1            # calls are refused until retry_ns
    HALF_OPEN = 2       # one call, the probe, is under way; the others are refused

cdef enum event_t:
    TRIP = 0            # failures in a row reached the threshold
    PROBE = 1           # a call asked to pass and the time has come
    RECOVER = 2         # the probe succeeded
    RELAPSE = 3         # the probe failed
    ABANDON = 4         # the probe ended without an answer to the question
    RESET = 5           # the peer is another incarnation

@cython.final
cdef class CircuitBreaker:
    cdef readonly str name
    cdef readonly int64_t failure_threshold
    cdef readonly int64_t reset_ns
    cdef int _state                     # state_t
    cdef readonly uint64_t epoch        # from 1, one up at every transition
    cdef readonly int64_t failures      # in a row, since the last success
    cdef int64_t _retry_ns              # OPEN: when a probe may go; HALF_OPEN: when this one is given up
    cdef readonly uint64_t successes    # these count for ever
    cdef readonly uint64_t failed
    cdef readonly uint64_t refused
    cdef readonly uint64_t opened
    cdef readonly uint64_t late         # recorded with an older ticket, and so without effect

    cpdef bint allows(self, int64_t now) noexcept nogil
    cpdef uint64_t acquire(self, int64_t now) noexcept nogil
    cpdef bint record_success(self, uint64_t ticket) noexcept nogil
    cpdef bint record_failure(self, uint64_t ticket, int64_t now) noexcept nogil
    cpdef bint record_abandoned(self, uint64_t ticket, int64_t now) noexcept nogil
    cpdef bint reset(self) noexcept nogil
    cpdef int64_t remaining_ns(self, int64_t now) noexcept nogil

    cdef bint _is_late(self, uint64_t ticket) noexcept nogil
    cdef void _on(self, int event) noexcept nogil
