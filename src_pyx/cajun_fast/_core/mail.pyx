"""Messages that are numbered for one actor. The layout and the picture are in mail.pxd.

Owns the header and what was answered before the commit; knows neither the store nor the way a message came.
"""

from collections import OrderedDict

from cajun_fast._core.instruments cimport Mark, mark_at
from cajun_fast._core.ports cimport DROPPED, EXPIRED, TAKEN
from cajun_fast._core.wire cimport load_le16, load_le64, store_le16, store_le64

from cajun_fast.errors import MessageExpiredError, ProtocolError

cdef enum:
    FIXED = 32                  # bytes of the header before the names
    SEEN_MOST = 100_000         # streams to volatile actors that are remembered

cdef tuple PLAIN = (int, str, bytes, bool, float, type(None))


cdef class Mail(Replies):
    """One of them."""

    def __repr__(self):
        return f"<Mail {self.number} of {self.stream!r}>"

    cdef int answer(self, uint64_t tag, object value) except -1:
        if self.failure is not None:
            return self.fault(tag, self.failure)
        if self.state == MAIL_COMMITTED:
            return self.replies.answer(self.tag, value)
        encode = (<object>self.gate).encode
        kept = encode(value)            # now: what was answered may change before the commit
        self.answered = (True, kept)
        self.value = value if type(value) in PLAIN else (<object>self.gate).decode(kept)
        return 0

    cdef int fault(self, uint64_t tag, object error) except -1:
        if self.state == MAIL_COMMITTED:
            return self.replies.fault(self.tag, error)
        self.answered = (False, (<object>self.gate).encode_error(error))
        self.value = error
        return 0

    cdef int reply_now(self) except -1:
        """Committed: what was answered goes out."""
        self.state = MAIL_COMMITTED
        if self.answered is None or self.replies is None:
            return 0
        value, self.value = self.value, None
        if self.answered[0]:
            return self.replies.answer(self.tag, value)
        return self.replies.fault(self.tag, value)


cdef Mail parse_mail(const unsigned char *data, Py_ssize_t size, Serializer serializer, Exchange exchange):
    cdef Mail mail = Mail.__new__(Mail)
    cdef Py_ssize_t stream, node
    cdef uint64_t milliseconds
    if size < FIXED:
        raise ProtocolError(f"a numbered message of {size} bytes")
    stream = load_le16(data + 2)
    node = load_le16(data + 4)
    if size < FIXED + stream + node:
        raise ProtocolError("a numbered message whose header does not fit")
    milliseconds = load_le64(data + 8)
    mail.void = load_le16(data) & VOID_MAIL
    mail.number = load_le64(data + 16)
    mail.low = load_le64(data + 24)
    try:
        mail.stream = data[FIXED:FIXED + stream].decode("utf-8")
        mail.node = data[FIXED + stream:FIXED + stream + node].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a numbered message whose names are not utf-8: {error}") from error
    if milliseconds:
        mail.deadline = <int64_t>exchange.clock() + <int64_t>min(milliseconds, <uint64_t>1 << 40) * 1_000_000
    if not mail.void and mail.number:
        mail.message = serializer.decode_from(data + FIXED + stream + node, size - FIXED - stream - node)
    return mail


cdef bytes mail_header(str stream, str node, uint64_t number, uint64_t low, int flags, int64_t milliseconds):
    cdef unsigned char fixed[FIXED]
    cdef bytes name = stream.encode()
    cdef bytes where = node.encode()
    store_le16(fixed, flags)
    store_le16(fixed + 2, len(name))
    store_le16(fixed + 4, len(where))
    store_le16(fixed + 6, 0)
    store_le64(fixed + 8, milliseconds)
    store_le64(fixed + 16, number)
    store_le64(fixed + 24, low)
    return (<bytes>fixed[:FIXED]) + name + where


cdef uint64_t number_in(bytes payload) except? 0:
    return load_le64(<const unsigned char *>payload + 16)


cdef class Volatile:
    """What volatile actors have seen of numbered messages."""

    cdef Mark mark(self, Mail mail):
        cdef Mark mark = mark_at(<int64_t>self.exchange.clock())
        mark.trace = mail.trace
        return mark

    def __init__(self, Exchange exchange):
        self.exchange = exchange
        self.seen = OrderedDict()

    cdef int take(self, Inbox inbox, Mail mail) except -1:
        cdef str target = <str>(<object>inbox).id
        cdef int verdict = TAKEN
        key = (target, mail.stream)
        if mail.number > self.seen.get(key, 0) and not mail.void:
            if mail.trace is not None:
                verdict = self.exchange.deliver_marked(
                    self.mark(mail), inbox, mail.message, mail.sender, mail.replies, mail.tag, mail.deadline, False)
            else:
                verdict = inbox.deliver(mail.message, mail.sender, mail.replies, mail.tag, mail.deadline, False)
            if verdict == EXPIRED:
                if mail.tag:
                    mail.replies.fault(mail.tag, MessageExpiredError(
                        f"the deadline of a message to actor {target!r} passed on the way", target))
            elif verdict != TAKEN and verdict != DROPPED:
                return verdict
        if mail.number:
            self.seen[key] = max(mail.number, self.seen.get(key, 0))
            self.seen.move_to_end(key)
            if len(self.seen) > SEEN_MOST:
                self.seen.popitem(last=False)
        self.exchange.ways.note(mail.node, target, mail.stream, self.seen.get(key, 0), 0)
        return TAKEN
