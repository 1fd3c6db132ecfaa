"""What stands between a durable actor and the rest. The picture and the laws are in gate.pxd."""

from collections import OrderedDict

from cajun_fast._core.durable cimport Way
from cajun_fast._core.instruments cimport Mark, mark_at
from cajun_fast._core.lane cimport Lane
from cajun_fast._core.mail cimport MAIL_DONE
from cajun_fast._core.ports cimport DROPPED, FULL, MOVING, NOT_HERE, TAKEN

from cajun_fast.errors import NotRunningError, OutcomeUnknownError, SerializationError


cdef class Cursor:
    """Where one stream stands."""


cdef Cursor new_cursor(str stream, uint64_t committed):
    cdef Cursor cursor = Cursor.__new__(Cursor)
    cursor.stream = stream
    cursor.node = ""
    cursor.accepted = cursor.done = cursor.committed = committed
    cursor.early = set()
    cursor.waiting = {}
    cursor.replies = {}
    cursor.late = {}
    cursor.unsaved = []
    return cursor


cdef class DurableGate(Gate):
    """The gate of one durable actor. ``store`` commits; ``ways`` carries notes and the outbox."""

    def __init__(self, Cell cell, Ways ways, store, *, encode, decode, encode_error, decode_error, int snapshot_every=0):
        self.cell = cell
        self.id = cell.pid.lane.target
        self.ways = ways
        self.store = store
        self.encode = encode
        self.decode = decode
        self.encode_error = encode_error
        self.decode_error = decode_error
        self.journaled = snapshot_every > 0
        self.snapshot_every = snapshot_every
        self.streams = OrderedDict()
        self.bases = {}
        self.dropped = []
        self.done = []
        self.events = []
        self.replay = []
        self.pending = []
        self.name = ""
        self.told = {}
        self.rows = {}
        self.finished = []
        cell.gate = self
        cell.indirect = True

    def __repr__(self):
        state = "lost" if self.is_lost else "open" if self.is_open else "closed"
        return f"<DurableGate of {self.id!r}, {state}, {self.uncommitted} uncommitted>"

    # ---- Start and end -----------------------------------------------------------------------------------------------

    def load(self, dict cursors, replies, bytes state, events, bytes saved):
        """What the store has: ``cursors`` by stream, ``replies`` as (stream, number, ok, bytes), ``events`` since the
        state. A state that ``saved`` does not say is written with the next commit."""
        cdef Cursor cursor
        for stream, number in cursors.items():
            self.add_stream(new_cursor(stream, number))
        for stream, number, ok, kept in replies:
            cursor = self.streams.get(stream)
            if cursor is not None:
                cursor.replies[number] = (bool(ok), kept)
        self.checkpoint = state
        self.saved = saved
        self.snapshot = self.journaled and saved is not state
        self.replay = list(events)

    def load_outbox(self, rows):
        """What earlier lives have told and nobody has acknowledged: (row, target, stream, number, guarantee, bytes,
        trace)."""
        for row, target, stream, number, guarantee, message, trace in rows:
            self.row = max(self.row, <uint64_t>row)
            self.rows[target, stream, number] = row
            self.ways.way_to(target).put(stream, number, guarantee, message, trace, self)

    def restore(self, instance):
        """Give a fresh instance the state of the checkpoint."""
        if self.checkpoint is not None:
            instance.set_state(self.decode(self.checkpoint))
        for event in self.replay:
            instance.apply(self.decode(event))

    def open(self):
        """The actor has started: its first state is the checkpoint, if there was none, and messages are let in."""
        if self.checkpoint is None or not self.journaled:
            self.checkpoint = self.encode(self.cell.instance.get_state())
            if self.journaled:
                self.snapshot = True        # events mean nothing without the state that they begin with
        self.is_open = True
        if self.ways.exchange.gates is None:
            self.ways.exchange.gates = {}
        self.ways.exchange.gates[self.id] = self
        way = self.ways.active.get(self.id)
        if way is not None:
            way.on_time()

    def lose(self):
        """Somebody else owns the actor: nothing that was not committed counts."""
        self.is_lost = True
        self.done.clear()
        self.close()

    def close(self):
        """Nothing more is let in or held; the outbox is its next owner's. What was let in and is not committed has no
        effect: its senders hear so."""
        cdef Lane lane
        if self.is_closed:
            return
        self.is_open = False
        self.is_closed = True
        doubt = self.batch is not None and not self.is_lost
        for cursor in self.streams.values():
            if not doubt and (<Cursor>cursor).node and (<Cursor>cursor).accepted > (<Cursor>cursor).committed:
                self.ways.note((<Cursor>cursor).node, self.id, (<Cursor>cursor).stream, (<Cursor>cursor).committed,
                               (<Cursor>cursor).committed + 1)
        gates = self.ways.exchange.gates
        if gates is not None and gates.get(self.id) is self:
            del gates[self.id]
            if not gates:
                self.ways.exchange.gates = None
        for way in list(self.ways.active.values()):
            (<Way>way).drop_outbox(self)
        lane = self.cell.pid.lane
        if lane.way is not None:
            lane.way.on_closed(doubt)
        waiters, self.room_waiters = self.room_waiters, None
        for waiter in waiters or ():
            waiter.on_room()

    @property
    def is_clean(self):
        """Whether everything that was handled is committed."""
        return not self.done and self.batch is None

    @property
    def positions(self):
        """Where each stream stands: name -> (accepted, committed)."""
        return {name: ((<Cursor>each).accepted, (<Cursor>each).committed) for name, each in self.streams.items()}

    # ---- Messages in -------------------------------------------------------------------------------------------------

    cdef Cursor cursor(self, str stream):
        cdef Cursor cursor = self.streams.get(stream)
        if cursor is None:
            cursor = new_cursor(stream, 0)
            self.add_stream(cursor)
        return cursor

    cdef int add_stream(self, Cursor cursor) except -1:
        """Two lives of each sender are remembered: an earlier one can send no more."""
        cdef str base = cursor.stream.rpartition("#")[0]
        lives = self.bases.setdefault(base, [])
        lives.append(cursor.stream)
        self.streams[cursor.stream] = cursor
        if len(lives) > 2:
            name = lives.pop(0)
            if not (<Cursor>self.streams[name]).waiting:
                del self.streams[name]
                self.dropped.append(name)
        if len(self.streams) > STREAMS_MOST:
            for name, other in self.streams.items():
                if not (<Cursor>other).waiting:
                    del self.streams[name]
                    self.dropped.append(name)
                    self.bases[name.rpartition("#")[0]].remove(name)
                    break
        return 0

    cdef int admit(self, object item) except -1:
        cdef Mail mail = <Mail>item
        cdef Cursor cursor
        cdef Mark mark
        cdef int verdict = TAKEN
        if self.is_lost:
            return NOT_HERE
        if not self.is_open:            # not yet, or not any more
            return MOVING
        cursor = self.cursor(mail.stream)
        if 2 * len(self.streams) > STREAMS_MOST:
            self.streams.move_to_end(mail.stream)
        cursor.node = mail.node
        if mail.low > cursor.low:
            self.settle_below(cursor, mail.low)
        if mail.number <= cursor.accepted and mail.number:
            return self.again(cursor, mail)
        if mail.number != cursor.accepted + 1:          # a gap, or the question where this stands
            self.ways.note(mail.node, self.id, mail.stream, cursor.committed, cursor.accepted + 1)
            return TAKEN
        if self.uncommitted >= UNCOMMITTED_MOST:
            return FULL
        mail.gate = self
        cursor.waiting[mail.number] = mail              # before its handler can run
        self.uncommitted += 1
        if mail.void:
            self.finish(mail)
        else:
            mark = mark_at(<int64_t>self.ways.exchange.clock())
            mark.mail = mail
            mark.trace = mail.trace
            verdict = self.cell.admit(
                mail.message, mail.sender, mail if mail.tag else None, mail.tag, mail.deadline, mark)
            if verdict == DROPPED:
                self.finish(mail)
            elif verdict != TAKEN:
                del cursor.waiting[mail.number]
                self.uncommitted -= 1
                return verdict
        cursor.accepted = mail.number
        return TAKEN

    def settle_below(self, Cursor cursor, uint64_t low):
        """The sender keeps nothing below ``low``: it has its answers, whoever owned the actor then."""
        cursor.low = low
        for kept in (cursor.replies, cursor.late):
            for number in [number for number in kept if number < low]:
                del kept[number]
        if low - 1 > cursor.accepted:
            cursor.accepted = cursor.done = cursor.committed = low - 1
            cursor.touched = True

    cdef int again(self, Cursor cursor, Mail mail) except -1:
        """It came before: its sender has found another way, or lost the answer."""
        cdef Mail earlier = cursor.waiting.get(mail.number) or cursor.late.get(mail.number)
        if earlier is not None:
            earlier.replies = mail.replies
            earlier.node = mail.node
            if mail.number > cursor.committed:
                return TAKEN
        elif mail.tag:
            kept = cursor.replies.get(mail.number)
            if kept is None:
                mail.replies.fault(mail.tag, OutcomeUnknownError(
                    f"a message to durable actor {self.id!r} was handled once, and its answer is not kept any more",
                    self.id))
            elif kept[0]:
                mail.replies.answer(mail.tag, self.decode(kept[1]))
            else:
                mail.replies.fault(mail.tag, self.decode_error(kept[1]))
        self.ways.note(mail.node, self.id, mail.stream, cursor.committed, 0)
        return TAKEN

    # ---- Messages handled --------------------------------------------------------------------------------------------

    cdef int begin(self, object mail) except -1:
        self.current = <Mail>mail
        return 0

    cdef int handled(self, object mail, object error) except -1:
        self.current = None
        if not self.is_lost:
            self.close_message(<Mail>mail, error)
            self.finish(<Mail>mail)
        return 0

    cdef int close_message(self, Mail mail, object error) except -1:
        """Take the state of a handler that ended well; after another go back to the one before it."""
        if error is None:
            try:
                state = self.encode(self.cell.instance.get_state()) if not self.journaled else None
            except Exception as failure:
                error = SerializationError(
                    f"the state of durable actor {self.id!r} cannot be kept: {failure}; get_state must give plain data")
                error.__cause__ = failure
                mail.failure = error
                self.store.unkept(self, mail.message, error)
        if error is not None:
            mail.told = None
            self.pending = []
            return self.roll_back()
        if state is not None and state != self.checkpoint:
            self.checkpoint = state
            mail.changed = True
        if self.pending:
            self.take_events()
            mail.changed = True
        if mail.told is not None:
            mail.changed = True
        return 0

    cdef int take_events(self) except -1:
        pending, self.pending = self.pending, []
        for kept in pending:
            self.event += 1
            self.events.append((self.event, kept))
            self.replay.append(kept)
        if len(self.replay) >= self.snapshot_every:
            try:
                self.checkpoint = self.encode(self.cell.instance.get_state())
            except Exception as error:
                self.store.unkept(self, None, error)
            else:
                self.snapshot = True
                self.events = []
                self.replay = []
        return 0

    cdef int roll_back(self) except -1:
        instance = self.cell.instance
        try:
            if not self.journaled:
                try:
                    if self.encode(instance.get_state()) == self.checkpoint:
                        return 0
                except Exception:
                    pass                # it cannot even be said: then it is surely not the one before
            self.restore(instance)
        except Exception as error:
            self.lose()
            self.store.broken(self, error)
        return 0

    def persist(self, event):
        """An event of the handler that runs: applied now, kept with its commit."""
        if self.current is None:
            raise NotRunningError(f"actor {self.id!r} can persist events only while it handles a message")
        kept = self.encode(event)
        self.cell.instance.apply(self.decode(kept))
        self.pending.append(kept)

    cdef int let_go(self, object mail, str reason) except -1:
        if reason != "stopped" and not self.is_lost:
            self.finish(<Mail>mail)
        return 0

    cdef int finish(self, Mail mail) except -1:
        mail.state = MAIL_DONE
        self.done.append(mail)
        if not self.queued and self.batch is None:
            self.queued = True
            self.store.enqueue(self)
        return 0

    cdef bint hold(self, object lane, object message, int guarantee) except -1:
        if self.current is None or self.is_lost:
            return False
        payload = self.encode(message)
        if self.current.told is None:
            self.current.told = []
        trace, self.ways.exchange.trace = self.ways.exchange.trace, None
        self.current.told.append(((<Lane>lane).target, guarantee, payload, trace))
        return True

    # ---- The commit --------------------------------------------------------------------------------------------------

    def take(self):
        """What is to be committed now, as keyword arguments of a Commit; None: nothing, and what needs none is settled.
        ``settle`` must follow."""
        cdef Mail mail
        self.queued = False
        if self.batch is not None or self.is_lost:
            return None
        self.batch, self.done = self.done, []
        changed = False
        for each in self.batch:
            mail = <Mail>each
            self.advance(mail)
            changed = changed or mail.changed
        if not changed and not self.finished:
            self.settle(True)
            return None
        return self.parts()

    cdef int advance(self, Mail mail) except -1:
        cdef Cursor cursor = self.streams[mail.stream]
        cursor.early.add(mail.number)
        while cursor.done + 1 in cursor.early:
            cursor.done += 1
            cursor.early.discard(cursor.done)
        if mail.answered is not None and mail.replies is not None and len(mail.answered[1]) <= REPLY_MOST:
            cursor.replies[mail.number] = mail.answered
            cursor.unsaved.append(mail.number)
        cursor.touched = True
        return 0

    cdef dict parts(self):
        cdef Cursor cursor
        cdef dict cursors = {}, trims = {}
        cdef list replies = []
        for name, each in self.streams.items():
            cursor = <Cursor>each
            if not cursor.touched:
                continue
            cursors[name] = cursor.done
            for number in cursor.unsaved:
                if number in cursor.replies:
                    replies.append((name, number, *cursor.replies[number]))
            cursor.unsaved = []
            cursor.touched = False
            if cursor.low > cursor.trimmed:
                trims[name] = cursor.low
                cursor.trimmed = cursor.low
        state = None
        if self.snapshot or (not self.journaled and self.checkpoint != self.saved):
            state = self.saved = self.checkpoint
            self.snapshot = False
        events, self.events = self.events, []
        finished, self.finished = self.finished, []
        dropped, self.dropped = self.dropped, []
        return {"state": state, "events": events, "cursors": cursors, "replies": replies, "trims": trims,
                "dropped": dropped, "told": self.number_told(), "finished": finished}

    cdef list number_told(self):
        """The outbox rows of the batch."""
        cdef Mail mail
        rows = []
        for each in self.batch:
            mail = <Mail>each
            for index in range(len(mail.told or ())):
                target, guarantee, payload, trace = mail.told[index]
                number = self.told.get(target, 0) + 1
                self.told[target] = number
                self.row += 1
                rows.append((self.row, target, self.name, number, guarantee, payload, trace))
        return rows

    def settle(self, bint committed, told=()):
        """The batch is committed, or refused for good: then nothing of it counts."""
        batch, self.batch = self.batch, None
        if not committed:
            self.lose()
            return
        for mail in batch or ():
            self.commit_mail(<Mail>mail)
        for row, target, stream, number, guarantee, payload, trace in told:
            self.rows[target, stream, number] = row
            self.ways.way_to(target).put(stream, number, guarantee, payload, trace, self)
        self.announce()
        if self.done and not self.queued:
            self.queued = True
            self.store.enqueue(self)
        if self.room_waiters is not None and 2 * self.uncommitted <= UNCOMMITTED_MOST:
            waiters, self.room_waiters = self.room_waiters, None
            for waiter in waiters:
                waiter.on_room()

    cdef int commit_mail(self, Mail mail) except -1:
        cdef Cursor cursor = self.streams[mail.stream]
        cursor.waiting.pop(mail.number, None)
        self.uncommitted -= 1
        if mail.tag and mail.replies is not None and mail.answered is None:
            cursor.late[mail.number] = mail
        mail.reply_now()
        return 0

    cdef int announce(self) except -1:
        """Tell the senders how far their streams are committed; answers have gone before."""
        cdef Cursor cursor
        for each in self.streams.values():
            cursor = <Cursor>each
            if cursor.done > cursor.committed:
                cursor.committed = cursor.done
                if cursor.node:
                    self.ways.note(cursor.node, self.id, cursor.stream, cursor.committed, 0)
        return 0

    def released(self, str target, str stream, uint64_t number):
        """What the outbox told has arrived for good: its row goes with the next commit."""
        row = self.rows.pop((target, stream, number), None)
        if row is not None:
            self.finished.append(row)
            if len(self.finished) >= 1000 and not self.queued and self.batch is None:
                self.queued = True
                self.store.enqueue(self)

    def call_when_room(self, listener):
        """For the cell's senders: ``listener.on_room()`` once half of what is uncommitted is committed."""
        if self.room_waiters is None:
            self.room_waiters = []
        self.room_waiters.append(listener)

    @property
    def is_full(self):
        """Whether too much waits for its commit."""
        return self.uncommitted >= UNCOMMITTED_MOST
