# Two kinds of bytes to write into.
#
#   OutBuf  scratch: grows as needed, is emptied and used again. Borrowed pointers end with the next write. What has grown
#           large is written into the bytes object that `take` gives away: it is copied by nobody.
#   Slab    a fixed piece of the send window: frames are written into it once, handed to the transport as a view
#           (no copy), and kept until their messages are acknowledged. Its bytes below `used` never change while a
#           view is out; `views` counts those, so that a slab is used again only when nobody reads it any more.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef class OutBuf:
    cdef unsigned char *data
    cdef Py_ssize_t used
    cdef Py_ssize_t capacity
    cdef PyObject *whole            # the bytes object that `data` lies in; NULL while it is small
    cdef unsigned char *small       # memory for the next ones, while there is a whole
    cdef Py_ssize_t small_capacity

    cdef int grow(self, Py_ssize_t more) except -1

    cdef inline unsigned char *room(self, Py_ssize_t more) except NULL:
        if self.used + more > self.capacity:
            self.grow(more)
        return self.data + self.used

    cdef int begin_whole(self, Py_ssize_t capacity) except -1
    cdef void end_whole(self) noexcept

    cdef inline void empty(self) noexcept:
        self.used = 0
        if self.whole is not NULL:
            self.end_whole()

    cdef bytes take(self)

cdef class Slab:
    cdef unsigned char *data
    cdef Py_ssize_t capacity
    cdef Py_ssize_t used            # bytes written
    cdef Py_ssize_t written         # bytes given to the transport
    cdef int views
    cdef uint64_t last_seq          # the highest sequence number in here, 0 for none

    cdef object view(self, Py_ssize_t start, Py_ssize_t stop)
    cdef void reset(self) noexcept
