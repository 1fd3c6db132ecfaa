"""OutBuf and Slab: where frames are written. See outbuf.pxd."""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromObject


cdef class OutBuf:
    """Growable scratch memory."""

    def __cinit__(self, Py_ssize_t capacity=256):
        self.data = <unsigned char *>PyMem_Malloc(capacity)
        if self.data is NULL:
            raise MemoryError()
        self.capacity = capacity

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef int grow(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity = max(2 * self.capacity, self.used + more)
        cdef unsigned char *data = <unsigned char *>PyMem_Realloc(self.data, capacity)
        if data is NULL:
            raise MemoryError()
        self.data = data
        self.capacity = capacity
        return 0

    cdef bytes take(self):
        """What was written, as bytes; empties it. A scratch that has grown large gives its memory back."""
        result = PyBytes_FromStringAndSize(<char *>self.data, self.used)
        self.used = 0
        if self.capacity > 1 << 20:
            PyMem_Free(self.data)
            self.data = NULL
            self.capacity = 0
            self.grow(1 << 16)
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
