"""A running actor and its turns. The pictures are in cell.pxd.

Owns the order of what is handled; knows no parents' rules, no hooks and no cluster: its keeper does.
Laws: one message at a time, across awaits too; what is told from a handler is queued, never run on top of it.
"""

import asyncio
import sys

from cpython.exc cimport PyErr_Fetch, PyErr_Restore

from cajun_fast._core.flight cimport FAILED, HANDLED
from cajun_fast._core.instruments cimport Mark
from cajun_fast._core.mail cimport Mail, Volatile
from cajun_fast._core.lane cimport swap_running
from cajun_fast._core.mailbox cimport ring_init, steal
from cajun_fast._core.ports cimport DROPPED, DURABLE, EXPIRED, MOVING, NOT_HERE, TAKEN

from cajun_fast._core import lane as _lane
from cajun_fast.errors import ActorNotFoundError, CajunError

cdef extern from *:
    """
    static inline int cajun_awaitable(PyObject *value) {
        PyAsyncMethods *methods = Py_TYPE(value)->tp_as_async;
        return methods != NULL && methods->am_await != NULL;
    }
    """
    bint awaitable "cajun_awaitable"(object value)
    PyObject* PyObject_Vectorcall(PyObject* function, PyObject** args, size_t count, PyObject* names) noexcept
    Py_ssize_t Py_REFCNT(PyObject* value) noexcept
    bint PyCoro_CheckExact(object value) noexcept
    int PyIter_Send(PyObject* steps, PyObject* sent, PyObject** given) noexcept
    int PYGEN_RETURN

cdef object RUNNING_ACTOR = _lane.RUNNING
cdef object Task = asyncio.Task
cdef object CancelledError = asyncio.CancelledError
cdef object current_task = asyncio.current_task
cdef object next_turn = asyncio.sleep
cdef bint EAGER = sys.version_info >= (3, 12)   # a pump's first step needs no turn of the loop there
cdef tuple STATE_NAMES = ("starting", "running", "restarting", "frozen", "stopping", "stopped")
cdef int[6] NEXT_STATES = [
    1 << RUNNING | 1 << STOPPING,                       # from STARTING
    1 << RESTARTING | 1 << FROZEN | 1 << STOPPING,      # from RUNNING
    1 << RUNNING | 1 << STOPPING,                       # from RESTARTING
    1 << RUNNING | 1 << STOPPING,                       # from FROZEN
    1 << STOPPED,                                       # from STOPPING
    0,                                                  # from STOPPED
]


cdef inline PyObject* lend(Dispatcher dispatcher) except NULL:
    """The context for a sync handler, borrowed; a new one where a handler kept the last."""
    if dispatcher.spare is None or Py_REFCNT(<PyObject*> dispatcher.spare) > 1:
        dispatcher.spare = Context.__new__(Context)
    return <PyObject*> dispatcher.spare


cdef inline int take_back(Dispatcher dispatcher) except -1:
    """Let the lent context forget its message, unless a handler kept it."""
    if dispatcher.spare is not None and Py_REFCNT(<PyObject*> dispatcher.spare) == 1:
        (<Context> dispatcher.spare).clear()
    return 0


cdef class Cell(Intake):
    """One running actor. ``recipe`` is where its capacity, policy and handler come from; it starts in ``starting``."""

    def __init__(self, Dispatcher dispatcher not None, Pid pid not None, recipe, Cell parent=None):
        self.dispatcher = dispatcher
        self.pid = pid
        self.recipe = recipe
        self.parent = parent
        self.awake = True
        ring_init(&self.ring, recipe.mailbox_capacity, recipe.mailbox_policy)
        self.is_async = self.indirect = recipe.is_async
        dispatcher.exchange.async_actors += self.is_async
        self.tally = dispatcher.tally("cajun" if pid.lane.target.startswith("cajun:") else recipe.kind.name)
        self.tally.actors += 1

    def __repr__(self):
        return f"<Cell {self.id!r} {self.state}, {self.ring.count} waiting>"

    @property
    def state(self):
        """starting, running, suspended (in an await), restarting, frozen, stopping or stopped."""
        return "suspended" if self.phase == RUNNING and self.pumping else STATE_NAMES[<int> self.phase]

    @property
    def is_resting(self):
        """Whether nothing waits and nothing runs."""
        return not self.awake

    cdef int move(self, State phase) except -1:
        if not NEXT_STATES[<int> self.phase] >> <int> phase & 1:
            raise RuntimeError(f"actor {self.id!r} cannot go from {self.state} to {STATE_NAMES[<int> phase]}")
        self.phase = phase
        self.closed = self.is_shut or phase > RESTARTING
        return 0

    # ---- Messages in -------------------------------------------------------------------------------------------------

    cdef int deliver(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                     bint direct) except -1:
        cdef PyObject* lent
        if self.closed:
            return MOVING if self.phase <= FROZEN else NOT_HERE
        if deadline and <int64_t> self.dispatcher.clock() >= deadline:
            return EXPIRED
        if not direct or self.awake or self.indirect:
            return self.take_in(message, sender, replies, tag, deadline, direct)
        self.awake = True
        lent = lend(self.dispatcher)
        (<Context> lent).message = message
        (<Context> lent).sender = sender
        (<Context> lent).replies = replies
        (<Context> lent).tag = tag
        (<Context> lent).deadline = deadline
        if self.dispatcher.exchange.mark is not None:
            (<Context> lent).mark, self.dispatcher.exchange.mark = self.dispatcher.exchange.mark, None
        cdef Pid before = swap_running(self.pid)
        try:
            self.run(lent)
        finally:
            swap_running(before)
            self.rest()
        return TAKEN

    cdef int take_in(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                     bint direct) except -1:
        """Into the mailbox, and see to it that somebody looks there."""
        cdef int verdict
        if self.gate is not None:
            return DURABLE
        verdict = self.keep(message, sender, replies, tag, deadline, direct)
        if verdict == TAKEN and not self.awake:
            self.awake = True
            if direct:
                self.turn()
            else:
                self.dispatcher.enqueue(self)
        return verdict

    cdef int let_mail_go(self, object mail, str reason) except -1:
        return self.gate.let_go(mail, reason)

    cdef bint is_durable(self) noexcept:
        return self.gate is not None

    cdef void weigh(self, Py_ssize_t size) noexcept:
        self.bytes_in += size

    cpdef call_when_room(self, object listener):
        """``listener.on_room()`` is called, once, when there is room again: in the mailbox, or before the commit."""
        if self.gate is not None and (<object> self.gate).is_full:
            (<object> self.gate).call_when_room(listener)
        else:
            Intake.call_when_room(self, listener)

    cpdef bint has_room(self):
        """Whether one more message would be taken."""
        return Intake.has_room(self) and (self.gate is None or not (<object> self.gate).is_full)

    cdef int deliver_numbered(self, object mail) except -1:
        cdef Mail numbered = <Mail>mail
        if self.phase > RESTARTING:
            if self.phase == FROZEN or (self.phase == STOPPING and self.gate is not None):
                return MOVING           # a durable one stops with a commit: who waits for that hears of it first
            return NOT_HERE
        if self.gate is not None:
            return self.gate.admit(numbered)
        return (<Volatile>self.dispatcher.exchange.volatile).take(self, numbered)

    cdef int admit(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                   Mark mark) except -1:
        self.dispatcher.exchange.mark = mark
        cdef int verdict = self.keep(message, sender, replies, tag, deadline, True)
        self.dispatcher.exchange.mark = None
        if verdict == TAKEN and not self.awake:
            self.awake = True
            self.dispatcher.enqueue(self)
        return verdict

    # ---- Messages out ------------------------------------------------------------------------------------------------

    cdef PyObject* call(self, Context context) noexcept:
        cdef PyObject* args[3]
        args[0] = <PyObject*> self.instance
        args[1] = <PyObject*> context.message
        args[2] = <PyObject*> context
        return PyObject_Vectorcall(<PyObject*> self.receive, args + self.bare, 3 - self.bare, NULL)

    cdef int run(self, PyObject* lent) except -1:
        """Handle the message in the dispatcher's context, on this stack."""
        cdef int64_t began = self.dispatcher.begin_step() if self.dispatcher.exact else 0
        (<Context> lent).cell = self
        self.handled += 1
        self.tally.handled += 1
        if (<Context> lent).mark is not None:
            self.begin_mark(<Context> lent)
        cdef PyObject* value = self.call(<Context> lent)
        if began:
            self.count_time(began)
        else:
            self.dispatcher.ran = True
        if value == NULL:
            return self.broke(<Context> lent)
        return self.settle(lent, steal(value))

    cdef int settle(self, PyObject* lent, object value) except -1:
        if value is not None and awaitable(value):
            self.context = <Context> lent
            self.context.began = self.dispatcher.exchange.now
            self.dispatcher.spare = None
            if self.context.mark is not None and self.context.mark.span is not None:
                self.context.mark.span.leave()
            return self.start_pump(value)
        if (<Context> lent).mark is not None:
            self.end_mark(<Context> lent, None)
        if (<Context> lent).tag:
            (<Context> lent).answer(value)
        return 0

    cdef int broke(self, Context context) except -1:
        """The handler raised, and its error is set."""
        try:
            steal(NULL)
        except (KeyboardInterrupt, SystemExit) as error:
            self.failed += 1
            self.tally.failed += 1
            if context.mark is not None and context.mark.span is not None:
                context.mark.span.end(error)
            context.mark = None
            if context.tag:
                context.fault(error)
            raise
        except BaseException as error:
            self.on_error(context, error)
        return 0

    cdef int on_error(self, Context context, object error) except -1:
        cdef bint told = context.tag != 0
        self.failed += 1
        self.tally.failed += 1
        if context.mark is not None:
            self.end_mark(context, error)
        message = context.message
        if told:
            context.fault(error)
        if self.dispatcher.keeper.judge(self, error, message, told):
            self.recover_from(error, message)
        return 0

    def recover_from(self, error, message):
        """Restart after the running message, before the next one. Nothing happens unless the actor is running."""
        if self.phase != RUNNING:
            return
        self.move(RESTARTING)
        self.failure = (error, message)
        if not self.pumping:
            self.start_pump(None)

    cdef int begin_mark(self, Context context) except -1:
        context.mark.begun = <int64_t> self.dispatcher.clock()
        if context.mark.mail is not None:
            self.gate.begin(context.mark.mail)
        if context.mark.trace is not None and self.dispatcher.exchange.tracer is not None:
            context.mark.span = (<object> self.dispatcher.exchange.tracer).handle(
                context.mark, self.pid.lane.target, self.tally.type, context.tag != 0, context.sender)
        return 0

    cdef int end_mark(self, Context context, object error) except -1:
        cdef Mark mark = context.mark
        cdef int64_t now = <int64_t> self.dispatcher.clock()
        context.mark = None
        if mark.mail is not None:
            self.gate.handled(mark.mail, error)
        if mark.span is not None:
            mark.span.end(error)
            mark.span = None
        if mark.weight:
            self.tally.latency.add(now - mark.at, mark.weight)
            self.tally.handling.add(now - mark.begun, mark.weight)
        if mark.node is not None:
            self.dispatcher.exchange.flight.note(
                HANDLED if error is None else FAILED, 0, mark.node, mark.stream, mark.sequence, self.pid.lane.target,
                now)
        return 0

    cdef int turn(self) except -1:
        """Some messages from the mailbox; 1 when the slice is over. Nobody else looks after this cell meanwhile."""
        cdef PyObject* lent
        cdef int left = self.dispatcher.batch
        cdef int over = 0
        if self.is_async and self.phase == RUNNING and not self.held and self.ring.count:
            self.start_pump(None)
            return self.dispatcher.slice_over()
        cdef Pid before = swap_running(self.pid)
        try:
            while left and not over and self.phase == RUNNING and not self.pumping and not self.held:
                lent = lend(self.dispatcher)
                if not self.take(<Context> lent):
                    break
                self.run(lent)
                left -= 1
                over = self.dispatcher.slice_over()
        finally:
            swap_running(before)
            self.rest()
        return over

    cdef int rest(self) except -1:
        take_back(self.dispatcher)
        if self.phase != RUNNING or self.pumping or self.held:
            return 0                    # whoever is in charge goes on
        if self.ring.count:
            return self.dispatcher.enqueue(self)
        self.awake = False
        return 0

    # ---- The pump: all that this actor does asynchronously -----------------------------------------------------------

    cdef int start_pump(self, object first) except -1:
        self.awake = self.pumping = True
        self.dispatcher.exchange.async_actors += 1
        context = self.dispatcher.base.copy()
        pump = self._pump(first)
        if EAGER:
            task = Task(pump, loop=self.dispatcher.loop, name=self.id, context=context, eager_start=True)
        else:
            task = Task(pump, loop=self.dispatcher.loop, name=self.id, context=context)
        if self.pumping:
            self.task = task
        return 0

    async def _pump(self, first):
        RUNNING_ACTOR.set(self.pid)
        try:
            if first is not None:
                self._enter_span()
            while True:
                if self.failure is not None:
                    await self.dispatcher.keeper.recover(self, *self.failure)
                    self.failure = None
                if first is None and not self._next():
                    break
                try:
                    value, first = self._invoke() if first is None else first, None
                    if value is not None and awaitable(value):
                        if self.dispatcher.timing:
                            value = self._begin(value)
                            if type(value) is Timed:
                                value = await value
                        else:
                            value = await value
                    self._settle(value)
                except (KeyboardInterrupt, SystemExit) as error:
                    self._cut_off(error)
                    raise
                except CancelledError as error:
                    self._cut_off(error)
                    if self.phase >= STOPPING or current_task().cancelling():
                        raise
                except Exception as error:
                    self._cut_off(error)
                if self.ring.count and self.dispatcher.turn_over():
                    await next_turn(0)
                    self.dispatcher.join_turn()
        finally:
            self._pump_ended()

    cdef bint _next(self) except -1:
        if self.phase != RUNNING or self.held:
            return False
        if self.context is None or Py_REFCNT(<PyObject*> self.context) > 1:
            self.context = Context.__new__(Context)
            self.context.cell = self
        return self.take(self.context)

    cdef int _enter_span(self) except -1:
        """A handler that began on a dispatcher's stack goes on in this task."""
        if self.context.mark is not None and self.context.mark.span is not None:
            self.context.mark.span.enter()
        return 0

    cdef int count_time(self, int64_t began) except -1:
        """A handler of this cell has had the loop since then."""
        cdef PyObject *error = NULL
        cdef PyObject *value = NULL
        cdef PyObject *trace = NULL
        PyErr_Fetch(&error, &value, &trace)     # it may have raised, and the clock is not to be asked with an error set
        self.dispatcher.end_step(self, began)
        PyErr_Restore(error, value, trace)
        return 0

    cdef object _invoke(self):
        self.handled += 1
        self.tally.handled += 1
        self.context.began = self.dispatcher.exchange.now
        if self.context.mark is not None:
            self.begin_mark(self.context)
        cdef int64_t began = self.dispatcher.begin_step() if self.dispatcher.timing and not self.is_async else 0
        cdef PyObject* value = self.call(self.context)
        if began:
            self.count_time(began)
        return steal(value)

    cdef object _begin(self, object value):
        cdef Timed rest
        cdef PyObject* given = NULL
        cdef object steps = value if PyCoro_CheckExact(value) else type(value).__await__(value)
        cdef int64_t began = self.dispatcher.begin_step()
        cdef int outcome = PyIter_Send(<PyObject*> steps, <PyObject*> None, &given)
        self.count_time(began)
        if outcome == PYGEN_RETURN:
            return steal(given)
        first = steal(given)            # raises what the step has raised
        rest = Timed.__new__(Timed)
        rest.cell, rest.steps, rest.first, rest.holds_first = self, steps, first, True
        return rest

    cdef int _settle(self, object value) except -1:
        if self.context.mark is not None:
            self.end_mark(self.context, None)
        if self.context.tag:
            self.context.answer(value)
        if Py_REFCNT(<PyObject*> self.context) == 1:
            self.context.clear()
        return 0

    cdef int _cut_off(self, object error) except -1:
        self.on_error(self.context, error)
        self.context = None
        return 0

    cdef int _pump_ended(self) except -1:
        self.pumping = False
        self.task = None
        self.context = None
        self.dispatcher.exchange.async_actors -= 1
        if self.failure is not None and self.phase == RESTARTING:
            return self.start_pump(None)        # its pump was cancelled from outside: the recovery is still due
        return self.rest()

    # ---- For inspection ----------------------------------------------------------------------------------------------

    @property
    def in_hand(self):
        """What the pump handles right now: (node of who asked or None, tag or 0, ns of the clock when it began), or None."""
        if self.context is None:
            return None
        replies = self.context.replies
        return None if replies is None else replies.node, self.context.tag, self.context.began

    # ---- For the keeper ----------------------------------------------------------------------------------------------

    def bind(self, instance, receive, bint bare):
        """What handles messages from now on: ``receive(instance, message, context)``, without ``instance`` if ``bare``."""
        self.instance = instance
        self.receive = receive
        self.bare = bare

    def hook_context(self):
        """The context of the message that is handled right now, or one without a message."""
        cdef Context context = self.context if self.context is not None else self.dispatcher.spare
        if context is None or context.cell is not self:
            context = Context.__new__(Context)
            context.cell = self
        return context

    def tell_self(self, message, trace=None):
        """Put ``message`` on this actor's own way in; without room there it becomes a dead letter."""
        cdef Exchange exchange = self.dispatcher.exchange
        try:
            exchange.pass_on(self.pid, message, exchange.guarantee, None, None, trace)
        except CajunError as error:
            exchange.dead_letters.record(self.id, message, type(error).__name__, None)

    def run_now(self):
        """``starting``, ``restarting`` or ``frozen`` is over: handle what waits."""
        self.move(RUNNING)
        if not self.pumping:
            self.awake = True
            self.rest()

    def hold(self):
        """Begin no more messages, and go on taking them in. ``is_quiet`` says when the running one is done with.

        Called from a task of the loop, never from a handler.
        """
        self.held = self.awake = True

    def unhold(self):
        """Undo ``hold``; a cell that is not held is left alone."""
        if self.held:
            self.held = False
            if self.phase == RUNNING and not self.pumping:
                self.awake = True
                self.rest()

    @property
    def is_held(self):
        """Whether it begins no messages for now."""
        return self.held != 0

    @property
    def is_quiet(self):
        """Whether it is held and no handler of it runs."""
        return self.held and not self.pumping and self.phase in (RUNNING, FROZEN)

    def close_moved(self):
        """To ``stopped``: it lives on elsewhere, and so does what waits in its mailbox. After ``stop_taking``."""
        self.empty()
        self.close()

    def freeze(self):
        """Handle nothing more and take nothing more: senders park. The running handler ends; await ``task`` for that."""
        self.move(FROZEN)

    def thaw(self):
        """Go on as if it had never been frozen; who parked is let in."""
        self.run_now()
        self.pid.lane.bind_inbox(self)

    def shut(self):
        """Take nothing more: senders park. What it has it handles; once it ``is_resting``, nothing is left."""
        self.is_shut = self.closed = True

    def reopen(self):
        """Take messages again; who parked is let in."""
        self.is_shut = False
        self.closed = self.phase > RESTARTING
        if not self.closed:
            self.pid.lane.bind_inbox(self)

    def stop_taking(self):
        """To ``stopping``: nothing more is taken or begun; who waits for room is told."""
        self.move(STOPPING)
        if self.room_waiters is not None:
            self.announce_room()

    def close(self):
        """To ``stopped``: what waits ends as dead letters, asks as ActorNotFoundError."""
        self.move(STOPPED)
        self.dispatcher.exchange.async_actors -= self.is_async
        self.tally.actors -= 1
        error = ActorNotFoundError(f"actor {self.id!r} stopped before it came to the message", self.id)
        self.end_all("stopped", error)
        self.instance = self.receive = self.failure = self.restarts = None


cdef class Timed:
    """Awaits the rest of a coroutine, and tells the cell of each step's time."""

    @property
    def cr_await(self):
        """What it goes on with, for whoever follows a stack of coroutines."""
        return self.steps

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef int64_t began
        if self.holds_first:
            self.holds_first = False
            return self.first
        began = self.cell.dispatcher.begin_step()
        try:
            return self.steps.send(None) if hasattr(self.steps, "send") else next(self.steps)
        finally:
            self.cell.count_time(began)

    def send(self, value):
        """As a generator's."""
        if value is None:
            return self.__next__()
        return self.steps.send(value)

    def throw(self, *error):
        """As a generator's."""
        cdef int64_t began = self.cell.dispatcher.begin_step()
        try:
            return self.steps.throw(*error)
        finally:
            self.cell.count_time(began)

    def close(self):
        """As a generator's."""
        self.steps.close()


def queued_messages(dict inboxes):
    """How many messages wait in the mailboxes of these cells; other inboxes count as empty."""
    cdef Py_ssize_t total = 0
    for inbox in inboxes.values():
        if type(inbox) is Cell:
            total += (<Cell> inbox).ring.count
    return total


def freeze_all(dict inboxes, str exempt, dict held, dict rising):
    """Freeze all cells that run, but for ids that begin with ``exempt``. ``held`` gets them, and those that are frozen
    already; ``rising`` those that come up."""
    for actor_id, inbox in inboxes.items():
        if type(inbox) is not Cell or (<str?> actor_id).startswith(exempt):
            continue
        if (<Cell> inbox).phase == RUNNING:
            (<Cell> inbox).move(FROZEN)
        if (<Cell> inbox).phase == FROZEN:
            held[actor_id] = inbox
        elif (<Cell> inbox).phase <= RESTARTING:
            rising[actor_id] = inbox


def thaw_all(dict held, tuple owned):
    """Let those go on whose oldest ancestor stands in one of the containers ``owned``; returns who stays frozen."""
    cdef Cell cell, root
    staying = {}
    for actor_id, cell in held.items():
        if cell.phase != FROZEN:
            continue
        root = cell
        while root.parent is not None:
            root = root.parent
        for each in owned:
            if root.pid.lane.target in each:
                cell.thaw()
                break
        else:
            staying[actor_id] = cell
    return staying


globals()["Dispatcher"] = Dispatcher    # it lived here once; whoever imports it from here finds it
