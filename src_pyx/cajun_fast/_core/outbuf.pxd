# Two kinds of bytes to write into.
#
#   OutBuf  scratch: grows as needed, is emptied and used again. Borrowed pointers end with the next write. What has grown
#           large is written into the bytes object that `take` gives away: it is copied by nobody. Large bytes objects in
#           a message are not copied either where `refer_from` says so: `pieces` gives them with what stands between them.
#   Slab    a fixed piece of the send window: frames are written into it once, handed to the transport as a view
#           (no copy), and kept until their messages are acknowledged. Its bytes below `used` never change while a
#           view is out; `views` counts those, so that a slab is used again only when nobody reads it any more.

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef class Pieces:                      # one payload; nothing of it changes while somebody holds it
    cdef list parts                     # of memoryview, each of a whole bytes object or of a part of one
    cdef readonly Py_ssize_t size

    cdef bytes whole(self)

cdef class OutBuf:
    cdef unsigned char *data
    cdef Py_ssize_t used                # of `data`
    cdef Py_ssize_t referred            # bytes that stand between them and are an application's own
    cdef Py_ssize_t refer_from          # a bytes object of that size is referred to
    cdef list references                # of (used, bytes object): it stands at that place; None for none
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

    cdef inline Py_ssize_t size(self) noexcept:
        return self.used + self.referred

    cdef inline void empty(self) noexcept:
        self.used = 0
        if self.referred:
            self.referred = 0
            self.references = None
        if self.whole is not NULL:
            self.end_whole()

    cdef int add(self, bytes data) except -1
    cdef bytes take(self)               # where nothing is referred to
    cdef Pieces pieces(self)

cdef class Slab:
    cdef unsigned char *data
    cdef Py_ssize_t capacity
    cdef Py_ssize_t used            # bytes written
    cdef Py_ssize_t written         # bytes given to the transport
    cdef int views
    cdef uint64_t last_seq          # the highest sequence number in here, 0 for none

    cdef object view(self, Py_ssize_t start, Py_ssize_t stop)
    cdef void reset(self) noexcept
