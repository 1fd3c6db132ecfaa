"""The sending half of a link. The picture and the laws are in outbound.pxd."""

from collections import deque

from libc.string cimport memcpy

from cajun_fast._core.bulk cimport Outgoing
from cajun_fast._core.frame cimport (
    EXTRA_HEADER, TRACE, TRACE_LEAST, ACK, FRAME_FULL, FRAME_HEADER, GUARANTEE, IN_BULK, NUMBERED, RECORD_HEADER, RECORD_MOST, WITH_DEADLINE, WITH_ORIGIN,
    WITH_SENDER, WITH_TAG, options_size, put_header,
)
from cajun_fast._core.flight cimport SENT
from cajun_fast._core.instruments cimport Histogram
from cajun_fast._core.lane cimport Pid, waiting_of
from cajun_fast._core.ports cimport ASK, FAULT, FULL, GONE, NAME, REPLY, TAKEN
from cajun_fast._core.wire cimport store_le16, store_le32, store_le64

from cajun_fast.errors import MessageTooLargeError, SerializationError

cdef enum:
    REFUSALS_A_FRAME = 200              # with hints of 255 bytes each they fill a control frame
    BULK_A_TURN = 256 * 1024
    EAGER = 2048                        # bytes of asks or answers: more would let the other side stand idle
    ANSWERS_MOST = 4                    # windows full of answers: beyond it asks are refused
    SMALL_MOST = RECORD_MOST - 64       # longer payloads travel as bulk
    REFER_FROM = RECORD_MOST            # bytes objects from this size on go where they are; what refers is never small


cdef class Wire:
    """Port: the connection that carries a link."""

    cdef int wake(self) except -1:
        return 0

    cdef int push(self) except -1:
        return 0

    cdef bint turn_over(self) noexcept:
        return False


cdef class LinkReplies(Replies):
    """Where answers go to asks that came by a link."""

    cdef int answer(self, uint64_t tag, object value) except -1:
        return self.link.answer_with(REPLY, tag, value)

    cdef int fault(self, uint64_t tag, object error) except -1:
        return self.link.answer_with(FAULT, tag, self.link.ports.encode_error(error))


cdef class Trial:
    """How far a lane may go whose mailbox was full."""


cdef class Outbound(Carrier):
    """What goes out to one incarnation of ``peer``."""

    def __init__(self, Exchange exchange, str peer, Serializer serializer, ports, *, Py_ssize_t window,
                 Py_ssize_t max_message, Py_ssize_t max_bulk, uint32_t max_names, Py_ssize_t max_name_bytes,
                 Py_ssize_t bulk_window):
        self.exchange = exchange
        self.peer = peer
        self.serializer = serializer
        self.plain = Codec()
        self.ports = ports
        self.max_message = max_message
        self.window = SendWindow(window)
        self.bulk = BulkOut(bulk_window)
        self.names = Names(self, max_names, max_name_bytes)
        self.replies = LinkReplies.__new__(LinkReplies)
        self.replies.link = self
        self.replies.node = peer
        self.inbound = Inbound(exchange, serializer, self.replies, self, ports, max_message=max_message,
                               max_bulk=max_bulk)
        self.scratch = OutBuf(1024, REFER_FROM)
        self.control = OutBuf(512)
        self.waiters = deque()
        self.deadlines = {}
        self.holding = {}
        self.room_listeners = {}
        self.bulk_listeners = {}
        self.trials = {}
        self.spent = {}
        self.traces = True              # until a handshake says: a link without a connection yet has asked nobody
        self.batch = Histogram()
        self.round_trip = Histogram()

    # ---- sending ---------------------------------------------------------------------------------------------

    cpdef bint has_room(self):
        """Whether a tell would be taken now."""
        return not self.ended and self.window.retained < self.window.limit and not self.bulk_is_full()

    cpdef bint has_room_for(self, object lane):
        """Whether a tell of this lane would be taken now: where its mailbox was full, it may go on step by step."""
        cdef Trial trial = <Trial>self.trials.get(lane) if self.trials else None
        return self.has_room() and (trial is None or trial.left > 0)

    cpdef call_when_room(self, object listener):
        """Call ``listener.on_room()`` once what was full has drained to half, or the link has ended."""
        if self.window.retained >= self.window.limit:
            self.room_listeners[listener] = None
        else:
            self.bulk_listeners[listener] = None
        if self.ended:
            self.exchange.loop.call_soon(self.wake_all)

    def wake_listeners(self):
        """There is room in the window: all who wait for that may try."""
        listeners, self.room_listeners = self.room_listeners, {}
        for listener in listeners:
            listener.on_room()

    def wake_bulk_listeners(self):
        """There is room for large messages."""
        listeners, self.bulk_listeners = self.bulk_listeners, {}
        for listener in listeners:
            listener.on_room()

    def wake_all(self):
        """There is room, or there will be none."""
        self.wake_listeners()
        self.wake_bulk_listeners()

    cdef bint bulk_is_full(self) noexcept:
        """Large messages have bytes of their own, as many as the window: one of them must not stop the small ones."""
        return self.bulk.bytes >= self.window.limit

    cdef bint is_large(self, object lane, object message):
        """Whether it surely goes as bulk, as far as can be told before it is encoded."""
        return (self.holding and lane in self.holding) or (
            (isinstance(message, bytes) or isinstance(message, str)) and len(message) > SMALL_MOST)

    cdef int post(self, object lane, int kind, int guarantee, object message, object sender, uint64_t tag,
                  Replies origin, int64_t deadline, object waiter, bint encoded) except -1:
        cdef OutBuf out
        cdef Lane asker = None
        cdef Trial trial
        if self.ended:
            return GONE
        if self.window.retained >= self.window.limit or (self.bulk_is_full() and self.is_large(lane, message)):
            return FULL
        if self.refusal is not None and (kind == ASK or guarantee == 0) and not guarantee & NUMBERED:
            raise self.refusal((<Lane>lane).target)
        trial = <Trial>self.trials.get(lane) if self.trials else None
        if trial is not None and trial.left == 0:
            return FULL
        if origin is not None and origin is not self.exchange.asks:
            asker = self.exchange.lane(origin.node)
        trace = self.exchange.trace
        if trace is not None:
            self.exchange.trace = None
        out = self.take_scratch()
        try:
            self.encode(out, message, encoded)
            if SMALL_MOST < out.size() <= self.max_message and self.bulk_is_full():
                return FULL
            self.post_encoded(<Lane>lane, kind, guarantee, out,
                              (<Pid>sender).lane if sender is not None else None, tag, asker, deadline, waiter, trace)
        finally:
            self.give_scratch(out)
        if trial is not None:
            trial.left -= 1
            if trial.left == 0:
                self.spent[lane] = trial
        if kind == ASK and asker is None and not guarantee & NUMBERED:
            self.exchange.asks.set_carrier(tag, self)
        return TAKEN

    cdef int encode(self, OutBuf out, object message, bint encoded) except -1:
        if encoded:
            out.add(<bytes>message)
        else:
            self.serializer.encode_into(out, message)
        return 0

    cdef int post_encoded(self, Lane lane, int kind, int guarantee, OutBuf out, Lane sender, uint64_t tag,
                          Lane origin, int64_t deadline, object waiter, object trace) except -1:
        cdef uint64_t seq
        cdef Waiting item
        if out.size() > SMALL_MOST or (self.holding and lane in self.holding):
            if out.size() > self.max_message:
                raise MessageTooLargeError(
                    out.size(), self.max_message, lane.target if lane is not None else "the asker")
            item = waiting_of(
                kind, out.pieces() if out.size() > SMALL_MOST else out.take(), guarantee, sender.pid() if sender is not None else None, tag,
                self.ports.replies_for(origin.target) if origin is not None else self.exchange.asks if tag else None,
                deadline, waiter, True)
            item.trace = trace
            return self.post_large(lane, item)
        seq = self.append(lane, kind, guarantee, out.data, out.used, sender, tag, origin, deadline, trace)
        if waiter is not None:
            self.waiters.append((seq, waiter))
        return self.signal(EAGER if tag else FRAME_FULL)

    cdef int post_large(self, Lane lane, Waiting item) except -1:
        """One that travels in chunks, or stands behind one that does."""
        if lane is not None and lane in self.holding:
            self.holding[lane].append(item)
            self.bulk.bytes += len(item.message)
            return 0
        self.bulk.start(item.message, lane, item)
        if lane is not None:                # answers have no lane: their order is nobody's concern
            self.holding[lane] = []
        return self.signal()

    cdef uint64_t append(self, Lane lane, int kind, int flags, const unsigned char *payload, Py_ssize_t size,
                         Lane sender, uint64_t tag, Lane origin, int64_t deadline, object trace) except 0:
        """Put one record into the window; returns its number."""
        cdef uint32_t target = 0, sender_number = 0, origin_number = 0
        cdef Py_ssize_t options
        cdef unsigned char *at
        cdef uint64_t seq = self.window.next_seq
        if lane is not None:
            target = lane.name if lane.named_by is self else self.names.find(lane, self.window.acked, True)
            self.names.states[target].used = seq
            if self.names.states[target].announced != self.connection:
                self.announce(target)       # before another is named: the peer counts the bytes of names as they come
        if sender is not None:
            flags |= WITH_SENDER
            sender_number = self.number_of(sender)
        if tag:
            flags |= WITH_TAG
        if origin is not None:
            flags |= WITH_ORIGIN
            origin_number = self.number_of(origin)
        if deadline:
            flags |= WITH_DEADLINE
        if lane is not None:
            self.names.states[target].last = seq
            if self.names.states[target].first == 0:
                self.names.states[target].first = seq
            self.sent[flags & GUARANTEE] += 1
            self.told = seq
            if self.exchange.sampler.picks(seq):
                self.exchange.sampler.spend()
                self.exchange.flight.note(SENT, 0, None, self.stream, seq, lane.target, self.exchange.now)
        else:
            self.sent[3] += 1
        options = options_size(flags)
        if trace is not None:
            trace = self.extra_of(trace, size)
            options += len(<bytes>trace)
        at = self.window.open_record(RECORD_HEADER + options + size, True)
        store_le32(at + 4, target)
        at[8] = kind
        at[9] = flags
        store_le16(at + 10, options)
        at += RECORD_HEADER
        if options:
            if sender_number:
                store_le32(at, sender_number)
                at += 4
            if tag:
                store_le64(at, tag)
                at += 8
            if deadline:
                self.deadlines[seq] = deadline
                store_le32(at, milliseconds_left(deadline, self.exchange.clock()))
                at += 4
            if origin_number:
                store_le32(at, origin_number)
                at += 4
            if trace is not None:
                memcpy(at, <const char *>(<bytes>trace), len(<bytes>trace))
                at += len(<bytes>trace)
        memcpy(at, payload, size)
        self.messages_out += 1
        return seq

    cdef bytes extra_of(self, bytes trace, Py_ssize_t size):
        """The option that says a message's trace, empty where the peer is known not to know it. Its tracestate is left
        out where the record would be too long with it."""
        cdef unsigned char header[EXTRA_HEADER]
        if not self.traces:
            return b""
        if size + len(trace) > SMALL_MOST:
            trace = trace[:TRACE_LEAST]
        header[0] = TRACE
        store_le16(header + 1, len(trace))
        return <bytes>header[:EXTRA_HEADER] + trace

    cdef uint32_t number_of(self, Lane lane) except 0:
        """The number of a sender or an asker's node, announced."""
        cdef uint32_t number = lane.name if lane.named_by is self else self.names.find(
            lane, self.window.acked, lane.inbox is not None)
        self.names.states[number].used = self.window.next_seq
        if self.names.states[number].announced != self.connection:
            self.announce(number)
        return number

    cdef int announce(self, uint32_t number) except -1:
        self.write_name(number, (<Lane>self.names.lanes[number]).target.encode())
        self.names.states[number].announced = self.connection
        return 0

    def unname(self, uint32_t number):
        """A number that is free: let the peer forget what it meant."""
        if self.names.states[number].announced == self.connection:
            self.write_name(number, b"-")

    cdef int write_name(self, uint32_t number, bytes id) except -1:
        cdef unsigned char *at = self.window.open_record(RECORD_HEADER + len(id), False)
        store_le32(at + 4, number)
        at[8] = NAME
        at[9] = 0
        store_le16(at + 10, 0)
        memcpy(at + RECORD_HEADER, <const char *>id, len(id))
        return 0

    cdef int answer_with(self, int kind, uint64_t tag, object value) except -1:
        """Answers pass a full window. Where their asker does not take them in, no more asks are taken from it."""
        if self.ended:                      # whoever asked is gone with the peer's incarnation
            self.exchange.answers_lost += 1
            return 0
        try:
            self.answer_unless_bad(kind, tag, value)
        except SerializationError as error:
            self.answer_unless_bad(FAULT, tag, self.ports.encode_error(error))
        return 0

    cdef int answer_unless_bad(self, int kind, uint64_t tag, object value) except -1:
        cdef OutBuf out = self.take_scratch()
        try:
            (<Serializer>self.plain if kind == FAULT else self.serializer).encode_into(out, value)
            self.post_encoded(None, kind, 2, out, None, tag, None, 0, None, None)
            if self.window.retained + self.bulk.bytes >= ANSWERS_MOST * self.window.limit:
                self.inbound.answers_full = True
            return 0
        finally:
            self.give_scratch(out)

    cdef OutBuf take_scratch(self):
        """Empty memory to encode into, to be given back; encoding may run a user's code, which may send."""
        cdef OutBuf out = self.scratch
        self.scratch = None
        if out is None:
            out = OutBuf(1024, REFER_FROM)
        return out

    cdef void give_scratch(self, OutBuf out) noexcept:
        """Give it back: large memory, and what it refers to, is let go."""
        out.empty()
        self.scratch = out

    cdef int signal(self, Py_ssize_t most=FRAME_FULL) except -1:
        """There is something to write: soon, or at once where ``most`` bytes wait."""
        if self.wire is not None:
            if self.window.unflushed >= most:
                self.wire.push()
            if not self.woken:
                self.woken = True
                self.wire.wake()
        return 0

    # ---- to the wire -----------------------------------------------------------------------------------------

    cpdef list collect(self):
        """Buffers to be written, in order. The window's bytes are views of it, kept until acknowledged."""
        cdef list out = []
        cdef list finished
        cdef uint64_t before = self.window.flushed
        self.woken = False
        if self.inbound.ack_due or self.inbound.late:
            self.write_ack()
        if self.window.unflushed and self.window.collect_small(self.control):
            out.append(self.control.take())
        else:
            if self.control.used:
                out.append(self.control.take())
            self.window.collect(out)
        if self.window.flushed > before:
            self.note_batch(before)
        if self.bulk.queue:
            finished = []
            self.bulk.collect(out, BULK_A_TURN, finished)
            self.finish_bulk(finished)
            if self.bulk.may_go():
                self.signal()
        for item in out:
            self.bytes_out += len(item)
        return out

    cdef int note_batch(self, uint64_t before) except -1:
        """What has left together; time it, unless one that went before is still on its way."""
        self.batch.add(<int64_t>(self.window.flushed - before), 1)
        if self.timed == 0 and self.told > before:
            self.timed = self.told
            self.timed_at = self.exchange.clock()
        return 0

    def last_of(self, lane):
        """As Carrier."""
        number = self.names.numbers.get(lane)
        return 0 if number is None else self.names.states[<Py_ssize_t>number].last

    def carries(self, Lane lane not None):
        """Whether messages of ``lane`` are here that have no verdict."""
        return self.names.is_pending(lane, self.window.acked) or lane in self.holding

    @property
    def sent_by_guarantee(self):
        """Messages at most once, at least once, exactly once; and answers."""
        return self.sent[0], self.sent[1], self.sent[2], self.sent[3]

    cdef int finish_bulk(self, list finished) except -1:
        """The last chunk has gone: now the record takes its place in the lane, and what was held comes behind it."""
        cdef Outgoing transfer
        cdef Waiting item
        cdef unsigned char id[4]
        cdef uint64_t seq
        for done in finished:
            transfer = <Outgoing>done
            item = <Waiting>transfer.item
            store_le32(id, transfer.id)
            seq = self.append(<Lane>transfer.lane, item.kind, item.guarantee | IN_BULK, id, 4,
                              item.sender.lane if item.sender is not None else None, item.tag, self.origin_of(item),
                              item.deadline, item.trace)
            self.bulk.recorded(transfer.id, seq)
            if item.waiter is not None:
                self.waiters.append((seq, item.waiter))
            if transfer.lane is not None:
                self.post_held(<Lane>transfer.lane)
        return self.signal() if finished else 0     # without that a transfer that waits for its window spins

    cdef int post_held(self, Lane lane) except -1:
        """Send on what stood behind a large message; a second large one holds the rest again."""
        cdef OutBuf out = OutBuf()
        cdef list held = self.holding.pop(lane, [])
        cdef Waiting item
        cdef Py_ssize_t i
        for i in range(len(held)):
            item = <Waiting>held[i]
            self.bulk.bytes -= len(item.message)
            if len(item.message) > SMALL_MOST:
                self.post_large(lane, item)
                self.holding[lane] = held[i + 1:]   # as they are: to copy them each time is quadratic
                return 0
            out.used = 0
            self.encode(out, item.message, True)
            self.post_encoded(lane, item.kind, item.guarantee, out,
                              item.sender.lane if item.sender is not None else None, item.tag, self.origin_of(item),
                              item.deadline, item.waiter, item.trace)
        return 0

    def mentions(self, Lane lane not None):
        """Whether a message to or from the actor of ``lane`` is on its way by this link, without a verdict."""
        if self.ended:
            return False
        return self.names.is_used(lane, self.window.acked) or self.bulk_mentions(lane)

    cdef bint bulk_mentions(self, Lane lane) except -1:
        """As ``mentions``, for large messages and for what stands behind them."""
        cdef Waiting item
        if not self.holding and not self.bulk.queue:
            return False
        items = [(<Outgoing>transfer).item for transfer in self.bulk.queue]
        for held in self.holding.values():
            items.extend(held)
        for each in items:
            item = <Waiting>each
            if item is not None and item.sender is not None and item.sender.lane is lane:
                return True
        return False

    cdef Lane origin_of(self, Waiting item):
        """The lane of the node that asked, for a message that was forwarded."""
        if item.origin is None or item.origin is self.exchange.asks:
            return None
        return self.exchange.lane(item.origin.node)

    # ---- control frames --------------------------------------------------------------------------------------

    cdef int write_ack(self) except -1:
        """Refusals not told on this connection, then the watermark that covers them."""
        refusals = self.inbound.seen.untold()
        self.inbound.ack_due = False
        self.inbound.late = 0
        while len(refusals) > REFUSALS_A_FRAME:
            self.write_ack_frame(refusals[:REFUSALS_A_FRAME], refusals[REFUSALS_A_FRAME - 1][0])
            refusals = refusals[REFUSALS_A_FRAME:]
        self.write_ack_frame(refusals, self.inbound.seen.watermark)
        return 0

    def write_ack_frame(self, list refusals, uint64_t watermark):
        """One ACK frame into the control buffer."""
        cdef OutBuf out = self.control
        cdef Py_ssize_t at = out.used
        cdef unsigned char *body = out.room(FRAME_HEADER + 20)
        out.used += FRAME_HEADER + 20
        body += FRAME_HEADER
        store_le64(body, self.confirmed)
        store_le64(body + 8, self.inbound.transfers.received)
        store_le32(body + 16, len(refusals))
        for seq, verdict, hint, _ in refusals:
            text = b"" if hint is None else hint.encode()[:255]
            body = out.room(10 + len(text))
            store_le64(body, seq)
            body[8] = verdict
            body[9] = len(text)
            memcpy(body + 10, <const char *>text, len(text))
            out.used += 10 + len(text)
        put_header(out.data + at, ACK, <uint32_t>(out.used - at - FRAME_HEADER), watermark)

    cdef int write_frame(self, int type, const unsigned char *body, Py_ssize_t size, uint64_t sequence) except -1:
        cdef unsigned char *at = self.control.room(FRAME_HEADER + size)
        put_header(at, type, <uint32_t>size, sequence)
        if size:
            memcpy(at + FRAME_HEADER, body, size)
        self.control.used += FRAME_HEADER + size
        return self.signal()

    def write_control(self, int type, bytes body=b"", uint64_t sequence=0):
        """A control frame, to be written before any data."""
        self.write_frame(type, body, len(body), sequence)


cdef uint32_t milliseconds_left(int64_t deadline, int64_t now) noexcept:
    """At least 0: what goes again after its deadline is refused as expired, not handled."""
    cdef int64_t left = (deadline - now + 999_999) // 1_000_000
    return <uint32_t>(0 if left < 0 else 0xFFFFFFFF if left > <int64_t>0xFFFFFFFF else left)
