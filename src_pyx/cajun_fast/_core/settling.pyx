"""What becomes of what was sent. The picture and the laws are in settling.pxd."""

from libc.stdint cimport UINT64_MAX, int64_t, uint32_t, uint64_t

from cajun_fast._core.frame cimport GUARANTEE, IN_BULK, NUMBERED, WITH_DEADLINE, get_record
from cajun_fast._core.flight cimport CAME_BACK, UNKNOWN, UNSEEN, VOIDED, message_id
from cajun_fast._core.lane cimport waiting_of
from cajun_fast._core.outbound cimport Trial
from cajun_fast._core.outbuf cimport Slab
from cajun_fast._core.ports cimport ASK, DURABLE, EXPIRED, FORBIDDEN, FULL, TELL, TOO_LARGE, UNREADABLE, VOID, Replies
from cajun_fast._core.wire cimport load_le32, load_le64
from cajun_fast._core.window cimport next_record

from cajun_fast.errors import OutcomeUnknownError, ProtocolError

cdef enum:
    BURST_FIRST = 64
    BURST_LEAST = 16
    BURST_MOST = 4 * 1024
    CALM = 256                          # bursts of that size, all of them taken, after which the lane is free again
    FULL_MEMORY = 5_000_000_000         # ns
    VERDICT_TIME = 1_000_000_000        # ns after its deadline for which a message's verdict is waited for


cdef class Rerouting:
    """A lane that must wait for verdicts."""


cdef class Settling(Outbound):
    """A link's verdicts, from the side that sent."""

    def __init__(self, *args, **options):
        Outbound.__init__(self, *args, **options)
        self.rerouting = {}
        self.blocked = {}
        self.early = set()

    # ---- verdicts --------------------------------------------------------------------------------------------

    cdef int on_ack(self, uint64_t sequence, const unsigned char *body, Py_ssize_t size) except -1:
        # body: confirmed u64 | bulk received u64 | count u32 | count x (seq u64, verdict u8, hint length u8, hint)
        cdef const unsigned char *end = body + size
        cdef uint32_t i, count
        cdef uint64_t seq
        cdef int verdict, length
        if size < 20:
            raise ProtocolError(f"an ACK of {size} bytes")
        self.inbound.confirm(load_le64(body))
        self.bulk.on_received(load_le64(body + 8))
        count = load_le32(body + 16)
        body += 20
        for i in range(count):
            if end - body < 10 or end - body < 10 + body[9]:
                raise ProtocolError("an ACK that ends too early")
            seq = load_le64(body)
            verdict = body[8]
            length = body[9]
            hint = body[10:10 + length].decode("utf-8", "replace") if length else None
            body += 10 + length
            if seq > self.refused_high:
                self.on_refused(seq, verdict, hint)
        self.window.ack(sequence)
        self.on_acked()
        return 0

    def on_acked(self):
        """The watermark has risen: tell whom it concerns."""
        cdef uint64_t acked = self.window.acked
        if self.timed and acked >= self.timed:
            self.round_trip.add(self.exchange.now - self.timed_at, 1)
            self.timed = 0
        self.bulk.acked(acked)
        while self.deadlines:
            oldest = next(iter(self.deadlines))
            if oldest > acked:
                break
            del self.deadlines[oldest]
        if self.waiters:
            self.settle_waiters()
        if self.rerouting or self.refused_high > self.confirmed:
            self.settle_lanes()
        if self.spent:
            self.advance_trials()
        if self.inbound.answers_full and self.window.retained + self.bulk.bytes <= self.window.limit:
            self.inbound.answers_full = False
        if self.room_listeners and 2 * self.window.retained <= self.window.limit:
            self.wake_listeners()
        if self.bulk_listeners and 2 * self.bulk.bytes <= self.window.limit:
            self.wake_bulk_listeners()
        if self.bulk.queue:
            self.signal()

    cdef int on_refused(self, uint64_t seq, int verdict, object hint) except -1:
        cdef Py_ssize_t size = 0
        cdef unsigned char *at = self.window.find(seq, &size)
        cdef Record record
        cdef Waiting item
        cdef Lane lane
        cdef Rerouting state
        if at is NULL or not get_record(at, size, &record) or record.target == 0 or record.kind == VOID:
            raise ProtocolError(f"a refusal of {seq}, which was never sent or is settled")
        self.refused_high = seq
        self.returned += 1
        lane = <Lane>self.names.lanes[record.target]
        item = self.waiting_from(&record, seq)
        self.note(CAME_BACK, verdict, seq, lane)
        if verdict in (UNREADABLE, EXPIRED, FORBIDDEN, TOO_LARGE):
            return lane.end(item, self.about(seq, self.ports.refusal_error(verdict, lane.target, self.peer)))
        state = self.rerouting.get(lane)
        if state is None:
            state = self.rerouting[lane] = Rerouting.__new__(Rerouting)
        if state.first == 0:
            state.first = seq
            state.verdict = verdict
            if self.names.first_of(lane) < seq:
                lane.refusals = 0               # something of it was taken since the last time
        state.last = seq
        if verdict == FULL and seq <= self.resumed:
            self.early.add(lane.target)
        if item.kind == ASK and item.origin is self.exchange.asks:
            self.exchange.asks.set_carrier(item.tag, None)
        return lane.take_back(item, verdict, hint)

    cdef object about(self, uint64_t seq, object error):
        """An error that tells of this one message."""
        error.message_id = message_id(self.exchange.node_id, self.exchange.life, self.stream, seq)
        return error

    cdef int note(self, int stage, int detail, uint64_t seq, Lane lane) except -1:
        return self.exchange.losses.note(stage, detail, None, self.stream, seq, lane.target, self.exchange.now)

    cdef object take_waiter(self, uint64_t seq):
        for entry in self.waiters:
            if entry[0] == seq:
                self.waiters.remove(entry)
                return entry[1]
            if entry[0] > seq:
                break
        return None

    cdef Waiting waiting_from(self, Record *record, uint64_t seq):
        """The message of a kept record, as it was before it was sent; its waiter goes with it."""
        cdef Replies replies = None
        cdef Waiting item
        if record.kind == ASK:
            replies = (self.ports.replies_for((<Lane>self.names.lanes[record.origin]).target) if record.origin
                       else self.exchange.asks)
        if record.flags & IN_BULK:
            payload = self.bulk.kept[load_le32(record.payload)]
        else:
            payload = record.payload[:record.size]
        item = waiting_of(record.kind, payload, record.flags & (GUARANTEE | NUMBERED),
                          (<Lane>self.names.lanes[record.sender]).pid() if record.sender else None,
                          record.tag, replies, self.deadlines.get(seq, 0), self.take_waiter(seq), True)
        if record.trace is not NULL:
            item.trace = record.trace[:record.trace_size]
        item.stream = self.stream
        item.sequence = seq
        return item

    cdef int settle_waiters(self) except -1:
        while self.waiters and self.waiters[0][0] <= self.window.acked:
            waiter = self.waiters.popleft()[1]
            if not waiter.done():
                waiter.set_result(None)
        return 0

    # ---- lanes that wait for their verdicts --------------------------------------------------------------------

    cpdef bint hold(self, object lane):
        """Whether messages of ``lane`` are on their way; then it is told when they have their verdicts."""
        if self.ended or not self.is_open(<Lane>lane):
            return False
        if lane not in self.rerouting:
            self.rerouting[lane] = Rerouting.__new__(Rerouting)
        return True

    cdef bint is_open(self, Lane lane) except -1:
        return self.names.is_pending(lane, self.window.acked) or lane in self.holding

    cdef int settle_lanes(self) except -1:
        """Lanes all of whose messages have their verdict find their way again; their refusals are confirmed first."""
        cdef Rerouting state
        cdef uint64_t barrier = UINT64_MAX, confirmed
        waiting = []
        settled = []
        for lane, state in self.rerouting.items():
            (waiting if self.is_open(<Lane>lane) else settled).append((lane, state))
        for _, state in waiting:
            if state.first and state.first < barrier:
                barrier = state.first
        settled = [entry for entry in settled if (<Rerouting>entry[1]).last < barrier]
        for lane, _ in settled:
            del self.rerouting[lane]
            self.names.settled(<Lane>lane)
        confirmed = self.refused_high
        for state in self.rerouting.values():
            if state.first and state.first <= confirmed:
                confirmed = state.first - 1
        if confirmed > self.confirmed:
            self.confirmed = confirmed
            self.inbound.ack_due = True
        for lane, state in settled:
            self.release(<Lane>lane, state)
        return self.signal()

    cdef int release(self, Lane lane, Rerouting state) except -1:
        room = lane.target in self.early
        self.early.discard(lane.target)
        lane.returned_all(state.first != 0 and state.verdict != DURABLE)
        if state.verdict == DURABLE and lane.way is not None and lane.inbox is None:
            lane.bind_carrier(self, lane.location, lane.expires)    # it is there: only, it wants numbers
        elif state.verdict != FULL or lane.inbox is not None:
            lane.look_again()
        elif room:
            return self.retry(lane)
        else:
            self.blocked[lane.target] = lane
            lane.refused_full = True
        return 0

    cdef int on_room(self, str id) except -1:
        cdef Lane lane = self.blocked.pop(id, None)
        if lane is not None:
            return self.retry(lane)
        if any((<Lane>other).target == id for other in self.rerouting):
            self.early.add(id)
        return 0

    cdef int retry(self, Lane lane) except -1:
        """A mailbox that was full has room again."""
        cdef Trial trial = self.trials.get(lane)
        if trial is None:
            trial = self.trials[lane] = Trial.__new__(Trial)
            trial.burst = BURST_FIRST
        else:
            trial.burst = max(BURST_LEAST, trial.burst >> 1)
            trial.calm = 0
        trial.left = trial.burst
        trial.since = self.exchange.now
        self.spent.pop(lane, None)
        if lane.inbox is not None:
            lane.look_again()
        elif lane.carrier is not None:      # the router was quicker; what it bound could not flush until now
            lane.on_room()
        elif not lane.resolving:            # else it finds another way
            lane.bind_carrier(self, lane.location, lane.expires)
        return 0

    cdef int advance_trials(self) except -1:
        """Lanes all of whose last burst was taken may send twice as much. One that uses its largest burst up again and
        again is set free late: each time that it finds the mailbox full a whole window would come back."""
        cdef Trial trial
        for lane, trial in list(self.spent.items()):
            if lane in self.rerouting or (<Lane>lane).target in self.blocked or self.is_open(<Lane>lane):
                continue
            del self.spent[lane]
            if trial.calm >= CALM:
                self.trials.pop(lane, None)
            else:
                trial.calm += trial.burst >= BURST_MOST
                trial.burst = min(2 * trial.burst, <int>BURST_MOST)
                trial.left = trial.burst
            (<Lane>lane).on_room()
        return 0

    cdef int forget_trials(self, int64_t now) except -1:
        """Lanes whose mailbox was last full a while ago are free again."""
        over = [lane for lane, trial in self.trials.items()
                if now - (<Trial>trial).since > FULL_MEMORY and lane not in self.spent]
        for lane in over:
            del self.trials[lane]
        return 0

    def retry_full(self):
        """On a new connection: a ROOM may have been lost with the old one, so try again what was refused as FULL."""
        cdef Rerouting state
        for lane in list(self.blocked.values()):
            self.on_room((<Lane>lane).target)
        for lane, state in self.rerouting.items():
            if state.verdict == FULL:
                self.early.add((<Lane>lane).target)

    # ---- while it is down --------------------------------------------------------------------------------------

    def park(self, refusal):
        """The breaker is open: ``refusal(target)`` is the error for asks and untracked messages. Asks that nobody has
        seen yet end at once. None: it is closed again."""
        fresh = self.refusal is None and refusal is not None
        self.refusal = refusal
        if fresh and self.wire is None and not self.ended:
            for transfer in self.bulk.drop_asks(self.exchange.asks):
                lane = (<Outgoing>transfer).lane
                (<Lane>lane).end((<Outgoing>transfer).item, refusal((<Lane>lane).target))
                self.post_held(<Lane>lane)
            self.void_unseen(lambda target: refusal(target), 0)

    def expire(self, int64_t now):
        """End what waits beyond its deadline. What nobody has seen is known not to be delivered; of what may have
        been seen, the waiter is told that the outcome is unknown: at once while there is no connection, and where
        there is one only if the peer has not given its verdict for a while."""
        if self.ended:
            return
        if self.deadlines:
            self.void_unseen(None, now)
            self.expire_seen(now if self.wire is None else now - VERDICT_TIME)
        if self.bulk.queue:
            self.expire_large(now)

    cdef int expire_seen(self, int64_t now) except -1:
        for seq, deadline in self.deadlines.items():
            if deadline <= now and seq <= self.window.flushed:
                waiter = self.take_waiter(seq)
                if waiter is not None and not waiter.done():
                    waiter.set_exception(self.about(seq, OutcomeUnknownError(
                        f"the deadline of a message passed and node {self.peer!r} has not answered for it: "
                        "it may or may not have been delivered", node=self.peer)))
        return 0

    cdef int expire_large(self, int64_t now) except -1:
        """Large messages that have not gone, and what is held behind them."""
        cdef Waiting item
        for lane, held in list(self.holding.items()):
            for each in [each for each in held if 0 < (<Waiting>each).deadline <= now]:
                item = <Waiting>each
                held.remove(item)
                self.bulk.bytes -= len(item.message)
                (<Lane>lane).end(item, self.ports.refusal_error(EXPIRED, (<Lane>lane).target, self.peer))
        for transfer in self.bulk.drop_late(now, self.wire is None):
            lane = (<Outgoing>transfer).lane
            (<Lane>lane).end((<Outgoing>transfer).item,
                             self.ports.refusal_error(EXPIRED, (<Lane>lane).target, self.peer))
            self.post_held(<Lane>lane)
        return 0

    def void_unseen(self, make_error, int64_t now):
        """End records that no transport ever saw: asks of this node with ``make_error``, or all whose deadline is
        over at ``now``."""
        cdef Slab slab
        cdef Py_ssize_t at, body_end, size
        cdef uint64_t seq, flushed = self.window.flushed
        cdef unsigned char *record
        cdef bint numbered
        cdef Record parts
        for item in self.window.unseen():
            slab = <Slab>item
            at = body_end = 0
            seq = 0
            while next_record(slab, &at, &body_end, &seq, &record, &size, &numbered):
                if not numbered or seq <= flushed or not get_record(record, size, &parts) or parts.target == 0:
                    continue
                if parts.flags & NUMBERED:
                    continue            # whoever numbered it keeps it, whatever becomes of this link
                target = (<Lane>self.names.lanes[parts.target]).target
                if make_error is not None:
                    if parts.kind == ASK and not parts.origin:
                        self.void(record, seq, &parts, make_error(target))
                elif parts.flags & IN_BULK and self.wire is not None:
                    continue            # its chunks are at the peer, which lets go of them with the record only
                elif 0 < <int64_t>self.deadlines.get(seq, 0) <= now and parts.kind != VOID:
                    self.void(record, seq, &parts, self.ports.refusal_error(EXPIRED, target, self.peer))

    cdef int void(self, unsigned char *record, uint64_t seq, Record *parts, object error) except -1:
        cdef Waiting item = self.waiting_from(parts, seq)
        self.note(VOIDED, 0, seq, <Lane>self.names.lanes[parts.target])
        record[4] = VOID
        record[5] &= ~<int>(IN_BULK | WITH_DEADLINE)    # its options keep their bytes; nobody reads them
        self.deadlines.pop(seq, None)
        return (<Lane>self.names.lanes[parts.target]).end(item, self.about(seq, error))

    # ---- the end ---------------------------------------------------------------------------------------------

    def end(self, reason):
        """The peer's incarnation is gone. What it may have seen is told as unknown (or goes again, where that was
        chosen); what it cannot have seen finds another way. ``reason`` is for the errors' text."""
        cdef Slab slab
        cdef Py_ssize_t at, body_end, size
        cdef uint64_t seq, acked = self.window.acked, flushed = self.window.flushed
        cdef unsigned char *record
        cdef bint numbered
        cdef Record parts
        if self.ended:
            return
        self.ended = True
        self.wire = None
        self.ports.reason = reason
        for item in self.window.rewind():
            slab = <Slab>item
            at = body_end = 0
            seq = 0
            while next_record(slab, &at, &body_end, &seq, &record, &size, &numbered):
                if numbered and seq > acked and get_record(record, size, &parts):
                    self.give_back(&parts, seq, seq <= flushed)
        for transfer in self.bulk.abandon():
            self.give_back_large(<Outgoing>transfer)
        self.exchange.asks.fail_carried(self, self.unknown)
        self.end_lanes()
        self.wake_all()

    def end_lanes(self):
        """All lanes that waited here look for another way."""
        cdef Lane lane
        rerouting, self.rerouting = self.rerouting, {}
        blocked, self.blocked = self.blocked, {}
        self.trials.clear()
        self.spent.clear()
        self.deadlines.clear()
        for key in [*rerouting, *blocked.values()]:
            lane = <Lane>key
            if lane.returned is not None:
                lane.returned_all(False)
            lane.look_again()
        if self.exchange.ways is not None:
            self.exchange.ways.on_link_ended(self)

    def unknown(self, str target):
        """The error for a message whose fate died with the peer."""
        return OutcomeUnknownError(
            f"node {self.peer!r} was lost ({self.ports.reason}) before it answered for a message to actor {target!r}: "
            "it may or may not have been handled", target, self.peer)

    cdef int give_back_large(self, Outgoing transfer) except -1:
        """A large message that had not gone wholly was never seen; what was held behind it neither."""
        if transfer.lane is None:           # an answer: whoever asked is gone
            self.exchange.answers_lost += 1
            return 0
        self.unsent(<Lane>transfer.lane, <Waiting>transfer.item)
        for item in self.holding.pop(transfer.lane, ()):
            self.unsent(<Lane>transfer.lane, <Waiting>item)
        return 0

    cdef int unsent(self, Lane lane, Waiting item) except -1:
        """A message that the peer cannot have seen finds another way."""
        if item.tag and item.origin is self.exchange.asks:
            self.exchange.asks.set_carrier(item.tag, None)
        if lane not in self.rerouting:
            self.rerouting[lane] = Rerouting.__new__(Rerouting)
        return lane.take_back(item, 0, None)

    cdef int give_back(self, Record *record, uint64_t seq, bint was_sent) except -1:
        """One record that has no verdict. Behind a refused message of its lane nothing was seen either."""
        cdef Waiting item
        cdef Lane lane
        cdef Rerouting state
        if record.target == 0:              # an answer likewise; it may have been seen
            self.exchange.answers_lost += 1
            return 0
        if record.kind == VOID:
            return 0
        lane = <Lane>self.names.lanes[record.target]
        state = self.rerouting.get(lane)
        if state is not None and 0 < state.first < seq:
            was_sent = False
        item = self.waiting_from(record, seq)
        self.note(UNKNOWN if was_sent else UNSEEN, 0, seq, lane)
        if not was_sent or item.guarantee == 1 or item.guarantee & NUMBERED:
            return self.unsent(lane, item)
        if item.kind == TELL or item.origin is not self.exchange.asks:
            return lane.end(item, self.about(seq, self.unknown(lane.target)))
        return 0                            # an ask of this node's: `end` tells all that left by this link
