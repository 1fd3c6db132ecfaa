"""Large messages in chunks between others. See bulk.pxd.

Own the bytes of large payloads on both sides; know nothing of lanes: the link puts a record into the lane when the
last chunk has been handed out.
"""

from collections import deque

from libc.stdint cimport int64_t
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize

from cajun_fast._core.frame cimport BULK, BULK_CHUNK, BULK_CHUNK_LARGE, BULK_HEADER, FRAME_HEADER, put_header
from cajun_fast._core.lane cimport Waiting
from cajun_fast._core.ports cimport ASK
from cajun_fast._core.wire cimport load_le32, store_le32

from cajun_fast.errors import MessageTooLargeError, ProtocolError

cdef enum:
    TRANSFERS_MOST = 4096
    SEARCHED = 4096                 # bytes at the beginning of a message in which the head of a large object is looked for
    SPARE_MOST = 16 << 20           # bytes of the buffer that is kept for the next transfer, if it comes soon


cdef class Outgoing:
    """One payload on its way."""

    cdef int restart(self) noexcept:
        self.sent = self.part = self.part_at = 0
        return 0

    cdef Py_ssize_t next_chunk(self, list out, Py_ssize_t most) except -1:
        """Append the next chunk, its bytes where they lie; returns how many they are."""
        cdef Py_ssize_t size = self.payload.size - self.sent, left, some
        if size > most + most // 4:         # else the rest goes with it: a short chunk costs what a long one costs
            size = most
        left = size
        out.append(chunk_head(self.id, self.payload.size, self.sent, size))
        self.sent += size
        while left:
            part = self.payload.parts[self.part]
            some = min(left, len(part) - self.part_at)
            out.append(part[self.part_at:self.part_at + some])
            left -= some
            self.part_at += some
            if self.part_at == len(part):
                self.part += 1
                self.part_at = 0
        return size


cdef class BulkOut:
    """Payloads going out. ``window``: chunk bytes that may be on their way and not yet told received."""

    def __init__(self, Py_ssize_t window=512 << 10):
        self.queue = deque()
        self.kept = {}
        self.by_seq = deque()
        self.window = window
        self.chunk = BULK_CHUNK

    def use_chunks(self, *, bint large):
        """How long chunks may be: as a new connection's peer has said."""
        self.chunk = BULK_CHUNK_LARGE if large else BULK_CHUNK

    cdef uint32_t start(self, Pieces payload, object lane, object item) except 0:
        cdef Outgoing transfer = Outgoing.__new__(Outgoing)
        self.next_id = self.next_id + 1 if self.next_id < 0xFFFFFFFF else 1
        transfer.id = self.next_id
        transfer.payload = payload
        transfer.lane = lane
        transfer.item = item
        self.queue.append(transfer)
        self.kept[transfer.id] = payload
        self.bytes += payload.size
        return transfer.id

    cdef int collect(self, list out, Py_ssize_t most, list finished) except -1:
        cdef Outgoing item
        cdef Py_ssize_t size
        while self.queue and most > 0 and <Py_ssize_t>(self.sent - self.received) < self.window:
            item = <Outgoing>self.queue[0]
            size = item.next_chunk(out, self.chunk)
            self.sent += size
            most -= size
            if item.sent == item.payload.size:
                finished.append(self.queue.popleft())
        return 0

    cdef bint may_go(self) noexcept:
        return len(self.queue) > 0 and <Py_ssize_t>(self.sent - self.received) < self.window

    cdef int resend(self, uint32_t id, list out) except -1:
        """All chunks of a transfer whose record goes again behind them."""
        cdef Outgoing again = Outgoing.__new__(Outgoing)
        again.id = id
        again.payload = self.kept[id]
        while again.sent < again.payload.size:
            again.next_chunk(out, self.chunk)
        self.sent += again.sent
        return 0

    cdef int recorded(self, uint32_t id, uint64_t seq) except -1:
        self.by_seq.append((seq, id))
        return 0

    cdef int on_received(self, uint64_t count) except -1:
        if count > self.sent:
            raise ProtocolError(f"{count} bytes of large messages are said to have come, {self.sent} were sent")
        self.received = count
        return 0

    cdef int acked(self, uint64_t seq) except -1:
        while self.by_seq and self.by_seq[0][0] <= seq:
            payload = self.kept.pop(self.by_seq.popleft()[1])
            self.bytes -= len(payload)
        return 0

    cdef int restart(self) except -1:
        """A new connection: unfinished transfers begin anew."""
        self.sent = 0
        self.received = 0
        for item in self.queue:
            (<Outgoing>item).restart()
        return 0

    cdef list abandon(self):
        left = list(self.queue)
        self.queue.clear()
        return left

    cdef list drop_asks(self, object asks):
        return self.drop([
            item for item in self.queue
            if (<Waiting>(<Outgoing>item).item).kind == ASK and (<Waiting>(<Outgoing>item).item).origin is asks])

    cdef list drop_late(self, int64_t now, bint down):
        """Those whose deadline is over and of which nothing is at the peer, so that it keeps no half of one."""
        return self.drop([
            item for item in self.queue
            if 0 < (<Waiting>(<Outgoing>item).item).deadline <= now and (down or (<Outgoing>item).sent == 0)])

    cdef list drop(self, list dropped):
        for item in dropped:
            self.queue.remove(item)
            del self.kept[(<Outgoing>item).id]
            self.bytes -= len((<Outgoing>item).payload)
        return dropped


cdef bytes chunk_head(uint32_t id, Py_ssize_t total, Py_ssize_t offset, Py_ssize_t size):
    cdef unsigned char head[FRAME_HEADER + BULK_HEADER]
    put_header(head, BULK, <uint32_t>(size + BULK_HEADER), id)
    store_le32(head + FRAME_HEADER, <uint32_t>total)
    store_le32(head + FRAME_HEADER + 4, <uint32_t>offset)
    return head[:FRAME_HEADER + BULK_HEADER]


cdef class Incoming:
    """One payload that is coming in."""

    cdef unsigned char *place(self, Py_ssize_t *room) noexcept:
        cdef Py_ssize_t at = self.filled - self.large_at
        if at < 0:
            room[0] = -at
            return <unsigned char *>PyByteArray_AS_STRING(self.rest) + self.filled
        if at < self.large_size:
            room[0] = self.large_size - at
            return <unsigned char *>PyBytes_AS_STRING(self.large) + at
        room[0] = self.total - self.filled
        return <unsigned char *>PyByteArray_AS_STRING(self.rest) + self.filled - self.large_size

    cdef object decode(self, Serializer serializer):
        """The message, by the serializer that was asked what of it is large."""
        return serializer.decode_around(
            <unsigned char *>PyByteArray_AS_STRING(self.rest), len(self.rest), self.large, self.large_at)

    cdef bytearray whole(self):
        """All of it in one piece, for who knows of no pieces."""
        if self.large is None:
            return self.rest
        return bytearray().join((self.rest[:self.large_at], self.large, self.rest[self.large_at:]))


cdef class BulkIn:
    """Payloads coming in. ``limit``: bytes that may be held at once."""

    def __init__(self, Serializer serializer, Py_ssize_t max_message, Py_ssize_t limit):
        self.serializer = serializer
        self.transfers = {}
        self.max_message = max_message
        self.limit = limit

    cdef int begin_chunk(self, uint32_t id, const unsigned char *body, Py_ssize_t size, Py_ssize_t here) except -1:
        cdef Py_ssize_t total, offset
        cdef Incoming transfer
        if size <= BULK_HEADER:
            raise ProtocolError(f"a chunk of {size} bytes")
        total = load_le32(body)
        offset = load_le32(body + 4)
        size -= BULK_HEADER
        transfer = self.transfers.get(id)
        if transfer is None:
            transfer = self.open(id, total, body + BULK_HEADER, here - BULK_HEADER)
        if offset != transfer.filled or total != transfer.total or size > total - offset:
            raise ProtocolError(f"chunk at {offset} of {total} bytes does not fit transfer {id}")
        self.current = transfer
        self.left = size
        return 0

    cdef Py_ssize_t take(self, const unsigned char *data, Py_ssize_t size) noexcept:
        cdef Py_ssize_t room, taken
        cdef unsigned char *place
        size = taken = min(size, self.left)
        while size:
            place = self.place(&room)
            room = min(room, size)
            if place is not NULL:
                memcpy(place, data, room)
            self.placed(room)
            data += room
            size -= room
        return taken

    cdef unsigned char *place(self, Py_ssize_t *room) noexcept:
        cdef unsigned char *place = NULL
        room[0] = self.left
        if self.left and self.current.rest is not None:
            place = self.current.place(room)
            room[0] = min(room[0], self.left)
        return place

    cdef void placed(self, Py_ssize_t size) noexcept:
        self.current.filled += size
        self.received += size
        self.left -= size
        if self.left == 0:
            self.current = None

    cdef Incoming open(self, uint32_t id, Py_ssize_t total, const unsigned char *data, Py_ssize_t size):
        """Begin one. Memory is asked for only within the limits: a message that is too large is heard out without
        keeping it, and refused when its record comes. Raises ProtocolError where too many are open."""
        cdef Incoming transfer = Incoming.__new__(Incoming)
        if len(self.transfers) >= TRANSFERS_MOST:
            raise ProtocolError(f"{TRANSFERS_MOST} large messages are coming in already")
        transfer.total = transfer.large_at = total
        if total <= self.max_message:
            if self.held + total > self.limit:
                raise ProtocolError(f"large messages hold {self.held} bytes already, {total} more are over the limit")
            transfer.large_size = self.serializer.large_in(data, min(size, <Py_ssize_t>SEARCHED), total, &transfer.large_at)
            if transfer.large_size:
                transfer.large = PyBytes_FromStringAndSize(NULL, transfer.large_size)
            transfer.rest = self.buffer(total - transfer.large_size)
            self.held += total
        self.transfers[id] = transfer
        return transfer

    cdef bytearray buffer(self, Py_ssize_t total):
        """Memory that is filled before it is read: what the last transfer left, or new."""
        payload, self.spare = self.spare, None
        self.idle = 0
        if payload is None:
            return PyByteArray_FromStringAndSize(NULL, total)
        PyByteArray_Resize(payload, total)
        return payload

    cdef int give_back(self, Incoming payload) except -1:
        """A claimed payload has been read: fresh memory costs more than the copy into it."""
        if len(payload.rest) <= SPARE_MOST:
            self.spare = payload.rest
        return 0

    @property
    def spare_bytes(self):
        """Of memory that is kept for the next one."""
        return 0 if self.spare is None else len(self.spare)

    cdef int let_go(self) except -1:
        """Called at each heartbeat: a buffer that was not used since the last one but one is given back."""
        self.idle += 1
        if self.idle > 1:
            self.spare = None
        return 0

    cdef Incoming claim(self, uint32_t id):
        cdef Incoming transfer = self.transfers.get(id)
        if transfer is None or transfer.filled != transfer.total:
            return None
        self.forget(id)
        if transfer.rest is None:
            raise MessageTooLargeError(transfer.total, self.max_message)
        return transfer

    cdef int forget(self, uint32_t id) except -1:
        """Let go of a transfer whose record is a duplicate or refused."""
        cdef Incoming transfer = self.transfers.pop(id, None)
        if transfer is not None and transfer.rest is not None:
            self.held -= transfer.total
        return 0

    cdef int restart(self) except -1:
        self.transfers.clear()
        self.current = None
        self.left = 0
        self.held = 0
        self.received = 0
        return 0
