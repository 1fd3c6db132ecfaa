"""Whether a span that is sampled is current, at the price of a pointer test where nothing has changed. See tracing.pxd."""

from cpython.object cimport PyObject

from cajun_fast._core.mailbox cimport steal

cdef extern from "Python.h":
    int PyContextVar_Get(object variable, PyObject *default, PyObject **value) except -1

cdef enum:
    NO_SPAN = 2


cdef class Tracing(Tracer):
    """``variable``: where the library keeps its context; None: it is asked each time. ``rate``: about as many traces a
    second begin here at most, with messages that are sent where no span is current; ``exchange`` has the time for it."""

    def __init__(self, variable=None, Exchange exchange=None, double rate=0.0):
        self.variable = variable
        self.exchange = exchange
        self.interval = <int64_t>(1e9 / rate) if exchange is not None and rate > 0 else 0

    def is_sampled(self):
        """Ask the library: is the current span sampled? None: there is no current span."""
        raise NotImplementedError

    cdef bint sampled(self) except -1:
        cdef PyObject *value = NULL
        cdef int found
        if self.variable is None:
            found = as_int(self.is_sampled())
        else:
            PyContextVar_Get(self.variable, NULL, &value)
            if value is NULL:
                return self.interval and self.begins()
            if value is not <PyObject *>self.seen:
                self.seen_sampled = as_int(self.is_sampled())
                self.seen = <object>value
            steal(value)
            found = self.seen_sampled
        if found != NO_SPAN:
            return found
        return self.interval and self.begins()

    cdef bint begins(self) noexcept:
        if self.exchange.now < self.next_at:
            return False
        self.step = self.step * 1664525 + 1013904223
        self.next_at = self.exchange.now + (self.interval >> 1) + (self.interval >> 16) * (self.step >> 16)
        return True

    def look(self):
        """`sampled`, for Python."""
        return self.sampled()


cdef int as_int(object sampled) except -1:
    return NO_SPAN if sampled is None else bool(sampled)
