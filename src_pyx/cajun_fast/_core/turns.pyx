"""Who runs when. The picture is in turns.pxd.

Owns the queue of residents that have messages, and the slice of time they may take; knows nothing of what they do in it.
Laws: no turn of the loop is held longer than a slice and one message; each resident gets its turn in order.
"""

import asyncio
import contextvars
import time

from cajun_fast._core.instruments cimport Tally

from cajun_fast._core import lane as _lane

cdef object RUNNING_ACTOR = _lane.RUNNING
cdef object Task = asyncio.Task
cdef str REAL = "clock_gettime(CLOCK_MONOTONIC)"
cdef int TALLIES_MOST = 256             # names of types that are counted apart
cdef int LONGEST_STRIDE = 16            # messages: how late a handler that has become slow is noticed


cdef class Resident(Inbox):
    """What takes turns."""

    cdef int turn(self) except -1:
        raise NotImplementedError


cdef class Dispatcher:
    """Gives the actors of one system their turns. ``time_slice`` in seconds is what they may take of one turn of the
    loop, ``batch`` how many messages of one actor before the next one's turn."""

    def __init__(self, Exchange exchange, keeper, *, double time_slice=0.001, int batch=64, bint timing=False):
        self.exchange = exchange
        self.keeper = keeper
        self.loop = exchange.loop
        self.clock = exchange.clock
        self.is_real = self.clock is time.monotonic_ns and time.get_clock_info("monotonic").implementation == REAL
        self.resolution = coarse_tick_ns()
        self.is_real = self.is_real and self.resolution != 0
        self.base = contextvars.copy_context()
        self.run_callback = self._run
        self.timing = timing
        self.tallies = {}
        self.slice_ns = <int64_t> (time_slice * 1e9)
        self.batch = batch
        self.stride = 1
        self.begin_slice()

    def close(self):
        """No more turns; lets go of everything that points back here."""
        self.run_callback = self.keeper = None
        self.head = self.tail = None

    def task(self, coroutine, Pid pid, str name):
        """A task in which ``pid`` is the actor that runs."""
        context = self.base.copy()
        context.run(RUNNING_ACTOR.set, pid)
        return Task(coroutine, loop=self.loop, name=name, context=context)

    cdef Tally tally(self, str type):
        tally = self.tallies.get(type)
        if tally is None:
            if len(self.tallies) >= TALLIES_MOST and type != "other":
                return self.tally("other")
            tally = self.tallies[type] = Tally(type)
        return tally

    def take_longest(self):
        """(id of the actor, ns) for which one handler had the loop without a break, the longest since the last call.

        Of async ones only what they did while ``timing`` was on. Shorter than a tick and not timed by the clock: 0."""
        found = self.longest, self.longest_ns
        self.longest = None
        self.longest_ns = 0
        return found

    @property
    def queued(self):
        """Cells that wait for their turn; counts them one by one."""
        cdef Resident cell = self.head
        count = 0
        while cell is not None:
            count += 1
            cell = cell.next_ready
        return count

    def _run(self):
        cdef Resident cell
        self.begin_slice()
        try:
            while self.head is not None:
                cell = self.head
                self.head = cell.next_ready
                cell.next_ready = None
                cell.queued = False
                if cell.turn():
                    break
        finally:
            self.scheduled = False      # only now: what is queued from a turn needs no second callback
            if self.head is not None:
                self.schedule()
                self.begin_slice()      # for the pumps that stand behind this in the loop

    cdef int schedule(self) except -1:
        if self.run_callback is not None:
            self.loop.call_soon(self.run_callback, context=self.base)
            self.scheduled = True
        return 0

    cdef int begin_slice(self) except -1:
        return self.begin_slice_at(self.clock())

    cdef int begin_slice_at(self, int64_t now) except -1:
        if now >= self.exchange.fence_at and self.exchange.fence_at:
            self.exchange.overdue()         # a pause may have been long: first of all, is this node still an owner?
        self.exchange.now = self.looked = now
        self.slice_end = now + self.slice_ns
        self.countdown = self.stride
        self.tick = self.read_tick()
        self.ran = False
        self.exact = 0 if not self.timing else EXACT_MOST if self.is_real else ALWAYS
        return 0

    cdef int on_tick(self, int64_t tick) except -1:
        """The coarse clock has gone on since it was last read: whoever has just run gets the time."""
        cdef int64_t spent = tick - self.tick
        self.tick = tick
        if self.ran and self.spare is not None:
            cell = self.exchange.inboxes.get(self.spare.self.id)    # in `spare` stands who ran last
            if isinstance(cell, Resident):
                self.charge(<Resident>cell, spent, spent - self.resolution)
        return 0

    cdef int charge(self, Resident cell, int64_t spent, int64_t surely) except -1:
        cell.busy_ns += spent
        if surely > self.longest_ns:
            self.longest_ns = surely
            self.longest = cell.pid.lane.target
        return 0

    cdef int64_t begin_step(self) except? 0:
        if self.exact or not self.is_real:
            self.exact -= 1
            return self.clock()
        return -coarse_now_ns()

    cdef int end_step(self, Resident cell, int64_t began) except -1:
        cdef int64_t spent
        if began > 0:
            spent = <int64_t> self.clock() - began
            return self.charge(cell, spent, spent)
        spent = coarse_now_ns() + began
        return self.charge(cell, spent, spent - self.resolution)

    cdef int look(self) except -1:
        cdef int64_t now = self.clock()
        if now >= self.exchange.fence_at and self.exchange.fence_at:
            self.exchange.overdue()
        if now - self.looked > self.slice_ns >> 3:
            self.stride = 1
        elif self.stride < LONGEST_STRIDE:
            self.stride *= 2
        self.exchange.now = self.looked = now
        self.countdown = self.stride if now < self.slice_end else 1
        return now >= self.slice_end

    cdef int join_turn(self) except -1:
        if not self.scheduled:          # _run goes behind all that is ready in this turn: it ends the slice
            self.begin_slice()
            self.schedule()
        return 0

    cdef int turn_over(self) except -1:
        self.join_turn()
        return self.slice_over()
