# cython: binding=False
"""The circuit breaker of one peer: closed, open, half-open. breaker.pxd tells the design.

Laws: it reads no clock, times are int nanoseconds of one monotonic clock. It counts what it is told to count, so tell
it of the *peer's* faults alone: no connection, a time-out, a broken link. A message that cannot be encoded, a handler
that raised, a cancelled caller are no signs of a sick peer; a call that ends in one of those is recorded as abandoned
(or, if the peer did answer, as a success). Every call that was given a ticket is recorded exactly once.

Transitions (an event that is not named for a state leaves it as it is):

TABLE
"""

import enum

cimport cython
from libc.stdint cimport int64_t, uint64_t

from cajun_fast._core.checks cimport seconds_ns, whole


class State(enum.StrEnum):
    """What a circuit breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


TRANSITIONS = (
    # state, event, next state, why
    ("closed", "trip", "open", "failures in a row reached the threshold"),
    ("open", "probe", "half-open", "the reset timeout has passed and a call asked to pass"),
    ("half-open", "recover", "closed", "the probe succeeded"),
    ("half-open", "relapse", "open", "the probe failed: the reset timeout begins anew"),
    ("half-open", "abandon", "open", "the probe ended without telling anything: the next call may probe at once"),
    ("half-open", "probe", "half-open", "the probe was not heard of for a reset timeout: another one takes its place"),
    ("open", "reset", "closed", "the peer is a new incarnation, or an operator says so"),
    ("half-open", "reset", "closed", "likewise"),
    ("closed", "reset", "closed", "likewise: what is still under way no longer counts"),
)

cdef tuple states = tuple(State)
cdef tuple events = ("trip", "probe", "recover", "relapse", "abandon", "reset")
cdef int[3][6] next_state               # the table, as C reads it


cdef void load_table():
    """TRANSITIONS into next_state, and into this module's documentation."""
    for state in range(3):
        for event in range(6):
            next_state[state][event] = state
    for state, event, following, _ in TRANSITIONS:
        next_state[states.index(state)][events.index(event)] = states.index(following)


load_table()
__doc__ = __doc__.replace("TABLE", "\n".join(
    f"    {state:9} ── {event:7} ─▶ {following:9}  {why}" for state, event, following, why in TRANSITIONS
))


@cython.final
cdef class CircuitBreaker:
    """Refuses calls to a peer that failed ``failure_threshold`` times in a row, for ``reset_timeout`` seconds; then
    lets exactly one probe through, which decides.

    ``name`` says whose it is ("node-b"). Raises TypeError or ValueError unless the threshold is an int of at least 1
    and the timeout a number of seconds above 0.
    """

    def __cinit__(self, str name not None, failure_threshold=5, reset_timeout=30.0):
        self.name = name
        self.failure_threshold = whole(failure_threshold, "failure_threshold", 1)
        self.reset_ns = seconds_ns(reset_timeout, "reset_timeout")
        self.epoch = 1

    def __repr__(self):
        return f"<CircuitBreaker {self.name!r} {self.state} failures={self.failures} epoch={self.epoch}>"

    @property
    def state(self):
        """What it does with calls at this moment."""
        return states[self._state]

    @property
    def retry_at(self):
        """Nanoseconds of the clock from which a call may pass again; 0 when closed."""
        return 0 if self._state == CLOSED else self._retry_ns

    cpdef int64_t remaining_ns(self, int64_t now) noexcept nogil:
        """Nanoseconds until a call may pass; 0 if one may pass now."""
        return 0 if self._state == CLOSED or now >= self._retry_ns else self._retry_ns - now

    cpdef bint allows(self, int64_t now) noexcept nogil:
        """Whether a call would pass now. Changes nothing and counts nothing: the call itself must `acquire`."""
        return self._state == CLOSED or now >= self._retry_ns

    cpdef uint64_t acquire(self, int64_t now) noexcept nogil:
        """A ticket for one call, or 0: refused. The first ticket after the reset timeout is the probe's."""
        if self._state == CLOSED:
            return self.epoch
        if now < self._retry_ns:
            self.refused += 1
            return 0
        self._on(PROBE)
        self._retry_ns = now + self.reset_ns
        return self.epoch

    cpdef bint record_success(self, uint64_t ticket) noexcept nogil:
        """A call succeeded. Answers whether this closed the breaker: what was parked may go."""
        self.successes += 1
        if self._is_late(ticket):
            return False
        self.failures = 0
        if self._state == CLOSED:
            return False
        self._on(RECOVER)
        return True

    cpdef bint record_failure(self, uint64_t ticket, int64_t now) noexcept nogil:
        """A call failed, and the peer is to blame. Answers whether this opened the breaker."""
        self.failed += 1
        if self._is_late(ticket):
            return False
        self.failures += 1
        if self._state == CLOSED and self.failures < self.failure_threshold:
            return False
        self._on(TRIP if self._state == CLOSED else RELAPSE)
        self._retry_ns = now + self.reset_ns
        self.opened += 1
        return True

    cpdef bint record_abandoned(self, uint64_t ticket, int64_t now) noexcept nogil:
        """A call ended without saying anything about the peer (cancelled, the caller's own fault).

        Answers whether it was the probe: then the next call may be the probe at once.
        """
        if self._is_late(ticket) or self._state != HALF_OPEN:
            return False
        self._on(ABANDON)
        self._retry_ns = now
        return True

    cpdef bint reset(self) noexcept nogil:
        """The peer is a new incarnation: closed, nothing counted, and calls under way no longer count.

        Answers whether calls were refused until now.
        """
        cdef bint was_open = self._state != CLOSED
        self.failures = 0
        self._on(RESET)
        return was_open

    def counters(self):
        """The numbers since it was made, by name: successes, failed, refused, opened, late."""
        return {"successes": self.successes, "failed": self.failed, "refused": self.refused,
                "opened": self.opened, "late": self.late}

    cdef bint _is_late(self, uint64_t ticket) noexcept nogil:
        """Whether a ticket is of an earlier epoch, as that of a refused call (0) always is."""
        if ticket == self.epoch:
            return False
        self.late += 1
        return True

    cdef void _on(self, int event) noexcept nogil:
        """One transition, by the table; its epoch begins."""
        self._state = next_state[self._state][event]
        self.epoch += 1
