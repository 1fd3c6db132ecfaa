"""Connection: a link's skin, the only room of the core that does I/O. See connection.pxd."""

from libc.stdint cimport int64_t
from libc.string cimport memmove
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize

from cajun_fast._core.cell cimport Dispatcher
from cajun_fast._core.link cimport Link

from cajun_fast.errors import ProtocolError

cdef extern from "Python.h":
    object PyMemoryView_FromMemory(char *memory, Py_ssize_t size, int flags)

cdef enum:
    READ_BUFFER = 512 * 1024
    LEAST_ROOM = 128 * 1024             # the largest record or control frame fits
    HANDSHAKE_MOST = 4096
    BETWEEN_CHUNKS = 16 * 1024          # what is read at once while a large message comes in: the rest goes to its place


cdef class ConnectionCore(Wire):
    """What asyncio calls; ``owner`` is told of everything that is not plain traffic."""

    def __init__(self, owner, loop, dispatcher):
        self.owner = owner
        self.loop = loop
        self.dispatcher = dispatcher
        self.use_buffer(HANDSHAKE_MOST)

    def use_buffer(self, Py_ssize_t size):
        """Read into a new one of ``size`` bytes. It is not cleared: memory that no read has come to is not in use, and
        most links of a large cluster are quiet."""
        self.buffer = PyByteArray_FromStringAndSize(NULL, size)
        self.view = memoryview(self.buffer)     # made once: it is asked for at each read
        self.data = <unsigned char *>PyByteArray_AS_STRING(self.buffer)
        self.capacity = size

    # ---- what asyncio calls ----------------------------------------------------------------------------------

    def connection_made(self, transport):
        """asyncio: the socket is open."""
        self.transport = transport
        self.heard_ns = self.dispatcher.exchange.clock()
        self.owner.on_connected(self)

    def get_buffer(self, sizehint):
        """asyncio: where the next bytes go."""
        cdef Py_ssize_t room
        cdef unsigned char *place
        self.into = None
        if self.in_link and self.link.is_bulky() and self.carries():
            if self.tail == 0:
                place = self.link.place(&room)
                if place is not NULL:
                    self.into = self.link.placing()
                    return PyMemoryView_FromMemory(<char *>place, room, PyBUF_WRITE)
            return self.view[self.tail:self.tail + BETWEEN_CHUNKS]
        return self.view if self.tail == 0 else self.view[self.tail:]

    def buffer_updated(self, Py_ssize_t count):
        """asyncio: bytes have come."""
        self.heard_ns = self.dispatcher.exchange.clock()
        self.dispatcher.exchange.now = self.heard_ns
        into, self.into = self.into, None
        if into is None:
            self.tail += count
            self.take_in(self.heard_ns, 0)
        elif self.link.is_placing(into):
            self.take_in(self.heard_ns, count)

    def eof_received(self):
        """asyncio: the peer has closed its side."""
        return False

    def connection_lost(self, error):
        """asyncio: the socket is closed."""
        self.closed = True
        self.in_link = False
        self.into = None
        self.leave_link()
        if not self.reading:                # it may be its own owner, and then lives until a collection
            self.head = self.tail = 0
            self.use_buffer(0)
        self.owner.on_lost(self, error)

    def pause_writing(self):
        """asyncio: the transport holds enough."""
        self.paused = True

    def resume_writing(self):
        """asyncio: the transport takes more."""
        self.paused = False
        self.flush()

    # ---- what the owner calls --------------------------------------------------------------------------------

    def write(self, bytes data):
        """Write during the handshake."""
        if not self.closed:
            self.transport.write(data)

    def start(self, Link link):
        """The handshake is done: from now on the connection carries ``link``."""
        rest = bytes(self.buffer[self.head:self.tail])
        self.use_buffer(READ_BUFFER)
        self.buffer[:len(rest)] = rest
        self.head, self.tail = 0, len(rest)
        self.link = link
        self.in_link = True
        before = link.attach(self)
        if before:
            self.transport.writelines(before)
        self.flush()
        if self.tail:
            self.loop.call_soon(self._go_on)

    def close(self):
        """Write what stands, then close."""
        if not self.closed and self.transport is not None:
            self.flush()
            self.leave_link()
            self.transport.close()

    def abort(self):
        """Close at once."""
        self.leave_link()
        if not self.closed and self.transport is not None:
            self.transport.abort()

    def leave_link(self):
        """Carry it no more."""
        if self.link is not None:
            self.link.detach(self)

    # ---- reading ---------------------------------------------------------------------------------------------

    cdef bint carries(self) noexcept:
        return self.in_link and not self.closed and self.link.is_carried_by(self)

    cdef int take_in(self, int64_t now, Py_ssize_t placed) except -1:
        """Hand on what came: into the buffer, or ``placed`` bytes to where they stay. Whatever goes wrong ends this connection, and nothing else."""
        try:
            if self.in_link:
                self.read_link(now, placed)
            else:
                self.read_handshake()
            if not self.closed:
                self.make_room()
        except Exception as error:
            self.abort()
            self.owner.on_broken(self, error)
        return 0

    cdef int read_link(self, int64_t now, Py_ssize_t placed) except -1:
        if not self.carries():
            self.head = self.tail           # a newer connection has taken over
        elif not self.held:
            self.dispatcher.begin_slice_at(now)
            self.reading = True
            self.due = False
            try:
                if placed:
                    self.link.placed(placed)
                else:
                    self.head += self.link.receive(self.data + self.head, self.tail - self.head)
            finally:
                self.reading = False
            if self.due:
                self.flush()
            self.at_once = True
        return 0

    cdef int read_handshake(self) except -1:
        cdef Py_ssize_t done
        while not self.in_link and self.tail > self.head and not self.closed:
            done = self.owner.on_handshake(
                self, PyBytes_FromStringAndSize(<char *>self.data + self.head, self.tail - self.head))
            if self.in_link:                # `start` has moved the rest to a new buffer
                self.head = done
                break
            if self.closed:
                break
            self.head += done
            if not done:
                break
        return 0

    def make_room(self):
        """Move what is left to the front when the room behind it gets short; hold reading while a slice is over."""
        if self.head == self.tail:
            self.head = self.tail = 0
        elif self.capacity - self.tail < (LEAST_ROOM if self.in_link else 1):
            memmove(self.data, self.data + self.head, self.tail - self.head)
            self.tail -= self.head
            self.head = 0
            if self.tail == self.capacity:
                raise ProtocolError(f"a handshake of more than {HANDSHAKE_MOST} bytes")
        if self.carries() and self.link.more and not self.held:
            self.held = True
            self.transport.pause_reading()
            self.loop.call_soon(self._go_on)

    def _go_on(self):
        if self.held:
            self.held = False
            self.transport.resume_reading()
        if self.carries():
            self.take_in(self.dispatcher.exchange.clock(), 0)

    # ---- writing ---------------------------------------------------------------------------------------------

    cdef int wake(self) except -1:
        """What is answered while bytes are read goes when they are read; the first thing after that (an ask after an
        answer) at once; everything else together in the next turn of the loop."""
        if self.reading:
            self.due = True
        elif self.at_once and not self.flushing and not self.paused:
            return self.flush()
        else:
            self.loop.call_soon(self._flush)
        return 0

    cdef int push(self) except -1:
        return self.flush()

    cdef bint turn_over(self) noexcept:
        return self.dispatcher.slice_over() != 0

    def _flush(self):
        self.flush()

    cdef int flush(self) except -1:
        if self.paused or self.flushing or not self.carries():
            return 0
        self.at_once = False
        self.flushing = True            # what collecting sets free must not overtake what was collected
        try:
            out = self.link.collect()
        finally:
            self.flushing = False
        if not out:
            return 0
        self.writes += 1
        self.sent_ns = self.dispatcher.exchange.now
        if len(out) == 1:
            self.transport.write(out[0])
        else:
            self.transport.writelines(out)
        return 0

