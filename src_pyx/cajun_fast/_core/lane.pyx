"""Exchange, Lane and Pid: the one way through for a message. The picture is in lane.pxd.

Owns the order of messages to one actor id; knows neither sockets nor the store: it asks the router port for the way,
and hands messages to an Inbox or a Carrier.
"""

import contextvars
import weakref
from collections import deque

from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident

from cajun_fast._core.flight cimport ENDED, Flight, message_id
from cajun_fast._core.frame cimport NUMBERED
from cajun_fast._core.instruments cimport Mark, Sampler, mark_at
from cajun_fast._core.locations cimport Location
from cajun_fast._core.mailbox cimport steal
from cajun_fast._core.outbuf cimport Pieces
from cajun_fast._core.ports cimport (
    ASK, DROPPED, DURABLE, EXPIRED, FULL, GONE, MOVING, NOT_HERE, TAKEN, TELL, Carrier, Gate, Inbox, Replies, Tracer,
)

from cajun_fast.errors import (
    ActorNotFoundError, BackpressureError, CajunError, DeliveryError, MailboxFullError, MessageExpiredError, NotRunningError,
    WrongThreadError,
)

cdef extern from "Python.h":
    int PyContextVar_Get(object variable, PyObject *default, PyObject **value) except -1

RUNNING = contextvars.ContextVar("cajun_fast_running_actor", default=None)
cdef Pid _running = None


cdef Pid running_actor(Exchange exchange):
    if _running is not None:
        return _running
    return in_context() if exchange.async_actors else None


cdef Pid in_context():
    """The actor whose coroutine runs. RUNNING.get() does the same and costs a tell a tenth."""
    cdef PyObject *value = NULL
    PyContextVar_Get(RUNNING, NULL, &value)
    return <Pid>steal(value)


cdef Pid swap_running(Pid pid):
    global _running
    before = _running
    _running = pid
    return before


cdef class Exchange:
    """The switchboard of one actor system, bound to the thread and loop it was made in."""

    def __init__(self, str node_id, *, loop, clock, router, dead_letters, encode, decode, first_tag=1,
                 int guarantee=2, Py_ssize_t waiting_limit=10_000, bint raise_when_full=True,
                 Py_ssize_t max_asks=65_536, Sampler sampler=None, Py_ssize_t notes=4096,
                 Py_ssize_t waiting_bytes_limit=8 << 20,
                 Py_ssize_t waiting_bytes_total=64 << 20):
        self.node_id = node_id
        self.loop = loop
        self.clock = clock
        self.router = router
        self.dead_letters = dead_letters
        self.encode = encode
        self.decode = decode
        self.guarantee = guarantee
        self.waiting_limit = waiting_limit
        self.waiting_bytes_limit = waiting_bytes_limit
        self.waiting_bytes_total = waiting_bytes_total
        self.raise_when_full = raise_when_full
        self.asks = Asks(node_id, loop, clock, first_tag, max_asks)
        self.inboxes = {}
        self._lanes = weakref.WeakValueDictionary()
        self._timers = set()
        self.dated = set()
        self.waiting_lanes = set()
        self.thread = PyThread_get_thread_ident()
        self.now = clock()
        self.sampler = Sampler() if sampler is None else sampler
        self.flight = Flight(notes)
        self.losses = Flight(notes)
        self.is_open = True

    cdef int check(self) except -1:
        if PyThread_get_thread_ident() != self.thread:
            raise WrongThreadError(
                f"node {self.node_id!r} runs in another thread: use pid.tell_threadsafe(message) here"
            )
        if not self.is_open:
            raise NotRunningError(f"node {self.node_id!r} is stopped: nothing can be sent from it any more")
        return 0

    cdef int deliver_marked(self, Mark mark, Inbox inbox, object message, object sender, Replies replies, uint64_t tag,
                            int64_t deadline, bint direct) except -1:
        """``inbox.deliver`` of a message that is measured."""
        self.mark = mark
        try:
            return inbox.deliver(message, sender, replies, tag, deadline, direct)
        finally:
            self.mark = None                # where it was not taken in

    cpdef Lane lane(self, str actor_id):
        """The lane to ``actor_id``: the same object as long as somebody holds it."""
        cdef Lane lane = self._lanes.get(actor_id)
        if lane is None:
            if not actor_id:
                raise ValueError("an actor id must not be empty")
            lane = Lane.__new__(Lane)
            lane.exchange = self
            lane.target = actor_id
            inbox = self.inboxes.get(actor_id)
            if inbox is None or not (<Inbox>inbox).is_durable():    # to a durable one the router leads
                lane.inbox = inbox
            self._lanes[actor_id] = lane
        return lane

    cpdef Pid pid(self, str actor_id):
        """A handle on the actor of that id, wherever it lives; that it exists is not checked."""
        cdef Pid pid = Pid.__new__(Pid)
        pid.lane = self.lane(actor_id)
        return pid

    def open_inbox(self, str actor_id, Inbox inbox):
        """An actor of this node: from now on its lane ends here. ValueError if the id is taken on this node."""
        if actor_id in self.inboxes:
            raise ValueError(f"actor id {actor_id!r} has an inbox on node {self.node_id!r} already")
        self.inboxes[actor_id] = inbox
        lane = self._lanes.get(actor_id)
        if lane is not None:
            (<Lane>lane).bind_inbox(inbox)

    def close_inbox(self, str actor_id):
        """The actor is gone from this node; its lane must be found anew. An unknown id is no error."""
        self.inboxes.pop(actor_id, None)
        lane = self._lanes.get(actor_id)
        if lane is not None:
            (<Lane>lane).inbox = None
            if (<Lane>lane).way is not None and not (<Lane>lane).way.takes_all:     # else its gate does so, in time
                (<Lane>lane).way.on_closed()

    cpdef Inbox find_inbox(self, str actor_id):
        """The inbox of an actor of this node; one that begins with its first message is started. Else None."""
        inbox = self.inboxes.get(actor_id)
        if inbox is None and self.activator is not None:
            inbox = self.activator(actor_id)
        return inbox

    def parked(self):
        """Pairs of ids, sender and target, for all that waits here on its way out with a sender."""
        cdef Lane lane
        pairs = set()
        for lane in self._lanes.values():
            for item in (lane.returned or []) + list(lane.waiting or ()):
                if (<Waiting>item).sender is not None:
                    pairs.add(((<Waiting>item).sender.lane.target, lane.target))
        return pairs

    def lanes(self):
        """All lanes in use, for inspection."""
        return list(self._lanes.values())

    def expire(self, int64_t now):
        """End messages that wait in lanes beyond their deadline; called at each heartbeat."""
        for lane in list(self.dated):
            (<Lane>lane).expire(now)

    def close(self):
        """Stop: asks end, what waits in lanes becomes dead letters, delayed tells too."""
        self.is_open = False
        error = NotRunningError(f"node {self.node_id!r} stopped before the message could go")
        for lane in self.lanes():
            (<Lane>lane).fail(error)
        for item in list(self._timers):
            (<Delayed>item).cancel()
            self.dead_letters.record((<Delayed>item).pid.id, (<Delayed>item).message, "stopped", None)
        self.asks.close()

    def parked_from(self, Pid sender not None):
        """How many messages of ``sender`` wait in lanes of this node: they were accepted by nobody yet."""
        cdef Py_ssize_t count = 0
        for lane in self.waiting_lanes:
            for item in (<Lane>lane).waiting or ():
                count += (<Waiting>item).sender is not None and (<Waiting>item).sender.lane is sender.lane
            for item in (<Lane>lane).returned or ():
                count += (<Waiting>item).sender is not None and (<Waiting>item).sender.lane is sender.lane
        return count

    def take_delayed(self, Pid sender not None):
        """Take the delayed tells of ``sender`` out: a list of (target, message, guarantee, loop time at which it goes,
        trace or None)."""
        mine = [item for item in self._timers
                if (<Delayed>item).sender is not None and (<Delayed>item).sender.lane is sender.lane]
        for item in mine:
            (<Delayed>item).cancel()
        return [((<Delayed>item).pid.id, (<Delayed>item).message, (<Delayed>item).guarantee,
                 (<Delayed>item).timer.when(), (<Delayed>item).trace) for item in mine]

    def tell_now(self, Pid pid, message, int guarantee, Pid sender=None, trace=None):
        """Tell from the loop what another thread handed over, or what has waited for its time; nobody is there to raise
        for."""
        try:
            if trace is not None:
                self.pass_on(pid, message, guarantee, sender, None, trace)
            elif self.tracer is not None and self.tracer.sampled():
                traced(pid, "tell", message, guarantee, sender, 0, None, 0, None)
            else:
                pid.lane.submit(TELL, message, guarantee, sender, 0, None, 0, None, False)
        except CajunError as error:
            self.dead_letters.record(pid.id, message, type(error).__name__, sender)

    def pass_on(self, Pid pid, message, int guarantee, Pid sender=None, waiter=None, trace=None):
        """Tell for somebody else: ``sender`` is who sent it, ``waiter`` a future that is done as with ``send``, ``trace``
        what its span said.

        Raises what ``Pid.tell`` raises."""
        self.check()
        before, self.trace = self.trace, trace
        try:
            pid.lane.submit(TELL, message, guarantee, sender, 0, None, 0, waiter, False)
        finally:
            self.trace = before

    def ask_on(self, Pid pid, message, double timeout, trace):
        """``pid.ask`` of an actor of this package, for a message whose span said ``trace``; None: it is not traced."""
        before, self.trace = self.trace, trace
        try:
            return pid.ask(message, timeout=timeout)
        finally:
            self.trace = before

    def span(self, str what, str target, Pid sender=None):
        """The span of something that is sent now by other ways than a Pid's, with `context` and `end(error)`; None where
        it is not traced."""
        if self.tracer is None or not self.tracer.sampled():
            return None
        return (<object>self.tracer).send(what, target, None if sender is None else sender.lane.target)

    def begin_trace(self, str what, str target, Pid sender=None):
        """What travels with a message that is sent now and goes later: the span of sending it is over. Or None."""
        span = self.span(what, target, sender)
        if span is None:
            return None
        span.end(None)
        return span.context

    def current_trace(self):
        """What travels with a message that belongs to the current span and has none of its own, or None."""
        if self.tracer is None or not self.tracer.sampled():
            return None
        return (<object>self.tracer).current()

    def tell_later(self, Pid pid, message, double delay, int guarantee, Pid sender, trace=None):
        """Tell after ``delay`` seconds; the returned handle has ``cancel()``."""
        cdef Delayed delayed = Delayed.__new__(Delayed)
        delayed.pid = pid
        delayed.message = message
        delayed.guarantee = guarantee
        delayed.sender = sender
        delayed.trace = trace
        delayed.timer = self.loop.call_later(delay, delayed.fire)
        self._timers.add(delayed)
        return delayed


cdef class Delayed:
    """A tell that waits for its time."""
    cdef Pid pid
    cdef object message
    cdef int guarantee
    cdef Pid sender
    cdef object timer
    cdef object trace

    def cancel(self):
        """Let it be: it will not be sent. After its time this does nothing."""
        self.timer.cancel()
        self.pid.lane.exchange._timers.discard(self)

    def fire(self):
        """Its time has come."""
        cdef Exchange exchange = self.pid.lane.exchange
        exchange._timers.discard(self)
        exchange.tell_now(self.pid, self.message, self.guarantee, self.sender, self.trace)


cdef class Waiting:
    """A message on its way that stands in its lane."""

    cdef int leave_link(self) except -1:
        """A large message comes back from a link: in one piece."""
        if isinstance(self.message, Pieces):
            self.message = (<Pieces>self.message).whole()
        return 0


cdef Waiting waiting_of(int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                        int64_t deadline, object waiter, bint encoded):
    cdef Waiting item = Waiting.__new__(Waiting)
    item.kind = kind
    item.message = message
    item.guarantee = guarantee
    item.sender = sender
    item.tag = tag
    item.origin = origin
    item.deadline = deadline
    item.waiter = waiter
    item.encoded = encoded
    return item


cdef class Lane:
    """The way to one actor id."""

    def __repr__(self):
        where = "here" if self.inbox is not None else (
            f"on {self.carrier.peer}" if self.carrier is not None else "not known")
        return f"<Lane {self.target!r} {where}, {self.waiting_count} waiting>"

    cdef Pid pid(self):
        cdef Pid pid = Pid.__new__(Pid)
        pid.lane = self
        return pid

    @property
    def waiting_count(self):
        """Messages that stand here."""
        return (0 if self.waiting is None else len(self.waiting)) + (
            0 if self.returned is None else len(self.returned))

    cdef int submit(self, int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                    int64_t deadline, object waiter, bint encoded) except -1:
        """Send, or wait. Raises BackpressureError for a tell without a waiter when there is no room."""
        cdef int verdict
        cdef Waiting item
        trace = self.exchange.trace
        if self.waiting is None:
            verdict = self.attempt(kind, message, guarantee, sender, tag, origin, deadline, waiter, encoded)
            if verdict == TAKEN or verdict == DROPPED:
                return 0
            self.exchange.trace = None
            if verdict == FULL and kind == TELL and waiter is None:
                return self.no_room(message, sender, trace)
            if verdict == EXPIRED:
                item = waiting_of(kind, message, guarantee, sender, tag, origin, deadline, waiter, encoded)
                item.trace = trace
                return self.end(item, self.too_late())
            self.wait(kind, message, guarantee, sender, tag, origin, deadline, waiter, encoded, trace, verdict)
            if verdict == FULL:
                self.await_room()
            else:
                self.find()
            return 0
        self.exchange.trace = None
        return self.wait(kind, message, guarantee, sender, tag, origin, deadline, waiter, encoded, trace, TAKEN)

    cdef int attempt(self, int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                     int64_t deadline, object waiter, bint encoded) except -1:
        cdef int verdict
        if self.inbox is not None:
            if encoded:
                message = self.exchange.decode(message)
            if self.exchange.trace is not None:
                verdict = self.deliver_traced(message, sender, origin if tag else None, tag, deadline)
            elif self.exchange.sampler.due():
                verdict = self.exchange.deliver_marked(
                    self.exchange.sampler.take(<int64_t>self.exchange.clock()), self.inbox, message, sender,
                    origin if tag else None, tag, deadline, False)
            else:
                verdict = self.inbox.deliver(message, sender, origin if tag else None, tag, deadline, False)
            if waiter is not None and (verdict == TAKEN or verdict == DROPPED) and not waiter.done():
                if verdict == TAKEN:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(MailboxFullError(
                        f"the mailbox of actor {self.target!r} let the message go by its policy", self.target))
            return verdict
        if self.carrier is not None:
            if self.location is not None and not self.location.live:
                self.leave()
                return GONE
            if self.exchange.now >= self.expires:
                self.exchange.router.refresh(self)
                if self.carrier is None:
                    return GONE
            return self.carrier.post(self, kind, guarantee, message, sender, tag, origin, deadline, waiter, encoded)
        return GONE

    cdef int deliver_traced(self, object message, object sender, Replies replies, uint64_t tag,
                            int64_t deadline) except -1:
        cdef Mark mark = mark_at(<int64_t>self.exchange.clock())
        mark.trace, self.exchange.trace = self.exchange.trace, None
        return self.exchange.deliver_marked(mark, self.inbox, message, sender, replies, tag, deadline, False)

    cdef int wait(self, int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                  int64_t deadline, object waiter, bint encoded, object trace, int why) except -1:
        if not encoded and self.inbox is None:
            message = self.exchange.encode(message)
            encoded = True
        if self.waiting is None:
            self.begin_wait()
        elif kind == TELL and waiter is None and self.is_full():
            return self.no_room(message, sender, trace)
        if deadline:
            self.exchange.dated.add(self)
        item = waiting_of(kind, message, guarantee, sender, tag, origin, deadline, waiter, encoded)
        self.count_bytes(item, 1)
        self.waiting.append(item)
        if trace is not None:
            item.trace = trace
            self.begin_route(item, why)
        return 0

    cdef int begin_route(self, Waiting item, int why) except -1:
        """A traced message waits here. ``why``: the verdict that it came with; TAKEN: others wait before it."""
        if self.exchange.tracer is not None and item.route is None:
            item.route = (<object>self.exchange.tracer).route(item.trace, self.target, why)
        return 0

    cdef int end_route(self, Waiting item, object error, bint told) except -1:
        """It goes on, or it has ended with ``error``, and ``told``: its sender knows."""
        if item.route is not None:
            item.route.end(error)
            item.route = None
        elif error is not None and not told and self.exchange.tracer is not None:
            (<object>self.exchange.tracer).lost(item.trace, self.target, error)
        return 0

    cdef uint64_t last_number(self) except? 0:
        """Of the last message that went out over a link; 0: none."""
        return 0 if self.carrier is None else (<object>self.carrier).last_of(self)

    cdef int tell_number(self, object span, uint64_t before) except -1:
        """Say which number a traced message has got: whoever has looked ``before`` it went sees another one now."""
        cdef uint64_t number = self.last_number()
        if number != before and number:
            span.numbered((<object>self.carrier).stream, number)
        return 0

    cdef bint is_full(self) noexcept:
        cdef Exchange exchange = self.exchange
        return (len(self.waiting) >= exchange.waiting_limit or self.waiting_bytes >= exchange.waiting_bytes_limit
                or exchange.waiting_bytes >= exchange.waiting_bytes_total)

    cdef void count_bytes(self, Waiting item, int sign) noexcept:
        if item.encoded:
            self.waiting_bytes += sign * len(<bytes>item.message)
            self.exchange.waiting_bytes += sign * len(<bytes>item.message)

    cdef int no_room(self, object message, Pid sender, object trace) except -1:
        if self.exchange.raise_when_full:
            raise BackpressureError(
                f"no room on the way to actor {self.target!r}: nothing was sent; "
                "await pid.ready() before the next tell, or use await pid.send(…)"
            )
        self.exchange.dead_letters.record(self.target, message, "no-room", sender)
        if trace is not None and self.exchange.tracer is not None:
            (<object>self.exchange.tracer).lost(trace, self.target, "no-room")
        return 0

    # ---- finding the way -------------------------------------------------------------------------------------

    cdef int find(self) except -1:
        if not self.resolving and self.returned is None:
            self.resolving = True
            self.carrier = None
            self.exchange.router.resolve(self)
        return 0

    cdef int leave(self) except -1:
        """The way is not the right one any more. What is on it must have its verdict before anything goes another
        way, or it might be overtaken."""
        if self.carrier is not None and self.carrier.hold(self):
            self.returned = []
            self.begin_wait()
        self.carrier = None
        self.location = None
        return 0

    cdef int begin_wait(self) except -1:
        """From now on what is sent waits here."""
        if self.waiting is None:
            self.waiting = deque()
            self.exchange.waiting_lanes.add(self)
        return 0

    cdef int end_wait(self) except -1:
        self.waiting = None
        self.exchange.waiting_lanes.discard(self)
        return 0

    cdef int await_room(self) except -1:
        target = self.inbox if self.inbox is not None else self.carrier
        if target is None:
            return self.find()
        target.call_when_room(self)
        return 0

    def bind_inbox(self, Inbox inbox):
        """The actor lives here: what waits goes in, in order."""
        if inbox.is_durable() and self.exchange.ways is not None:
            self.way = self.exchange.ways.way(self)
            self.leave()
            self.inbox = None
            self.carrier = self.way
            self.resolving = False
            self.refusals = 0
            self.way.bind_local(inbox)
            self.flush()
            return
        self.leave()
        self.inbox = inbox
        self.resolving = self.refused_full = False
        self.refusals = 0
        if self.way is not None:
            self.way.bind_local(inbox)
        self.flush()

    def bind_carrier(self, Carrier carrier, Location location=None, int64_t expires=0x7FFFFFFFFFFFFFFF,
                     bint durable=False):
        """The actor lives at the other end of ``carrier``; what waits goes out, in order. What is on its way by
        another carrier has its verdict first. ``durable``: it is known to be, so all for it is numbered, the first
        message too; else its first refusal tells."""
        if self.way is None or not self.way.takes_all:
            durable = durable and self.exchange.ways is not None
            if self.carrier is not None and (self.carrier is not carrier or durable):
                self.leave()
            if durable:
                self.way = self.exchange.ways.way(self)
        self.carrier = carrier
        self.location = location
        self.expires = expires
        self.resolving = self.refused_full = False
        if self.way is not None:
            if self.way.takes_all:
                self.carrier = self.way
            self.way.bind(carrier)
        self.flush()

    def unbind(self):
        """What was known of the way is no longer true; the next message asks the router."""
        self.leave()

    def fail(self, error):
        """There is no way: everything that waits ends with ``error``."""
        self.resolving = self.refused_full = False
        self.refusals = 0
        items = (self.returned or []) + list(self.waiting or ())
        self.returned = None
        self.end_wait()
        for item in items:
            self.count_bytes(<Waiting>item, -1)
            self.end(<Waiting>item, error)
        if self.way is not None:
            self.way.fail(error)
        self.wake_listeners()

    cdef int end(self, Waiting item, object error) except -1:
        told = False
        item.leave_link()
        if item.guarantee & NUMBERED:
            self.way.on_final(item.message, error)
            return 0
        if item.sequence:
            self.exchange.losses.note(ENDED, 0, None, item.stream, item.sequence, self.target, self.exchange.now)
        if item.waiter is not None:
            if not item.waiter.done():
                item.waiter.set_exception(error)
            told = True
        if item.tag and item.origin is not None:
            item.origin.fault(item.tag, error)
            told = True
        if item.trace is not None:
            self.end_route(item, error, told)
        if told:
            self.exchange.ended_told += 1
        else:
            self.exchange.dead_letters.record(
                self.target, item.message, getattr(error, "reason", type(error).__name__), item.sender,
                message_id(self.exchange.node_id, self.exchange.life, item.stream, item.sequence))
        return 0

    cdef int take_back(self, Waiting item, int verdict, object hint) except -1:
        """A far node refused this message: it was never seen by an actor. Until all that was in flight has its
        verdict, nothing more goes out."""
        self.carrier = None
        item.leave_link()
        if self.returned is None:
            self.returned = []
        self.begin_wait()
        if verdict == DURABLE:
            if self.exchange.ways is None:
                return self.end(item, DeliveryError(
                    f"actor {self.target!r} is durable, and this system cannot number messages for it", self.target))
            self.way = self.exchange.ways.way(self)
        if item.guarantee & NUMBERED:
            self.way.on_refused(item.message)
        else:
            self.count_bytes(item, 1)
            self.returned.append(item)
            if item.trace is not None:
                self.begin_route(item, verdict)
        self.moving = verdict == MOVING
        if hint is not None:
            self.hint = hint
        return 0

    cdef int returned_all(self, bint refused) except -1:
        """All verdicts are in: the refused go first, then what came meanwhile."""
        if self.returned is None:           # the system stopped meanwhile
            return 0
        self.begin_wait()
        self.waiting.extendleft(reversed(self.returned))
        self.returned = None
        self.refusals = self.refusals + 1 if refused else 0     # else those of long ago would count as a row
        self.resolving = False
        return 0

    def look_again(self):
        """After ``returned_all``: ask the router."""
        self.refused_full = False
        if self.waiting is None:
            return
        if self.inbox is not None:
            self.flush()
        else:
            self.find()

    cdef int find_again(self) except -1:
        """The way to a durable actor is lost, or it was never found: ask the router, whether or not anything waits."""
        self.begin_wait()
        return self.find()

    cdef int flush(self) except -1:
        """What waits goes, in order, as far as there is room. Called from within itself, by who was asked for the way and
        answered at once, it goes on in the next turn of the loop."""
        if self.returned is not None:
            return 0
        if self.flushing:
            self.flush_again = True
            return 0
        self.flushing = True
        try:
            self.flush_waiting()
        finally:
            self.flushing = False
            if self.flush_again:
                self.flush_again = False
                if self.waiting is not None and not self.resolving:
                    self.exchange.loop.call_soon(self.on_room)
        return 0

    cdef int flush_waiting(self) except -1:
        cdef Waiting item
        cdef int verdict
        cdef uint64_t last = 0
        while self.waiting:
            item = self.waiting[0]
            if item.route is not None:
                last = self.last_number()
            verdict = self.flush_one(item)
            if self.waiting is None:        # emptied underneath, by a stop
                return 0
            if verdict == FULL:
                return self.await_room()
            if verdict == GONE or verdict == NOT_HERE or verdict == MOVING or verdict == DURABLE:
                return self.find()
            self.waiting.popleft()
            self.count_bytes(item, -1)
            if item.route is not None:
                self.tell_number(item.route, last)
                self.end_route(item, None, True)
        self.end_wait()
        self.wake_listeners()
        return 0

    cdef int flush_one(self, Waiting item) except -1:
        """Try one that waits; what cannot go at all is ended here, and counts as taken."""
        if item.tag and item.origin is self.exchange.asks and not self.exchange.asks.waits(item.tag):
            return TAKEN                    # its asker has been told: it timed out or gave up
        before = self.exchange.trace
        try:
            if item.deadline and <int64_t>self.exchange.clock() >= item.deadline:
                raise self.too_late()
            self.exchange.trace = item.trace
            verdict = self.attempt(item.kind, item.message, item.guarantee, item.sender, item.tag, item.origin,
                                   item.deadline, item.waiter, item.encoded)
            if verdict == EXPIRED:
                raise self.too_late()
            return verdict
        except CajunError as error:
            self.end(item, error)
            return TAKEN
        finally:
            self.exchange.trace = before

    def on_room(self):
        """There is room again where there was none. One that waits for the ROOM of a mailbox is not meant: to look for a
        way then would send all of it there and back."""
        if not self.refused_full:
            if self.way is not None:
                self.way.on_room()
            self.flush()

    cdef int expire(self, int64_t now) except -1:
        """End what waits here beyond its deadline."""
        cdef Waiting item
        late = [item for item in self.waiting or () if 0 < (<Waiting>item).deadline <= now]
        for item in late:
            self.waiting.remove(item)
            self.count_bytes(<Waiting>item, -1)
            self.end(item, self.too_late())
        if not any((<Waiting>item).deadline for item in self.waiting or ()):
            self.exchange.dated.discard(self)
        return 0

    def too_late(self):
        """The error for a message whose deadline passed on this side."""
        return MessageExpiredError(f"the deadline of a message to actor {self.target!r} passed on the way", self.target)

    # ---- waiting for room ------------------------------------------------------------------------------------

    def listen(self):
        """A future that is done when nothing waits here any more."""
        future = self.exchange.loop.create_future()
        if self.listeners is None:
            self.listeners = []
        self.listeners.append(future)
        return future

    cdef int wake_listeners(self) except -1:
        listeners, self.listeners = self.listeners, None
        if listeners is not None:
            for future in listeners:
                if not future.done():
                    future.set_result(None)
        return 0

    def position(self, uint64_t tag):
        """Where this node's ask ``tag`` waits here, 1 for the first; 0: nowhere."""
        items = (self.returned or []) + list(self.waiting or ())
        for place, item in enumerate(items, 1):
            if (<Waiting>item).tag == tag and (<Waiting>item).origin is self.exchange.asks:
                return place
        return 0

    def has_room(self):
        """Whether a tell would go now."""
        if self.waiting is not None:
            return False
        if self.inbox is not None:
            return self.inbox.has_room()
        return self.carrier is None or self.carrier.has_room_for(self)


cdef inline int guarantee_of(Exchange exchange, object guarantee) except -1:
    cdef int number
    if guarantee is None:
        return exchange.guarantee
    number = guarantee
    if not 0 <= number <= 2:
        raise ValueError(f"no such delivery guarantee: {guarantee!r}; use a member of DeliveryGuarantee")
    return number


cdef int64_t deadline_of(Exchange exchange, object seconds) except -1:
    if seconds is None:
        return 0
    if not seconds > 0:
        raise ValueError(f"a deadline lies in the future, in seconds from now: got {seconds!r}")
    return <int64_t>exchange.clock() + <int64_t>(seconds * 1e9)


cdef bint held(Exchange exchange, Pid sender, Lane lane, object message, int guarantee) except -1:
    """Whether the message waits for the commit of the durable actor whose handler tells it."""
    cdef Gate gate = <Gate>exchange.gates.get(sender.lane.target)
    return gate is not None and gate.hold(lane, message, guarantee)


cdef object traced(Pid pid, str what, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                   int64_t deadline, object waiter):
    """``submit`` of a message that is traced: within a span of its own, which ends here or with the waiter."""
    cdef Lane lane = pid.lane
    cdef Exchange exchange = lane.exchange
    cdef uint64_t last = 0
    before = exchange.trace
    span = (<object>exchange.tracer).send(what, lane.target, None if sender is None else sender.lane.target)
    if span is not None:        # else what stands there is of whoever passes a message on
        exchange.trace = span.context
        last = lane.last_number()
    try:
        if (exchange.gates is not None and sender is not None and tag == 0 and what != "forward"
                and held(exchange, sender, lane, message, guarantee)):
            if waiter is not None:
                waiter.set_result(None)
        elif tag or waiter is None:
            lane.submit(ASK if tag else TELL, message, guarantee, sender, tag, origin, deadline, None, False)
        else:
            lane.submit(TELL, message, guarantee, sender, 0, None, deadline, waiter, False)
    except BaseException as error:
        if span is not None:
            span.end(error)
        raise
    finally:
        exchange.trace = before
    if span is None:
        return None
    lane.tell_number(span, last)
    if waiter is None:
        span.end(None)
    else:
        waiter.add_done_callback(span.end_with)
    return None


cdef class Pid:
    """A handle on an actor: its id, wherever it lives. Equal and hashed by id; may be sent inside messages."""

    @property
    def id(self):
        """The actor's id."""
        return self.lane.target

    def __repr__(self):
        return f"Pid({self.lane.target!r})"

    def __eq__(self, other):
        return isinstance(other, Pid) and (<Pid>other).lane.target == self.lane.target

    def __hash__(self):
        return hash(self.lane.target)

    def __reduce__(self):
        raise TypeError(f"{self!r} belongs to a running system: send it inside a message, or keep its id")

    def tell(self, message, *, delay=None, guarantee=None, deadline=None):
        """Send and go on. ``delay`` in seconds before it is sent; ``deadline`` in seconds within which it must be
        delivered or be dropped as a dead letter.

        Raises BackpressureError when there is no room on the way (nothing was sent), SerializationError,
        MessageTooLargeError, WrongThreadError, NotRunningError. Whatever fails later is a dead letter.
        """
        cdef Lane lane = self.lane
        cdef Exchange exchange = lane.exchange
        exchange.check()
        cdef int number = guarantee_of(exchange, guarantee)
        if delay is not None:
            if not delay >= 0:
                raise ValueError(f"a delay is a number of seconds, 0 or more: got {delay!r}")
            later = running_actor(exchange)
            return exchange.tell_later(self, message, delay, number, later,
                                       exchange.begin_trace("tell", lane.target, later))
        cdef Pid sender = running_actor(exchange)
        if exchange.tracer is not None and exchange.tracer.sampled():
            return traced(self, "tell", message, number, sender, 0, None, deadline_of(exchange, deadline), None)
        if exchange.gates is not None and sender is not None and held(exchange, sender, lane, message, number):
            return
        lane.submit(TELL, message, number, sender, 0, None,
                    0 if deadline is None else deadline_of(exchange, deadline), None, False)

    def tell_threadsafe(self, message, *, guarantee=None):
        """As ``tell``, from any thread; errors become dead letters."""
        exchange = self.lane.exchange
        number = guarantee_of(exchange, guarantee)
        if not exchange.is_open:
            raise NotRunningError(f"node {exchange.node_id!r} is stopped: nothing can be sent from it any more")
        exchange.loop.call_soon_threadsafe(exchange.tell_now, self, message, number)

    def send(self, message, *, guarantee=None, deadline=None):
        """Awaitable: waits for room, and is done when the message stands in the mailbox on the owner's node.

        Raises what ``tell`` raises except BackpressureError; awaiting raises ActorNotFoundError, MailboxFullError,
        NodeUnavailableError (not delivered) or OutcomeUnknownError (the node was lost; it may have been delivered).
        """
        cdef Exchange exchange = self.lane.exchange
        exchange.check()
        future = exchange.loop.create_future()
        cdef Pid sender = running_actor(exchange)
        cdef int number = guarantee_of(exchange, guarantee)
        if exchange.tracer is not None and exchange.tracer.sampled():
            traced(self, "send", message, number, sender, 0, None, deadline_of(exchange, deadline), future)
            return future
        if exchange.gates is not None and sender is not None and held(exchange, sender, self.lane, message, number):
            future.set_result(None)
            return future
        self.lane.submit(TELL, message, number, sender, 0, None, deadline_of(exchange, deadline), future, False)
        return future

    def ask(self, message, *, timeout=5.0, guarantee=None):
        """Awaitable answer: what the actor's handler returned or replied. ``timeout`` in seconds.

        Awaiting raises AskTimeoutError, ActorNotFoundError, RemoteActorError (the handler raised),
        NodeUnavailableError, CircuitBreakerOpenError, OutcomeUnknownError.
        """
        cdef Lane lane = self.lane
        cdef Exchange exchange = lane.exchange
        exchange.check()
        if not timeout > 0:
            raise ValueError(f"a timeout is a number of seconds above 0: got {timeout!r}")
        if not exchange.loop.is_running():      # in this thread, so it is the running one; asyncio's own answer is a system call
            raise WrongThreadError("an ask needs the running event loop of its system: call it from a coroutine")
        cdef int number = guarantee_of(exchange, guarantee)
        future = exchange.loop.create_future()
        cdef uint64_t tag = exchange.asks.open(future, lane.target, timeout)
        try:
            if exchange.tracer is not None and exchange.tracer.sampled():
                traced(self, "ask", message, number, running_actor(exchange), tag, exchange.asks, 0, future)
            else:
                lane.submit(ASK, message, number, running_actor(exchange), tag, exchange.asks, 0, None, False)
        except BaseException:
            exchange.asks.forget(tag)
            raise
        return future

    def ready(self):
        """Awaitable: done when a tell to this actor has room; at once where it has."""
        cdef Exchange exchange = self.lane.exchange
        exchange.check()
        future = exchange.loop.create_future()
        self._ready(future)
        return future

    def _ready(self, future):
        cdef Lane lane = self.lane
        if lane.has_room():
            if not future.done():
                future.set_result(None)
            return
        if lane.waiting is not None:
            lane.listen().add_done_callback(lambda _: self._ready(future))
        else:
            target = lane.inbox if lane.inbox is not None else lane.carrier
            target.call_when_room(_Ready(self, future))


cdef class _Ready:
    cdef Pid pid
    cdef object future

    def __init__(self, pid, future):
        self.pid = pid
        self.future = future

    def on_room(self):
        if not self.future.done():
            self.pid._ready(self.future)


def running():
    """The Pid of the actor that runs right now, or None."""
    return _running if _running is not None else RUNNING.get()
