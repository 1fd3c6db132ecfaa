"""The incoming half of a link. See inbound.pxd."""

from cpython.bytearray cimport PyByteArray_AS_STRING

from cajun_fast._core.bulk cimport Incoming
from cajun_fast._core.codec cimport Codec
from cajun_fast._core.frame cimport (
    IN_BULK, NUMBERED, WITH_DEADLINE, WITH_ORIGIN, WITH_SENDER, Record, get_record,
)
from cajun_fast._core.flight cimport ARRIVED, LET_GO, TURNED_AWAY, message_id
from cajun_fast._core.instruments cimport Mark, mark_at
from cajun_fast._core.ports cimport (
    ASK, DROPPED, DURABLE, FAULT, FORBIDDEN, FULL, MOVING, NAME, NOT_HERE, REPLY, TAKEN, TELL, TOO_LARGE, UNREADABLE, VOID, Inbox, Replies,
)
from cajun_fast._core.mail cimport Mail, parse_mail
from cajun_fast._core.names cimport ID_MOST, NAMES_MOST, NAMES_SIZE
from cajun_fast._core.wire cimport load_le32

from cajun_fast.errors import MessageTooLargeError, ProtocolError, SerializationError


cdef enum:
    LATE_MOST = 64              # answers whose acknowledgement may wait for company


cdef class InName:
    """An actor or node that the peer calls by a number."""


cdef class Inbound:
    """Takes records in, hands messages to inboxes, keeps the verdicts."""

    def __init__(self, exchange, serializer, replies, link, ports, *, Py_ssize_t max_message, Py_ssize_t max_bulk):
        self.exchange = exchange
        self.serializer = serializer
        self.replies = replies
        self.link = link
        self.ports = ports
        self.restricted = ports.restricted
        self.seen = ReceiveWindow()
        self.transfers = BulkIn(serializer, max_message, max_bulk)
        self.plain = Codec()
        self.names = []
        self.refusing = {}

    @property
    def watermark(self):
        """Every number up to it has its verdict."""
        return self.seen.watermark

    cdef int restart(self) except -1:
        """A new connection: numbers mean nothing yet, unfinished transfers begin anew."""
        self.names = []
        self.names_size = 0
        self.transfers.restart()
        self.seen.restart()
        self.ack_due = True
        return 0

    cdef int on_record(self, const unsigned char *at, Py_ssize_t size) except -1:
        cdef Record record
        cdef uint64_t seq
        if not get_record(at, size, &record):
            raise ProtocolError(f"a record of {size} bytes whose options do not fit")
        if record.kind == NAME:
            return self.on_name(&record)
        seq = self.frame_seq + 1
        self.frame_seq = seq
        if seq <= self.seen.watermark:
            self.duplicates += 1
            if record.flags & IN_BULK:
                self.transfers.forget(transfer_of(&record))
            self.ack_due = True
            return 0
        if record.kind == TELL or record.kind == ASK:
            self.ack_due = True
            self.on_message(&record)
        elif record.kind == REPLY or record.kind == FAULT:
            self.on_answer(&record)
            self.on_late_news(record.flags & IN_BULK != 0)
        elif record.kind == VOID:
            self.ack_due = True
        else:
            raise ProtocolError(f"record kind {record.kind} is not known")
        self.seen.watermark = seq
        self.messages += 1
        return 0

    cdef int on_late_news(self, bint large) except -1:
        """Nobody waits for the acknowledgement of an answer: it rides on what goes out next, or on a heartbeat. An ask
        after an ask would else cost a write and a wake-up more."""
        self.late += 1
        if large or self.late >= LATE_MOST:
            self.ack_due = True
        return 0

    cdef int on_message(self, Record *record) except -1:
        cdef InName name = self.name(record.target)
        cdef uint64_t seq = self.frame_seq
        cdef int verdict
        if name.refusing:
            return self.refuse_unread(record, name, name.refusing)
        if name.inbox is None:
            if name.right == UNASKED:       # once a name and connection
                name.right = self.ports.right_to(name.id)
            if name.right == NOTHING:
                return self.refuse_unread(record, name, FORBIDDEN)
            name.inbox = self.exchange.find_inbox(name.id)
            if name.inbox is None:
                return self.refuse_unread(record, name, NOT_HERE)
        if self.answers_full and record.kind == ASK:
            return self.refuse_unread(record, name, FULL)
        try:
            if record.flags & NUMBERED:
                message = self.open_mail(record)
            else:
                message = self.decode(self.serializer, record)
        except MessageTooLargeError:
            return self.refuse(name, seq, TOO_LARGE)
        except SerializationError as error:
            self.ports.unreadable(name.id, error)
            return self.refuse(name, seq, UNREADABLE)
        if name.right == SOME and not self.ports.may_say(name.id, said(record, message)):
            return self.refuse(name, seq, FORBIDDEN)
        verdict = self.deliver_safely(record, name, message)
        if verdict == NOT_HERE:             # stopped since; there may be a new one
            name.inbox = self.exchange.find_inbox(name.id)
            if name.inbox is not None:
                verdict = self.deliver_safely(record, name, message)
        if verdict == DROPPED:
            self.dropped(record, name, message)
        elif verdict != TAKEN:
            return self.refuse(name, seq, verdict)
        if self.exchange.weighing:
            name.inbox.weigh(record.size)
        return 0

    cdef int dropped(self, Record *record, InName name, object message) except -1:
        """The mailbox has let it go at its door. Numbered ones are for whoever numbered them, asks are answered."""
        self.exchange.losses.note(
            LET_GO, 0, self.replies.node, self.stream, self.frame_seq, name.id, self.exchange.now)
        if record.kind == TELL and not record.flags & NUMBERED:
            sender = self.name(record.sender).pid if record.flags & WITH_SENDER else None
            self.exchange.dead_letters.record(name.id, message, "mailbox-full", sender, self.number())
        return 0

    cdef str number(self):
        """Of the message that is handed over."""
        return message_id(self.replies.node, self.link.incarnation or 0, self.stream, self.frame_seq)

    cdef int deliver_safely(self, Record *record, InName name, object message) except -1:
        """`deliver`; an error out of it is a fault of this package and must not come back with each reconnect."""
        try:
            return self.deliver(record, name, message)
        except ProtocolError:
            raise
        except Exception as error:
            self.ports.broken(name.id, message, error, self.number())
            if record.kind == ASK:
                self.replies.fault(record.tag, error)
            return TAKEN

    cdef int refuse_unread(self, Record *record, InName name, int verdict) except -1:
        if record.flags & IN_BULK:
            self.transfers.forget(transfer_of(record))
        return self.refuse(name, self.frame_seq, verdict)

    cdef int deliver(self, Record *record, InName name, object message) except -1:
        cdef Pid sender = None
        cdef Replies replies = None
        cdef InName other
        cdef int64_t deadline = 0
        if record.flags & WITH_SENDER:
            other = self.name(record.sender)
            if other.pid is None:
                other.pid = self.exchange.pid(other.id)
            sender = other.pid
        if record.flags & WITH_DEADLINE:
            deadline = <int64_t>self.exchange.clock() + <int64_t>record.deadline * 1_000_000
        if record.kind == ASK:
            replies = self.replies
            if record.flags & WITH_ORIGIN:
                replies = self.ports.replies_for(self.name(record.origin).id)
        if record.flags & NUMBERED:
            return name.inbox.deliver_numbered(addressed(<Mail>message, sender, replies, record))
        if record.trace is not NULL:
            return self.exchange.deliver_marked(
                self.traced_mark(record), name.inbox, message, sender, replies, record.tag, deadline, True)
        if self.exchange.sampler.picks(self.frame_seq):
            return self.exchange.deliver_marked(
                self.mark(record), name.inbox, message, sender, replies, record.tag, deadline, True)
        return name.inbox.deliver(message, sender, replies, record.tag, deadline, True)

    cdef Mark mark(self, Record *record):
        """Of a message that is measured."""
        cdef Mark mark = self.exchange.sampler.take(<int64_t>self.exchange.clock())
        if mark is not None:
            self.note_arrival(mark, record)
        return mark

    cdef Mark traced_mark(self, Record *record):
        """Of a message that is traced, whether or not it is measured."""
        cdef int64_t now = self.exchange.clock()
        cdef Mark mark = self.exchange.sampler.take(now) if self.exchange.sampler.picks(self.frame_seq) else None
        if mark is None:
            mark = mark_at(now)
        mark.trace = record.trace[:record.trace_size]
        self.note_arrival(mark, record)
        return mark

    cdef int note_arrival(self, Mark mark, Record *record) except -1:
        mark.node = self.replies.node
        mark.life = self.link.incarnation or 0
        mark.stream = self.stream
        mark.sequence = self.frame_seq
        return self.exchange.flight.note(
            ARRIVED, 0, mark.node, mark.stream, mark.sequence, self.name(record.target).id, mark.at)

    cdef object decode(self, Serializer serializer, Record *record):
        cdef Incoming payload
        cdef bytearray whole
        if not record.flags & IN_BULK:
            return serializer.decode_from(record.payload, record.size)
        payload = self.claim(record)
        if serializer is self.serializer:
            message = payload.decode(serializer)
        else:
            whole = payload.whole()
            message = serializer.decode_from(<unsigned char *>PyByteArray_AS_STRING(whole), record.size)
        self.transfers.give_back(payload)
        return message

    cdef Incoming claim(self, Record *record):
        """The large payload that a record names."""
        cdef Incoming payload = self.transfers.claim(transfer_of(record))
        if payload is None:
            raise ProtocolError("a record names a transfer that is not finished")
        record.size = payload.total
        return payload

    cdef object open_mail(self, Record *record):
        cdef Incoming payload
        cdef bytearray whole
        cdef Mail mail
        if not record.flags & IN_BULK:
            return parse_mail(record.payload, record.size, self.serializer, self.exchange)
        payload = self.claim(record)
        whole = payload.whole()
        mail = parse_mail(<unsigned char *>PyByteArray_AS_STRING(whole), record.size, self.serializer, self.exchange)
        self.transfers.give_back(payload)
        return mail

    cdef int on_answer(self, Record *record) except -1:
        try:
            value = self.decode(self.plain if record.kind == FAULT else self.serializer, record)
            if record.kind == FAULT:
                self.exchange.asks.fault(record.tag, self.ports.decode_error(value))
            else:
                self.exchange.asks.answer(record.tag, value)
        except SerializationError as error:
            self.exchange.asks.fault(record.tag, error)
        return 0

    cdef int on_name(self, Record *record) except -1:
        cdef InName name
        cdef uint32_t number = record.target
        if number == 0 or number > NAMES_MOST:
            raise ProtocolError(f"name number {number}: 1 to {NAMES_MOST} are possible")
        if number >= <uint32_t>len(self.names):     # numbers are the sender's; a new connection starts with any
            self.names.extend([None] * (number + 1 - len(self.names)))
        if not 0 < record.size <= ID_MOST:
            raise ProtocolError(f"an actor id of {record.size} bytes: 1 to {ID_MOST} are possible")
        try:
            id = record.payload[:record.size].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"an actor id that is not utf-8: {error}") from error
        name = self.refusing.get(id)        # its refusals outlive the connection that numbered it
        if name is None:
            name = InName.__new__(InName)
            name.id = id
            name.size = record.size
            name.right = UNASKED if self.restricted else EVERYTHING
        self.names_size += record.size
        if self.names[number] is not None:
            self.names_size -= (<InName>self.names[number]).size
        if self.names_size > NAMES_SIZE:
            raise ProtocolError(f"{self.names_size} bytes of names, {NAMES_SIZE} are the most")
        self.names[number] = name
        return 0

    cdef InName name(self, uint32_t number):
        if number >= <uint32_t>len(self.names) or self.names[number] is None:
            raise ProtocolError(f"number {number} was never given a name on this connection")
        return <InName>self.names[number]

    cdef int refuse(self, InName name, uint64_t seq, int verdict) except -1:
        self.refused += 1
        self.exchange.losses.note(
            TURNED_AWAY, verdict, self.replies.node, self.stream, seq, name.id, self.exchange.now)
        hint = None
        if verdict == NOT_HERE or verdict == MOVING:
            hint = self.ports.new_home(name.id)
        if sends_back(verdict):
            if verdict == FULL and not name.refusing:
                (self.link if self.answers_full else name.inbox).call_when_room(RoomNotice(self.link, name.id))
            name.refusing = verdict
            self.refusing[name.id] = name
        return self.seen.refuse(seq, verdict, hint, name.id)

    cdef int confirm(self, uint64_t seq) except -1:
        """The peer has settled every refusal up to ``seq``: nothing that was sent behind one of them is on its way."""
        cdef InName name
        for _, verdict, _, id in self.seen.confirm(seq):
            if not sends_back(verdict):
                continue                    # a final one: a later refusal of the same actor may still stand
            name = self.refusing.pop(id, None)
            if name is not None:
                name.refusing = 0
        return 0


cdef object said(Record *record, object message):
    """What a message says, numbered or not."""
    return (<Mail>message).message if record.flags & NUMBERED else message


cdef Mail addressed(Mail mail, Pid sender, Replies replies, Record *record):
    mail.sender = sender
    mail.replies = replies
    mail.tag = record.tag if record.kind == ASK else 0
    if record.trace is not NULL:
        mail.trace = record.trace[:record.trace_size]
    return mail


cdef inline bint sends_back(int verdict) noexcept:
    """Whether the message goes another way, or again: until the peer has confirmed it, all behind it is refused too."""
    return verdict == NOT_HERE or verdict == MOVING or verdict == FULL or verdict == DURABLE


cdef inline uint32_t transfer_of(Record *record) except? 0:
    if record.size != 4:
        raise ProtocolError(f"a record that names a transfer with {record.size} bytes, 4 are due")
    return load_le32(record.payload)


cdef class RoomNotice:
    """Tells the peer that a mailbox which refused its messages has room again."""
    cdef object link
    cdef str id

    def __init__(self, link, id):
        self.link = link
        self.id = id

    def on_room(self):
        self.link.tell_room(self.id)
