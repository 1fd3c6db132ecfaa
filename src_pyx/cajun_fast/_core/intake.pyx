"""The mailbox of one actor: what a full one does, what is too late, who waits for room. See intake.pxd.

Laws: no message that was taken vanishes: it is handed out, or its asker is told, or it is a dead letter; nothing is taken
that there is no room for.
"""

from cpython.object cimport PyTypeObject, inquiry, traverseproc, visitproc
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint32_t

from cajun_fast._core.flight cimport LET_GO, message_id
from cajun_fast._core.instruments cimport Mark, mark_at
from cajun_fast._core.lane cimport Exchange
from cajun_fast._core.mailbox cimport (
    POLICY_BLOCK, POLICY_FAIL, RING_DROPPED_OLDEST, RING_FULL, ring_clear, ring_init, ring_pop, ring_push, ring_visit,
    steal,
)
from cajun_fast._core.ports cimport DROPPED, FULL, TAKEN

from cajun_fast.errors import MailboxFullError, MessageExpiredError


cdef class Dated:
    """Where an answer goes, and until when the message is good."""


cdef PyObject* borrowed_or_null(object value) noexcept:
    return NULL if value is None else <PyObject*> value


cdef object dated(Replies replies, int64_t deadline, Exchange exchange):
    """What stands in Entry.extra."""
    if deadline == 0 and exchange.mark is None:
        return replies
    cdef Dated both = Dated.__new__(Dated)
    both.replies = replies
    both.deadline = deadline
    both.mark, exchange.mark = exchange.mark, None
    return both


cdef str number_of(object extra):
    """Of a message that a link has numbered and that is measured; None for all others: numbers are not kept here."""
    cdef Mark mark = (<Dated>extra).mark if type(extra) is Dated else None
    return None if mark is None or mark.node is None else message_id(mark.node, mark.life, mark.stream, mark.sequence)


cdef object trace_of(object extra):
    """Of a message that waits."""
    cdef Mark mark = (<Dated> extra).mark if type(extra) is Dated else None
    return None if mark is None else mark.trace


cdef class Intake(Resident):
    """A mailbox with its rules."""

    def __init__(self, capacity, policy):
        ring_init(&self.ring, capacity, policy)

    def __dealloc__(self):
        ring_clear(&self.ring)

    @property
    def id(self):
        """The actor's id."""
        return self.pid.lane.target

    @property
    def mailbox_size(self):
        """Messages that wait."""
        return self.ring.count

    cdef int keep(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                  bint direct) except -1:
        cdef Entry dropped
        cdef object extra = dated(replies, deadline, self.dispatcher.exchange)
        cdef int verdict = ring_push(&self.ring, <PyObject*> message, borrowed_or_null(sender),
                                     borrowed_or_null(extra), tag, &dropped)
        if verdict == RING_FULL:
            verdict = self.refuse(message, sender, replies, tag, direct)
            if verdict == DROPPED and type(extra) is Dated:
                self.note_trace(<Dated> extra, self.mailbox_full())
            return verdict
        if verdict == RING_DROPPED_OLDEST:
            self.let_go(&dropped, "mailbox-full", self.mailbox_full())
        return TAKEN

    cdef int refuse(self, object message, object sender, Replies replies, uint64_t tag, bint direct) except -1:
        if self.ring.policy == POLICY_BLOCK:
            return FULL
        if self.ring.policy == POLICY_FAIL and not direct:
            raise self.mailbox_full()
        if tag:
            replies.fault(tag, self.mailbox_full())
        elif not direct:                    # else by the link, which knows its number
            self.dispatcher.exchange.dead_letters.record(self.id, message, "mailbox-full", sender)
        return DROPPED

    def mailbox_full(self):
        """The error for a message that found no room."""
        return MailboxFullError(
            f"the mailbox of actor {self.id!r} is full at {self.ring.capacity} messages: send slower, use policy block "
            "with await pid.send(…), or raise mailbox_capacity", self.id,
        )

    cdef int let_go(self, Entry* entry, str reason, object error) except -1:
        """End a message that will not be handled; releases the entry."""
        message = steal(entry.message)
        sender = steal(entry.sender) if entry.sender != NULL else None
        extra = steal(entry.extra) if entry.extra != NULL else None
        if type(extra) is Dated:
            self.note_dropped(<Dated> extra)
        if type(extra) is Dated and (<Dated> extra).mark is not None and (<Dated> extra).mark.mail is not None:
            self.let_mail_go((<Dated> extra).mark.mail, reason)
            if reason == "stopped":         # whoever numbered it keeps it, and finds out for himself
                return 0
        if type(extra) is Dated:
            self.note_trace(<Dated> extra, error)
        if entry.tag:
            (<Replies> (<Dated> extra).replies if type(extra) is Dated else <Replies> extra).fault(entry.tag, error)
        else:
            self.dispatcher.exchange.dead_letters.record(self.id, message, reason, sender, number_of(extra))
        return 0

    cdef int note_dropped(self, Dated dated) except -1:
        cdef Exchange exchange = self.dispatcher.exchange
        cdef Mark mark = dated.mark
        if mark is None or mark.node is None:
            return 0
        return exchange.losses.note(
            LET_GO, 0, mark.node, mark.stream, mark.sequence, self.pid.lane.target, exchange.now)

    cdef int note_trace(self, Dated dated, object error) except -1:
        """A traced message has ended in this mailbox."""
        cdef Exchange exchange = self.dispatcher.exchange
        if dated.mark is not None and dated.mark.trace is not None and exchange.tracer is not None:
            (<object> exchange.tracer).lost(dated.mark.trace, self.pid.lane.target, error)
        return 0

    cdef int let_mail_go(self, object mail, str reason) except -1:
        """A message of a durable actor will not be handled."""
        return 0

    cpdef call_when_room(self, object listener):
        """``listener.on_room()`` is called, once, when the mailbox has drained to half or the actor stops."""
        if self.room_waiters is None:
            self.room_waiters = []
        self.room_waiters.append(listener)

    cpdef bint has_room(self):
        """Whether one more message would be taken."""
        return self.ring.count < self.ring.capacity or self.ring.policy != POLICY_BLOCK

    cdef int announce_room(self) except -1:
        waiters, self.room_waiters = self.room_waiters, None
        for waiter in waiters:
            waiter.on_room()
        return 0

    cdef bint take(self, Context context) except -1:
        """The oldest message that is still good, into ``context``; False when none waits."""
        cdef Entry entry
        while ring_pop(&self.ring, &entry):
            if entry.extra == NULL:
                context.replies = None
                context.deadline = 0
            elif not self.take_extra(context, &entry):
                continue
            context.message = steal(entry.message)
            context.sender = steal(entry.sender) if entry.sender != NULL else None
            context.tag = entry.tag
            if self.room_waiters is not None and self.ring.count <= self.ring.capacity >> 1:
                self.announce_room()
            return True
        return False

    cdef bint take_extra(self, Context context, Entry* entry) except -1:
        if type(<object> entry.extra) is not Dated:
            context.replies = <Replies> steal(entry.extra)
            context.deadline = 0
            return True
        cdef Dated both = <Dated> <object> entry.extra
        if both.deadline and <int64_t> self.dispatcher.clock() >= both.deadline:
            self.let_go(entry, "expired", MessageExpiredError(
                f"the message's deadline passed while it waited in the mailbox of actor {self.id!r}", self.id))
            return False
        context.replies = both.replies
        context.deadline = both.deadline
        context.mark = both.mark
        Py_DECREF(both)                 # the entry's own reference
        return True

    def position(self, str node, uint64_t tag):
        """Where the ask ``tag`` of that node waits, 1 for the next one to be handled; 0: nowhere."""
        cdef uint32_t i
        cdef Entry* entry
        for i in range(self.ring.count):
            entry = &self.ring.entries[(self.ring.head + i) % self.ring.allocated]
            if entry.tag == tag and entry.extra != NULL:
                extra = <object> entry.extra
                if ((<Dated> extra).replies if type(extra) is Dated else <Replies> extra).node == node:
                    return i + 1
        return 0

    def drain(self):
        """Take all that waits out of the mailbox: a list of (message, sender, replies, tag, deadline), in order."""
        cdef Context context = Context.__new__(Context)
        taken = []
        while self.take(context):
            taken.append((context.message, context.sender, context.replies, context.tag, context.deadline))
        return taken

    def waiting(self):
        """What waits, in order, as ``drain`` gives it, and the trace of each or None; it stays where it is."""
        cdef Entry* entry
        cdef uint32_t offset, index
        found = []
        for offset in range(self.ring.count):
            index = self.ring.head + offset
            entry = &self.ring.entries[index if index < self.ring.allocated else index - self.ring.allocated]
            extra = <object> entry.extra if entry.extra != NULL else None
            found.append((
                <object> entry.message, <object> entry.sender if entry.sender != NULL else None,
                (<Dated> extra).replies if type(extra) is Dated else extra, entry.tag,
                (<Dated> extra).deadline if type(extra) is Dated else 0, trace_of(extra)))
        return found

    def refill(self, entries):
        """Put messages that waited elsewhere into this mailbox, as ``waiting`` gave them; they were taken once, so there
        is room for all of them."""
        cdef Entry dropped
        cdef Py_ssize_t needed = self.ring.count + len(entries)
        if needed > <Py_ssize_t> self.ring.capacity:
            self.ring.capacity = <uint32_t> needed
        for message, sender, replies, tag, deadline, trace in entries:
            if trace is not None:
                self.dispatcher.exchange.mark = mark_at(<int64_t> self.dispatcher.clock())
                self.dispatcher.exchange.mark.trace = trace
            extra = dated(replies, deadline, self.dispatcher.exchange)
            ring_push(&self.ring, <PyObject*> message, borrowed_or_null(sender), borrowed_or_null(extra), tag, &dropped)

    def empty(self):
        """Let go of all that waits without a word: it waits elsewhere now."""
        ring_clear(&self.ring)

    cdef int end_all(self, str reason, object error) except -1:
        """End all that waits."""
        cdef Entry entry
        while ring_pop(&self.ring, &entry):
            self.let_go(&entry, reason, error)
        return 0


# ---- Garbage collection: the ring is shown to the collector beside what Cython's own slots show ------------------------

cdef PyTypeObject* intake_type = <PyTypeObject*> Intake
cdef traverseproc traverse_fields = intake_type.tp_traverse
cdef inquiry clear_fields = intake_type.tp_clear


cdef int intake_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef int stop = ring_visit(&(<Intake> self).ring, visit, arg)
    return stop if stop else traverse_fields(self, visit, arg)


cdef int intake_clear(object self) noexcept:
    ring_clear(&(<Intake> self).ring)
    return clear_fields(self)


intake_type.tp_traverse = <traverseproc> intake_traverse
intake_type.tp_clear = <inquiry> intake_clear
