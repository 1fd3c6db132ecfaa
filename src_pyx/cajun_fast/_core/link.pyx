"""Link: the sans-IO machine between two nodes. The picture and the laws are in link.pxd."""

from libc.string cimport memcpy

from cajun_fast._core.bulk cimport least_of
from cajun_fast._core.frame cimport (
    ACK, BULK, BULK_CHUNK_MOST, BULK_HEADER, BYE, CONTROL_MOST, DATA, FRAME_FULL, FRAME_HEADER, IN_BULK, MAGIC, PING, RECORD_MOST, REFUSE, ROOM,
    START, VERSION, WITH_DEADLINE, WITH_SENDER, WITH_TAG, Header, Record, get_header, get_record, options_size,
)
from cajun_fast._core.outbound cimport milliseconds_left
from cajun_fast._core.outbuf cimport Slab
from cajun_fast._core.ports cimport VOID
from cajun_fast._core.wire cimport load_le32, store_le16, store_le32
from cajun_fast._core.window cimport next_record

from cajun_fast.errors import ProtocolError


cdef class Link(Settling):
    """Everything that this node and one incarnation of ``peer`` owe each other."""

    def __init__(self, exchange, peer, incarnation, serializer, ports, *, uint64_t stream=1, window=8 << 20,
                 max_message=16 << 20, max_bulk=64 << 20, max_names=1 << 18, max_name_bytes=32 << 20,
                 bulk_window=512 << 10):
        Settling.__init__(self, exchange, peer, serializer, ports, window=window, max_message=max_message,
                          max_bulk=max_bulk, max_names=max_names, max_name_bytes=max_name_bytes,
                          bulk_window=bulk_window)
        self.incarnation = incarnation
        self.stream = stream

    def __repr__(self):
        state = "ended" if self.ended else "up" if self.wire is not None else "down"
        return f"<Link to {self.peer!r} incarnation {self.incarnation}, {state}>"

    # ---- connections -----------------------------------------------------------------------------------------

    def attach(self, Wire wire):
        """A new connection carries the link: everything not acknowledged goes again, in order. Returns buffers to be
        written before what `collect` gives."""
        cdef Slab slab
        cdef Py_ssize_t at, body_end, size
        cdef uint64_t seq, acked = self.window.acked
        cdef unsigned char *record
        cdef bint numbered
        cdef list before = []
        self.connection += 1
        self.control.used = 0
        self.body_left = 0
        self.woken = False
        self.wire = None
        self.timed = 0                  # what goes again would be timed wrongly
        self.inbound.restart()
        self.bulk.restart()
        self.write_start()
        for item in self.window.rewind():
            slab = <Slab>item
            at = body_end = 0
            seq = 0
            while next_record(slab, &at, &body_end, &seq, &record, &size, &numbered):
                if numbered and seq > acked:
                    self.send_again(record[:size], seq, before)
        self.wire = wire
        self.resumed = self.window.flushed
        self.retry_full()
        self.signal()
        return before

    def send_again(self, bytes kept, uint64_t seq, list before):
        """Append a kept record, with its names, its large payload and what is left of its deadline."""
        cdef const unsigned char *record = kept
        cdef unsigned char *copy
        cdef Record parts
        cdef Py_ssize_t size = len(kept)
        get_record(record, size, &parts)
        for number in (parts.target, parts.sender, parts.origin):
            if number and self.names.states[<Py_ssize_t>number].announced != self.connection:
                self.announce(number)
        if parts.flags & IN_BULK:
            self.bulk.resend(load_le32(parts.payload), before)
        if parts.trace is not NULL and not self.traces and parts.kind != VOID:
            kept = without_trace(kept, &parts)
            record = kept
            size = len(kept)
        copy = self.window.open_record(4 + size, True)
        memcpy(copy + 4, record, size)
        if parts.flags & WITH_DEADLINE:
            store_le32(copy + 12 + 4 * ((parts.flags & WITH_SENDER) != 0) + 8 * ((parts.flags & WITH_TAG) != 0),
                       milliseconds_left(self.deadlines.get(seq, 0), self.exchange.clock()))
        self.resent += 1

    def detach(self, Wire wire):
        """The connection is gone; what is not acknowledged stays."""
        if self.wire is wire:
            self.wire = None
            self.body_left = 0

    cdef bint is_carried_by(self, Wire wire) noexcept:
        return self.wire is wire

    def tick(self, int64_t now):
        """Called at each heartbeat: what waits beyond its deadline ends; a window that was emptied while its bytes
        were still in a transport's hands is let go."""
        self.expire(now)
        if self.inbound.transfers.spare is not None:
            self.inbound.transfers.let_go()
        if self.trials:
            self.forget_trials(now)
        if self.window.retained and self.window.acked + 1 == self.window.next_seq:
            self.window.release()
            self.on_acked()
        if self.inbound.late:
            self.inbound.ack_due = True
            self.signal()

    # ---- frames in -------------------------------------------------------------------------------------------

    cdef Py_ssize_t receive(self, const unsigned char *data, Py_ssize_t size) except -1:
        """Take in what came; returns how many bytes are done with. Stops early when the wire says so.

        Raises ProtocolError: the connection must end.
        """
        cdef Py_ssize_t at = 0, length
        cdef Header header
        cdef uint64_t connection = self.connection
        self.more = False
        while not self.ended and self.connection == connection:
            if self.inbound.transfers.left:
                if at == size:
                    break
                at += self.inbound.transfers.take(data + at, size - at)
                self.inbound.ack_due |= self.inbound.transfers.left == 0
                continue
            if self.body_left:
                if size - at < 4:
                    break
                length = load_le32(data + at)
                if length < 8 or length + 4 > self.body_left or length > RECORD_MOST:
                    raise ProtocolError(f"a record of {length} bytes where {self.body_left} are left in its frame")
                if size - at < 4 + length:
                    break
                self.body_left -= 4 + length
                at += 4 + length
                self.inbound.on_record(data + at - length, length)
                if self.wire is not None and self.wire.turn_over():
                    self.more = True
                    break
                continue
            if size - at < FRAME_HEADER:
                break
            header = get_header(data + at)
            check_header(&header)
            if header.type == DATA:
                self.begin_data(header.sequence, header.length)
                at += FRAME_HEADER
            elif header.type == BULK:
                if size - at < FRAME_HEADER + least_of(header.length):
                    break
                at += FRAME_HEADER
                self.begin_chunk(header.sequence, data + at, header.length, size - at)
                at += BULK_HEADER
            elif size - at < FRAME_HEADER + <Py_ssize_t>header.length:
                break
            else:
                at += FRAME_HEADER + header.length
                self.on_frame(header.type, header.sequence, data + at - header.length, header.length)
        self.bytes_in += at
        self.wake_if_due()
        return at

    cdef unsigned char *place(self, Py_ssize_t *room) noexcept:
        return self.inbound.transfers.place(room)

    cdef object placing(self):
        return self.inbound.transfers.current

    cdef bint is_placing(self, object transfer) noexcept:
        return self.inbound.transfers.current is transfer

    cdef bint is_bulky(self) noexcept:
        return len(self.inbound.transfers.transfers) > 0

    cdef int placed(self, Py_ssize_t size) except -1:
        self.inbound.transfers.placed(size)
        self.bytes_in += size
        self.inbound.ack_due |= self.inbound.transfers.left == 0
        return self.wake_if_due()

    cdef int wake_if_due(self) except -1:
        """An acknowledgement has to go, soon."""
        if self.inbound.ack_due and not self.woken and self.wire is not None:
            self.woken = True
            self.wire.wake()
        return 0

    def feed(self, bytes data):
        """`receive` for Python: how many bytes are done with."""
        return self.receive(data, len(data))

    def begin_data(self, uint64_t sequence, Py_ssize_t length):
        """A DATA frame: its first number may repeat what came, but not leave a gap."""
        if self.inbound.stream == 0:
            raise ProtocolError("a DATA frame before START")
        if sequence == 0 or sequence > self.inbound.seen.watermark + 1:
            raise ProtocolError(
                f"a gap: number {sequence} came where {self.inbound.seen.watermark + 1} was due")
        self.inbound.frame_seq = sequence - 1
        self.body_left = length

    cdef int begin_chunk(self, uint64_t sequence, const unsigned char *body, Py_ssize_t size, Py_ssize_t here) except -1:
        """A chunk of a large message; its bytes are taken in as they come."""
        if sequence == 0 or sequence > <uint64_t>0xFFFFFFFF:
            raise ProtocolError(f"a chunk of transfer {sequence}: numbers of 32 bits are possible, from 1")
        return self.inbound.transfers.begin_chunk(<uint32_t>sequence, body, size, min(size, here))

    cdef int on_frame(self, int type, uint64_t sequence, const unsigned char *body, Py_ssize_t size) except -1:
        if type == ACK:
            return self.on_ack(sequence, body, size)
        if type == ROOM:
            return self.on_room(body[:size].decode("utf-8", "replace"))
        if type == START:
            return self.on_start(sequence)
        if type == PING:
            return 0
        if type == BYE:
            self.inbound.ack_due = True     # who leaves waits for it
            self.ports.on_bye(self, body[:size].decode("utf-8", "replace"))
            return 0
        if type == REFUSE:
            self.ports.on_refuse(body[:size])       # raises
        raise ProtocolError(f"frame type {type} is not known here")

    def on_start(self, uint64_t stream):
        """The peer's lane begins, or goes on. Another number would be another lane: the handshake settles that."""
        if stream == 0:
            raise ProtocolError("stream 0 is nobody's")
        if self.inbound.stream not in (0, stream):
            raise ProtocolError(f"stream {stream} on a link that carries {self.inbound.stream}")
        self.inbound.stream = stream
        return 0

    # ---- control frames out ------------------------------------------------------------------------------------

    def write_start(self):
        """Say which lane goes on, or begins."""
        self.write_control(START, b"", self.stream)

    def tell_room(self, str id):
        """An actor here that refused the peer's messages has room again."""
        if not self.ended and self.wire is not None:
            if self.inbound.ack_due:        # the refusal comes before the room
                self.write_ack()
            self.write_control(ROOM, id.encode())

    def ping(self):
        """Show that this node lives: say again up to where everything has come."""
        self.inbound.ack_due = True
        self.signal()

    def goodbye(self, str reason):
        """Tell the peer that this node leaves in order."""
        if not self.ended and self.wire is not None:
            self.write_control(BYE, reason.encode())

    # ---- for inspection ----------------------------------------------------------------------------------------

    @property
    def flushed(self):
        """Highest number that was ever handed to a transport."""
        return self.window.flushed

    @property
    def unsettled(self):
        """Whether anything waits for a verdict, or for a connection."""
        return not self.ended and (self.window.next_seq - 1 > self.window.acked or bool(self.bulk.queue))

    @property
    def owes(self):
        """Whether the peer may still wait for a verdict of this side."""
        return not self.ended and self.inbound.ack_due

    @property
    def is_up(self):
        """Whether a connection carries it."""
        return self.wire is not None

    @property
    def held_bytes(self):
        """Bytes kept for messages that have no verdict."""
        return self.window.retained + self.bulk.bytes

    @property
    def waits(self):
        """What stands here beyond bytes: rerouting, blocked and holding lanes, waiters, deadlines, names, refusals."""
        return {
            "rerouting": len(self.rerouting), "blocked": len(self.blocked), "early": len(self.early),
            "holding": len(self.holding), "waiters": len(self.waiters), "deadlines": len(self.deadlines),
            "names": len(self.names.numbers), "room_listeners": len(self.room_listeners) + len(self.bulk_listeners),
            "refusals": len(self.inbound.seen.refusals), "refusing": len(self.inbound.refusing),
            "trials": len(self.spent), "transfers": len(self.inbound.transfers.transfers), "kept": len(self.bulk.kept),
        }


cdef bytes without_trace(bytes kept, Record *parts):
    """A kept record for a peer that knows only the options that flags name."""
    cdef Py_ssize_t options = options_size(parts.flags)
    cdef unsigned char length[2]
    store_le16(length, options)
    return kept[:6] + <bytes>length[:2] + kept[8:8 + options] + kept[len(kept) - parts.size:]


cdef int check_header(Header *header) except -1:
    cdef Py_ssize_t most
    if header.magic != MAGIC or header.version != VERSION:
        raise ProtocolError(
            f"a frame begins with 0x{MAGIC:02x} 0x{VERSION:02x}, got 0x{header.magic:02x} 0x{header.version:02x}")
    most = (2 * FRAME_FULL + RECORD_MOST if header.type == DATA
            else BULK_HEADER + BULK_CHUNK_MOST if header.type == BULK else CONTROL_MOST)
    if <Py_ssize_t>header.length > most:
        raise ProtocolError(f"a frame of type {header.type} with {header.length} bytes, {most} are the most")
    return 0
