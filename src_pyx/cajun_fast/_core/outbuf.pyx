"""OutBuf and Slab: where frames are written. See outbuf.pxd."""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.object cimport PyObject
from libc.string cimport memcpy

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    PyObject *PyBytes_FromStringAndSize(const char *data, Py_ssize_t size) except NULL
    char *PyBytes_AS_STRING(PyObject *whole)
    int _PyBytes_Resize(PyObject **whole, Py_ssize_t size)
    void Py_SET_SIZE(PyObject *item, Py_ssize_t size)
    void Py_XDECREF(PyObject *item)

cdef enum:
    SMALL = 128 << 10               # bytes up to which a copy costs less than memory that is new each time
    SLACK = 4096                    # what usually comes behind the one large thing in a message


cdef class Pieces:
    """A payload that lies in several places."""

    def __len__(self):
        return self.size

    cdef bytes whole(self):
        """In one place: copied, unless it is."""
        return (<object>self.parts[0]).obj if len(self.parts) == 1 else b"".join(self.parts)


cdef class OutBuf:
    """Growable scratch memory."""

    def __cinit__(self, Py_ssize_t capacity=256, Py_ssize_t refer_from=PY_SSIZE_T_MAX):
        self.refer_from = refer_from
        self.data = <unsigned char *>PyMem_Malloc(capacity)
        if self.data is NULL:
            raise MemoryError()
        self.capacity = capacity

    def __dealloc__(self):
        if self.whole is not NULL:
            self.end_whole()
        PyMem_Free(self.data)

    cdef int grow(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity = max(2 * self.capacity, self.used + more)
        cdef unsigned char *data
        if capacity > SMALL:
            capacity = max(self.capacity + self.capacity // 2, self.used + more + SLACK)
            return self.begin_whole(capacity)
        data = <unsigned char *>PyMem_Realloc(self.data, capacity)
        if data is NULL:
            raise MemoryError()
        self.data = data
        self.capacity = capacity
        return 0

    cdef int begin_whole(self, Py_ssize_t capacity) except -1:
        """Go on in a bytes object of that size."""
        cdef PyObject *whole = self.whole
        if whole is not NULL:
            if _PyBytes_Resize(&whole, capacity) < 0:
                self.whole = NULL
                self.end_whole()
                raise MemoryError()
        else:
            whole = PyBytes_FromStringAndSize(NULL, capacity)
            memcpy(PyBytes_AS_STRING(whole), self.data, self.used)
            self.small = self.data
            self.small_capacity = self.capacity
        self.whole = whole
        self.data = <unsigned char *>PyBytes_AS_STRING(whole)
        self.capacity = capacity
        return 0

    cdef void end_whole(self) noexcept:
        """Let go of it, and be small and empty again."""
        Py_XDECREF(self.whole)
        self.whole = NULL
        self.data = self.small
        self.capacity = self.small_capacity
        self.used = 0

    cdef int add(self, bytes data) except -1:
        """Write these bytes, or refer to them."""
        cdef Py_ssize_t size = len(data)
        if size >= self.refer_from:
            if self.references is None:
                self.references = []
            self.references.append((self.used, data))
            self.referred += size
        else:
            memcpy(self.room(size), PyBytes_AS_STRING(<PyObject *>data), size)
            self.used += size
        return 0

    cdef Pieces pieces(self):
        """What was written and referred to; empties it."""
        cdef Pieces result = Pieces.__new__(Pieces)
        cdef Py_ssize_t at = 0
        references, self.references = self.references or (), None
        result.size = self.size()
        self.referred = 0
        result.parts = []
        own = memoryview(self.take())
        for place, data in references:
            if place > at:
                result.parts.append(own[at:place])
                at = place
            result.parts.append(memoryview(data))
        if at < len(own):
            result.parts.append(own if at == 0 else own[at:])
        return result

    cdef bytes take(self):
        """What was written, as bytes; empties it."""
        cdef PyObject *whole = self.whole
        cdef Py_ssize_t used = self.used, capacity = self.capacity
        if whole is NULL:
            self.used = 0
            return bytes(self.data[:used])
        self.whole = NULL
        self.end_whole()
        if capacity - used > capacity // 8:
            if _PyBytes_Resize(&whole, used) < 0:
                raise MemoryError()
        else:                               # a block that is cut before it is freed is never had again: each is new memory
            PyBytes_AS_STRING(whole)[used] = 0
            Py_SET_SIZE(whole, used)
        result = <bytes>whole
        Py_XDECREF(whole)                   # it is the result's now
        return result


cdef class Slab:
    """A fixed piece of a send window."""

    def __cinit__(self, Py_ssize_t capacity):
        self.data = <unsigned char *>PyMem_Malloc(capacity)
        if self.data is NULL:
            raise MemoryError()
        self.capacity = capacity

    def __dealloc__(self):
        PyMem_Free(self.data)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.used, 1, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.views -= 1

    cdef object view(self, Py_ssize_t start, Py_ssize_t stop):
        whole = PyMemoryView_FromObject(self)
        return whole if start == 0 and stop == self.used else whole[start:stop]

    cdef void reset(self) noexcept:
        self.used = 0
        self.written = 0
        self.last_seq = 0
