"""How durable actors are told. The picture and the laws are in durable.pxd."""

from collections import deque
from itertools import islice

from cajun_fast._core.frame cimport NUMBERED
from cajun_fast._core.mail cimport VOID_MAIL, Mail, mail_header, number_in
from cajun_fast._core.outbound cimport Outbound
from cajun_fast._core.ports cimport ASK, DROPPED, FULL, GONE, MOVING, TAKEN, TELL

from cajun_fast.errors import CajunError, MessageExpiredError, MessageTooLargeError, OutcomeUnknownError

cdef enum:
    KEPT_MOST = 4096            # messages of one stream that wait for their commit; then the lane waits for room
    BYTES_MOST = 8 << 20

cdef double LOOK_AGAIN = 0.02   # seconds until an inbox of this node that takes nothing is tried again
cdef int LONGEST_PATIENCE = 30


cdef class Entry:
    """A message that is not committed yet."""


cdef class Stream:
    """Messages to one actor under one name, in order."""

    def __repr__(self):
        return f"<Stream {self.name!r} to {self.way.lane.target!r}, {len(self.entries)} kept>"

    def __len__(self):
        return len(self.entries)

    cdef uint64_t low(self):
        return (<Entry>self.entries[0]).number if self.entries else self.next_number

    cdef int rewind(self) except -1:
        """Another way: all goes again, and what has gone is doubtful."""
        cdef Entry entry
        for each in self.entries:
            entry = <Entry>each
            if entry.number > self.sent:
                break
            entry.doubtful = True
        self.sent = self.low() - 1
        return 0


cdef Stream new_stream(Way way, str name, object outbox):
    cdef Stream stream = Stream.__new__(Stream)
    stream.way = way
    stream.name = name
    stream.outbox = outbox
    stream.entries = deque()
    stream.next_number = 1
    way.streams[name] = stream
    return stream


cdef class Way(Carrier):
    """All that this node has for one durable actor."""

    def __init__(self, Ways ways, Lane lane):
        self.ways = ways
        self.lane = lane
        self.peer = ""
        self.streams = {}
        self.own = new_stream(self, ways.new_name(), None)

    def __repr__(self):
        where = "here" if self.inbox is not None else "by link" if self.carrier is not None else "not known"
        return f"<Way to {self.lane.target!r} {where}, {self.kept} kept>"

    @property
    def kept(self):
        """Messages that are not committed yet."""
        return sum(len((<Stream>stream).entries) for stream in self.streams.values())

    # ---- Messages in -------------------------------------------------------------------------------------------------

    cdef int post(self, object lane, int kind, int guarantee, object message, object sender, uint64_t tag,
                  Replies origin, int64_t deadline, object waiter, bint encoded) except -1:
        cdef Stream own = self.own
        cdef Entry entry
        if self.inbox is None and self.carrier is None:
            return GONE
        if len(own.entries) >= KEPT_MOST or own.bytes >= BYTES_MOST:
            return FULL
        if self.carrier is not None:
            refusal = (<Outbound>self.carrier).refusal
            if refusal is not None and (kind == ASK or guarantee == 0):
                raise refusal(self.lane.target)
            if not encoded:
                message = self.lane.exchange.encode(message)
                encoded = True
            if len(<bytes>message) > (<Outbound>self.carrier).max_message:
                raise MessageTooLargeError(len(<bytes>message), (<Outbound>self.carrier).max_message, self.lane.target)
        entry = Entry.__new__(Entry)
        entry.number = own.next_number
        entry.kind = kind
        entry.guarantee = guarantee
        entry.message = message
        entry.encoded = encoded
        entry.size = len(<bytes>message) if encoded else 0
        entry.sender = sender
        entry.tag = tag
        entry.origin = origin
        entry.deadline = deadline
        entry.waiter = waiter
        entry.trace, self.lane.exchange.trace = self.lane.exchange.trace, None
        return self.keep(own, entry)

    cdef int keep(self, Stream stream, Entry entry) except -1:
        stream.next_number = entry.number + 1
        stream.entries.append(entry)
        stream.bytes += entry.size
        self.ways.active[self.lane.target] = self
        if stream.sent + 1 == entry.number and not self.pushing and (
                stream.before is None or not stream.before.entries):
            if self.inbox is not None or self.carrier is not None:
                if self.hand_over(stream, entry) == TAKEN:
                    stream.sent = entry.number
        else:
            self.push(stream)
        return TAKEN

    def put(self, str name, uint64_t number, int guarantee, bytes message, trace, outbox):
        """A message of an outbox: already numbered and committed by its sender."""
        cdef Stream stream = self.streams.get(name)
        cdef Entry entry
        if stream is None:
            before = list(self.streams.values())
            stream = new_stream(self, name, outbox)
            stream.next_number = number
            stream.sent = number - 1
            base = name.rpartition("#")[0]
            for other in before:
                if (<Stream>other).name.rpartition("#")[0] == base:
                    stream.before = <Stream>other
        entry = Entry.__new__(Entry)
        entry.number = number
        entry.kind = TELL
        entry.guarantee = guarantee
        entry.message = message
        entry.encoded = True
        entry.size = len(message)
        entry.trace = trace
        entry.sender = self.lane.exchange.pid(outbox.id)
        self.keep(stream, entry)
        if self.inbox is None and self.carrier is None:
            self.lane.find_again()

    def drop_outbox(self, outbox):
        """Its actor is somebody else's now, who has its outbox too."""
        for name, stream in list(self.streams.items()):
            if (<Stream>stream).outbox is outbox:
                del self.streams[name]
        self.settle()

    # ---- Messages out ------------------------------------------------------------------------------------------------

    cdef int push(self, Stream stream) except -1:
        """Hand over what has not gone on this way, as far as there is room."""
        cdef Entry entry
        if self.pushing or (stream.before is not None and stream.before.entries):
            return 0
        self.pushing = True
        try:
            while stream.entries and stream.sent + 1 < stream.next_number:
                if self.inbox is None and self.carrier is None:
                    break
                skip = stream.sent + 1 - stream.low()
                for each in list(islice(stream.entries, skip, skip + 256)):
                    entry = <Entry>each
                    if entry.number != stream.sent + 1:
                        break
                    if self.hand_over(stream, entry) != TAKEN:
                        return 0
                    stream.sent = entry.number
        finally:
            self.pushing = False
        return 0

    cdef int push_all(self) except -1:
        for stream in list(self.streams.values()):
            self.push(<Stream>stream)
        return 0

    cdef int hand_over(self, Stream stream, Entry entry) except -1:
        cdef int64_t left = 0
        cdef int verdict
        cdef bytes payload
        if entry.deadline and not entry.void:
            left = (entry.deadline - <int64_t>self.lane.exchange.clock()) // 1_000_000 + 1
            if left <= 0:
                self.end(entry, MessageExpiredError(
                    f"the deadline of a message to durable actor {self.lane.target!r} passed on the way",
                    self.lane.target))
        if self.inbox is not None:
            return self.hand_local(stream, entry)
        if not entry.void and not entry.encoded:
            try:
                entry.message = self.lane.exchange.encode(entry.message)
                entry.encoded = True
            except CajunError as error:
                self.end(entry, error)
        payload = mail_header(stream.name, self.ways.exchange.node_id, entry.number, stream.low(),
                              VOID_MAIL if entry.void else 0, left)
        if not entry.void:
            payload += <bytes>entry.message
        self.lane.exchange.trace = entry.trace
        verdict = self.carrier.post(
            self.lane, TELL if entry.void else entry.kind, entry.guarantee | NUMBERED, payload,
            entry.sender, 0 if entry.void else entry.tag, None if entry.void else entry.origin, 0, None, True)
        self.lane.exchange.trace = None
        if verdict == FULL:
            self.carrier.call_when_room(self)
        elif verdict != TAKEN:
            self.lost()
        return verdict

    cdef int hand_local(self, Stream stream, Entry entry) except -1:
        cdef Mail mail = Mail.__new__(Mail)
        cdef int verdict
        mail.stream = stream.name
        mail.node = self.ways.exchange.node_id
        mail.number = entry.number
        mail.low = stream.low()
        mail.void = entry.void
        if not entry.void:
            try:
                mail.message = self.lane.exchange.decode(entry.message) if entry.encoded else entry.message
            except CajunError as error:
                self.end(entry, error)
                mail.void = True
            mail.sender = entry.sender
            mail.replies = entry.origin if entry.tag else None
            mail.tag = entry.tag
            mail.deadline = entry.deadline
            mail.trace = entry.trace
        verdict = self.inbox.deliver_numbered(mail)
        if verdict == DROPPED:
            return TAKEN
        if verdict == FULL:
            self.inbox.call_when_room(self)
        elif verdict == MOVING:
            self.look_again()
        elif verdict != TAKEN:
            self.lost()
        return verdict

    cdef int lost(self) except -1:
        """There is nobody at the end of this way any more."""
        self.inbox = None
        self.carrier = None
        self.lane.find_again()
        return 0

    cdef int look_again(self) except -1:
        if self.timer is None:
            self.timer = self.lane.exchange.loop.call_later(LOOK_AGAIN, self.on_time)
        return 0

    def on_time(self):
        """The inbox took nothing a moment ago."""
        self.timer = None
        self.push_all()

    def on_room(self):
        """There is room again where there was none."""
        self.push_all()

    # ---- The way changes ---------------------------------------------------------------------------------------------

    def bind(self, Carrier carrier):
        """The actor lives at the other end of ``carrier``."""
        self.inbox = None
        self.carrier = carrier
        if carrier is not self.last:
            self.last = carrier
            for stream in self.streams.values():
                (<Stream>stream).rewind()
        self.push_all()

    def bind_local(self, Inbox inbox):
        """The actor lives here."""
        self.carrier = self.last = None
        self.inbox = inbox
        for stream in self.streams.values():
            (<Stream>stream).rewind()
        self.push_all()

    def on_closed(self, bint doubt=False):
        """The actor of this node is gone from it. ``doubt``: whether what it had was handled is not known."""
        if self.inbox is not None:
            self.inbox = None
            if self.takes_all:
                self.lane.carrier = None
            for stream in self.streams.values():        # what was not committed has no effect
                if doubt:
                    (<Stream>stream).rewind()
                else:
                    (<Stream>stream).sent = (<Stream>stream).low() - 1
            if self.kept:
                self.lane.find_again()

    def on_refused(self, bytes payload):
        """The far node refused a message, and with it all that was sent behind it."""
        cdef uint64_t number = number_in(payload)
        cdef Stream stream = self.streams.get(stream_in(payload))
        self.carrier = None
        if stream is not None and 0 < number <= stream.sent:
            stream.sent = max(number, stream.low()) - 1

    def on_final(self, bytes payload, error):
        """A message can never be taken: its number goes on without it."""
        cdef Stream stream = self.streams.get(stream_in(payload))
        cdef uint64_t number = number_in(payload)
        cdef Entry entry
        if stream is None:
            return
        for each in stream.entries:
            entry = <Entry>each
            if entry.number == number:
                self.end(entry, error)
                if number <= stream.sent:
                    stream.sent = max(number, stream.low()) - 1
                    self.ways.exchange.loop.call_soon(self.on_room)
                return

    def fail(self, error):
        """There is no way. What this node itself has sent ends; an outbox keeps what it has."""
        entries, self.own.entries = self.own.entries, deque()
        self.own.bytes = 0
        for each in entries:
            if (<Entry>each).doubtful or (<Entry>each).number <= self.own.sent:
                self.end(<Entry>each, OutcomeUnknownError(
                    f"the owner of durable actor {self.lane.target!r} was lost, and none was found that could say "
                    f"whether a message to it was handled: {error}", self.lane.target))
            else:
                self.end(<Entry>each, error)
        self.own.sent = self.own.next_number - 1
        self.inbox = self.carrier = None
        self.settle()

    cdef int end(self, Entry entry, object error) except -1:
        """Tell its sender; its number stays, and means nothing from now on."""
        told = False
        if entry.void:
            return 0
        entry.void = True
        if entry.waiter is not None:
            if not entry.waiter.done():
                entry.waiter.set_exception(error)
            told = True
        if entry.tag and entry.origin is not None:
            entry.origin.fault(entry.tag, error)
            told = True
        if not told:
            self.lane.exchange.dead_letters.record(self.lane.target, entry.message, type(error).__name__, entry.sender)
            if entry.trace is not None and self.lane.exchange.tracer is not None:
                (<object>self.lane.exchange.tracer).lost(entry.trace, self.lane.target, error)
        entry.message = entry.origin = entry.waiter = None
        return 0

    # ---- Commits -----------------------------------------------------------------------------------------------------

    def on_note(self, str name, uint64_t committed, uint64_t again):
        """The owner has committed up to a number; ``again``: it misses what was sent from there on."""
        cdef Stream stream = self.streams.get(name)
        if stream is None:
            return
        self.release(stream, committed)
        if again and again <= stream.sent:
            stream.sent = max(again, stream.low()) - 1
            self.push(stream)
        self.settle()

    cdef int release(self, Stream stream, uint64_t number) except -1:
        cdef Entry entry
        while stream.entries:
            entry = <Entry>stream.entries[0]
            if entry.number > number:
                break
            stream.entries.popleft()
            stream.bytes -= entry.size
            self.progress += 1
            if entry.waiter is not None and not entry.waiter.done():
                entry.waiter.set_result(None)
            if stream.outbox is not None:
                stream.outbox.released(self.lane.target, stream.name, entry.number)
        if stream.sent + 1 < stream.low():
            stream.sent = stream.low() - 1
        return 0

    cdef int settle(self) except -1:
        """Something was released: who waits for room or for an earlier stream goes on."""
        cdef Stream stream
        if self.room_listeners is not None and 2 * len(self.own.entries) <= KEPT_MOST and (
                2 * self.own.bytes <= BYTES_MOST):
            listeners, self.room_listeners = self.room_listeners, None
            for listener in listeners:
                listener.on_room()
        if len(self.streams) > 1:
            for name, each in list(self.streams.items()):
                stream = <Stream>each
                if stream.before is not None and not stream.before.entries:
                    stream.before = None
                    self.push(stream)
                if stream is not self.own and not stream.entries:     # its outbox numbers what comes next
                    del self.streams[name]
        if not self.kept:
            self.ways.active.pop(self.lane.target, None)
        return 0

    # ---- For the lane ------------------------------------------------------------------------------------------------

    cpdef call_when_room(self, object listener):
        """Call ``listener.on_room()`` once half of what is kept is committed."""
        if self.room_listeners is None:
            self.room_listeners = []
        if listener not in self.room_listeners:
            self.room_listeners.append(listener)

    cpdef bint has_room(self):
        """Whether a tell would be taken now."""
        return len(self.own.entries) < KEPT_MOST and self.own.bytes < BYTES_MOST

    cpdef bint hold(self, object lane):
        """Never: what goes again by another way is known by its number."""
        return False

    # ---- The watchdog ------------------------------------------------------------------------------------------------

    def look_after(self):
        """Called about once a second while something is kept: without progress, ask where the actor stands, or find
        the way anew."""
        cdef bytes probe
        if self.progress != self.looked:
            self.looked = self.progress
            self.patience = 0
            return
        self.patience += 1
        if self.patience & (self.patience - 1):         # after 1, 2, 4, 8 … looks
            return
        if self.inbox is None and self.carrier is None:
            if not self.lane.resolving:
                self.lane.find_again()
        elif self.carrier is not None:
            for stream in list(self.streams.values()):
                if self.carrier is not None and (<Stream>stream).entries:
                    probe = mail_header((<Stream>stream).name, self.ways.exchange.node_id, 0, (<Stream>stream).low(), 0, 0)
                    verdict = self.carrier.post(self.lane, TELL, 2 | NUMBERED, probe, None, 0, None, 0, None, True)
                    if verdict != TAKEN and verdict != FULL:
                        self.lost()
        else:
            self.push_all()


cdef str stream_in(bytes payload):
    cdef int length = payload[2] | payload[3] << 8
    return payload[32:32 + length].decode()


cdef class Ways:
    """The ways of one node, and the notes that go to others. ``life`` is another text in each life of the node."""

    def __init__(self, Exchange exchange, str life, send=None):
        self.exchange = exchange
        self.life = life
        self.made = 0
        self.active = {}
        self.notes = {}
        self.send = send

    cdef str new_name(self):
        """Of a stream of this node. Lanes that nobody uses any more are forgotten, and their numbers with them: the next
        lane to the same actor begins with 1 again, and must not be taken for the one before."""
        self.made += 1
        return f"{self.life}.{self.made}"

    def way(self, Lane lane):
        """The way of a lane whose actor has shown to be durable: from now on all goes this way."""
        if lane.way is None:
            lane.way = Way(self, lane)
        (<Way>lane.way).takes_all = True
        return lane.way

    def way_to(self, str target):
        """The way to an actor that an outbox has something for, durable or not."""
        cdef Lane lane = self.exchange.lane(target)
        if lane.way is None:
            lane.way = Way(self, lane)
            (<Way>lane.way).inbox = lane.inbox
            if lane.inbox is None:
                (<Way>lane.way).carrier = (<Way>lane.way).last = lane.carrier
        return lane.way

    def note(self, str node, str target, str stream, uint64_t committed, uint64_t again):
        """Have ``node`` know how far the actor of this node has come with a stream."""
        if node == self.exchange.node_id:
            self.exchange.loop.call_soon(self.on_note, target, stream, committed, again)
            return
        notes = self.notes.setdefault(node, {})
        notes[target, stream] = (committed, again or notes.get((target, stream), (0, 0))[1])
        if not self.scheduled:
            self.scheduled = True
            self.exchange.loop.call_soon(self.send_notes)

    def send_notes(self):
        """What has gathered leaves, a message a node."""
        self.scheduled = False
        notes, self.notes = self.notes, {}
        if self.send is not None:
            for node, items in notes.items():
                self.send(node, [[*key, *value] for key, value in items.items()])

    def on_note(self, str target, str stream, uint64_t committed, uint64_t again):
        """An owner tells how far it has come."""
        way = self.active.get(target)
        if way is not None:
            way.on_note(stream, committed, again)

    def on_link_ended(self, carrier):
        """What was taken at its other end and not committed goes to the actor's next owner."""
        for way in list(self.active.values()):
            if (<Way>way).carrier is carrier:
                (<Way>way).lost()

    def look_after(self):
        """About once a second."""
        for way in list(self.active.values()):
            (<Way>way).look_after()

    def close(self):
        """The node stops."""
        self.active.clear()
        self.send = None
