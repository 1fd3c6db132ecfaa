"""Whether a span that is sampled is current, at the price of a pointer test where nothing has changed. See tracing.pxd."""

from cpython.object cimport PyObject

from cajun_fast._core.mailbox cimport steal

cdef extern from "Python.h":
    int PyContextVar_Get(object variable, PyObject *default, PyObject **value) except -1


cdef class Tracing(Tracer):
    """``variable``: where the library keeps its context; None: it is asked each time."""

    def __init__(self, variable=None):
        self.variable = variable

    def is_sampled(self):
        """Ask the library: is a span current, and is it sampled?"""
        raise NotImplementedError

    cdef bint sampled(self) except -1:
        cdef PyObject *value = NULL
        if self.variable is None:
            return self.is_sampled()
        PyContextVar_Get(self.variable, NULL, &value)
        if value is NULL:
            return False
        if value is not <PyObject *>self.seen:
            self.seen_sampled = self.is_sampled()
            self.seen = <object>value
        steal(value)
        return self.seen_sampled

    def look(self):
        """`sampled`, for Python."""
        return self.sampled()
