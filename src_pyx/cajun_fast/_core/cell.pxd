# A running actor: its handler, its state, its one task. Mailbox: intake.pxd; turns: turns.pxd; Context: context.pxd.
#
#   deliver ── direct, and the cell is at rest ───────────────▶ run ─▶ settle: the value answers the ask
#      └─▶ ring ─▶ Dispatcher's queue ─▶ turn ─┬─ sync ───────▶ run ─▶ settle
#                                              └─ async ─▶ pump (one task) ─▶ invoke, await, settle, invoke, …
#
# One message at a time: `awake` is set while somebody looks after the mailbox (the queue, a turn, a pump, a start, a
# recovery); only who finds it unset may set it and go on. All that a cell does asynchronously happens in one task.
#
#   STARTING ─▶ RUNNING ◀─▶ RESTARTING        messages go into the mailbox in these three
#       │        ▲  │            │
#       │        │  ▼            │
#       │      FROZEN            │            MOVING: the sender parks and asks again
#       └────────┴──┴────────────┴─▶ STOPPING ─▶ STOPPED      NOT_HERE
#
# A cell that is shut (`shut`, `reopen`) takes nothing more, as if it were frozen, and goes on with what it has: once it
# is at rest it can be stopped without a loss.
#
# `held` stands beside these: before a freeze for a move the running handler ends, and messages still come in.
#
# The keeper (cajun_fast/actors/lifecycle.py) is asked on every slow path: it judges failures, recovers, starts, stops.

cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.context cimport Context
from cajun_fast._core.instruments cimport Tally
from cajun_fast._core.intake cimport Intake
from cajun_fast._core.lane cimport Exchange, Pid
from cajun_fast._core.instruments cimport Mark
from cajun_fast._core.ports cimport Gate, Replies
from cajun_fast._core.turns cimport Dispatcher

cdef enum State:
    STARTING = 0
    RUNNING = 1
    RESTARTING = 2      # the last one that takes messages
    FROZEN = 3
    STOPPING = 4
    STOPPED = 5

@cython.final
cdef class Cell(Intake):
    cdef readonly object recipe         # makes the instance, knows props; see cajun_fast/actors/recipe.py
    cdef readonly Cell parent           # None at the top
    cdef public set timers              # that stand for this actor; None when there are none
    cdef public object restarts         # supervision's memory; None before the first restart
    cdef readonly object instance       # None for a plain function
    cdef object receive                 # called with (instance, message, context), or (message, context) where `bare`
    cdef Context context                # the pump's; None when no pump runs
    cdef readonly object task           # the pump's, while it runs
    cdef readonly object failure        # (error, message) that the pump must recover from before the next message
    cdef readonly Tally tally           # of its type
    cdef readonly uint64_t handled      # messages, those that failed among them
    cdef readonly uint64_t failed
    cdef readonly uint64_t bytes_in     # payloads that came by links, while exchange.weighing is on
    cdef public Gate gate               # of a durable actor; None for all others
    cdef unsigned char phase            # a State
    cdef unsigned char closed           # takes nothing: by its phase, or because it is shut
    cdef unsigned char is_shut
    cdef unsigned char bare             # flags, a byte each: there are many cells
    cdef unsigned char is_async                 # receive is a coroutine function: its messages go to the pump at once
    cdef unsigned char indirect                 # is_async, or durable: nothing is handled straight from a frame loop
    cdef unsigned char awake
    cdef unsigned char held                     # it takes messages and begins none: see hold
    cdef unsigned char pumping                  # a pump runs; under eager start before `task` is known

    cdef int move(self, State phase) except -1
    cdef int take_in(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                     bint direct) except -1
    # A message of a durable actor, from its gate, with the mark that tells the gate of it. A Verdict.
    cdef int admit(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                   Mark mark) except -1
    cdef PyObject* call(self, Context context) noexcept         # NULL: it raised, the error is set
    cdef int run(self, PyObject* lent) except -1
    cdef int settle(self, PyObject* lent, object value) except -1
    cdef int broke(self, Context context) except -1
    cdef int on_error(self, Context context, object error) except -1
    cdef int begin_mark(self, Context context) except -1        # its message is measured
    cdef int end_mark(self, Context context, object error) except -1
    cdef int rest(self) except -1
    cdef int start_pump(self, object first) except -1
    cdef bint _next(self) except -1
    cdef int count_time(self, int64_t began) except -1
    cdef int _enter_span(self) except -1
    cdef object _invoke(self)
    cdef object _begin(self, object value)      # of a coroutine, timed: its value, or the Timed to be awaited
    cdef int _settle(self, object value) except -1
    cdef int _cut_off(self, object error) except -1
    cdef int _pump_ended(self) except -1

# The rest of a handler's coroutine, timed step by step: what it awaits is not counted. Its first step was taken without
# this; a coroutine that ends in it never needs one.
@cython.final
cdef class Timed:
    cdef Cell cell
    cdef object steps                   # the coroutine, or the iterator that another awaitable gave
    cdef object first                   # what the first step waits for; None is a turn of the loop
    cdef bint holds_first               # … and it is not handed on yet
