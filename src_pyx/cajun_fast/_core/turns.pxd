# Who runs when, in one actor system.
#
#   loop ─▶ Dispatcher._run ─▶ turn, turn, turn, … until the slice is over ─▶ call_soon ─▶ loop
#   link's frame loop ─▶ begin_slice, then deliver(direct) and slice_over after each message
#   pump of an async actor ─▶ turn_over after each message
#
# The clock is looked at every few messages, after each one where handlers are slow (`stride`). Whether this node may still
# act (Exchange.fence_at) is asked before each message: of the kernel's coarse clock, which costs a few ns and is right after
# a pause. Without one (not on Linux, or time that is turned by hand) it is asked with each look.
#
# The same reading says whose time it is: each tick of it goes to the handler that ran when it came, as the kernel does it
# with processes. That costs nothing, finds who has the loop for longer than a tick, and is right on average. While somebody
# looks (`timing`), the first few handlers of each slice are timed by the clock itself: where little happens that is all.

cimport cython
from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.instruments cimport Tally
from cajun_fast._core.lane cimport Exchange, Pid
from cajun_fast._core.ports cimport Inbox

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <time.h>

    /* CLOCK_MONOTONIC as of the last tick of the kernel, or 0. */
    static inline int64_t coarse_now_ns(void) {
    #ifdef CLOCK_MONOTONIC_COARSE
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    #else
        return 0;
    #endif
    }

    /* How long such a tick is, or 0. */
    static inline int64_t coarse_tick_ns(void) {
    #ifdef CLOCK_MONOTONIC_COARSE
        struct timespec tick;
        clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
        return (int64_t)tick.tv_sec * 1000000000 + tick.tv_nsec;
    #else
        return 0;
    #endif
    }
    """
    int64_t coarse_now_ns()
    int64_t coarse_tick_ns()

cdef enum:
    EXACT_MOST = 4                      # handlers of a slice that are timed by the clock itself, while somebody looks
    ALWAYS = 0x7FFFFFFF                 # … where there are no ticks: all of them

cdef class Resident(Inbox):             # what takes turns; cell.pxd has the one there is
    cdef object __weakref__
    cdef readonly Pid pid
    cdef readonly Dispatcher dispatcher
    cdef public dict children           # id -> Resident; None when there are none
    cdef readonly uint64_t busy_ns      # in handlers, without what they awaited; see Dispatcher.timing
    cdef Resident next_ready
    cdef unsigned char queued           # it stands in the dispatcher's queue

    cdef int turn(self) except -1       # handle some messages; 1 when the slice is over

@cython.final
cdef class Dispatcher:
    cdef readonly Exchange exchange
    cdef readonly object keeper         # port, see cell.pxd; None once closed
    cdef object loop
    cdef object clock                   # () -> int ns
    cdef bint is_real                   # it is the one of which coarse_now_ns is the coarse reading
    cdef readonly object base           # contextvars of a loop where no actor runs: pumps and connections start from a copy
    cdef object run_callback            # self._run, bound once
    cdef Resident head                      # the queue of cells that have messages, linked by next_ready
    cdef Resident tail
    cdef bint scheduled                 # _run stands in the loop
    cdef object spare                   # the Context that is lent to sync handlers, one at a time
    cdef public bint timing             # somebody looks: steps of coroutines are timed too, and short handlers exactly
    cdef readonly int64_t longest_ns    # the longest that one handler had the loop, since `take_longest`
    cdef str longest                    # … of which actor
    cdef int64_t resolution             # ns of a tick
    cdef int64_t tick                   # the coarse clock as last read in this slice; 0: it is not read
    cdef bint ran                       # a handler has run since, in `spare`, and its time is not counted yet
    cdef int exact                      # handlers of this slice that are still timed by the clock itself
    cdef readonly dict tallies          # name of an actor type -> Tally; beyond TALLIES_MOST names: "other"
    cdef readonly int64_t slice_ns
    cdef readonly int batch             # messages of one cell in one turn
    cdef int64_t slice_end              # ns
    cdef int64_t looked                 # ns: the last look at the clock
    cdef int stride                     # messages between two looks: 1 where handlers are slow
    cdef int countdown                  # messages until the next look

    # A slice of its own for the caller, who asks slice_over() after each message; for a link's frame loop.
    cdef int begin_slice(self) except -1
    cdef int begin_slice_at(self, int64_t now) except -1    # for who has just looked at the clock
    cdef int look(self) except -1
    cdef Tally tally(self, str type)
    # For a pump: the slice that all pumps of this turn of the loop share.
    cdef int join_turn(self) except -1
    cdef int turn_over(self) except -1
    cdef int schedule(self) except -1
    cdef int on_tick(self, int64_t tick) except -1
    cdef int charge(self, Resident cell, int64_t spent, int64_t surely) except -1   # its handler had the loop so long
    cdef int64_t begin_step(self) except? 0                 # while `timing`: a step of a coroutine begins …
    cdef int end_step(self, Resident cell, int64_t began) except -1                 # … and has ended

    cdef inline int slice_over(self) except -1:
        cdef int64_t tick = self.read_tick()
        if tick > self.tick:
            self.on_tick(tick)
        self.ran = False
        self.countdown -= 1
        if self.countdown > 0 and (tick < self.exchange.fence_at or self.exchange.fence_at == 0):
            return 0
        return self.look()

    cdef inline int64_t read_tick(self) noexcept:
        return coarse_now_ns() if self.is_real and (self.exchange.fence_at != 0 or self.timing) else 0

    cdef inline int enqueue(self, Resident cell) except -1:
        if cell.queued:
            return 0
        cell.queued = True
        if self.head is None:
            self.head = cell
            self.tail = cell
            if not self.scheduled:
                self.schedule()
        else:
            self.tail.next_ready = cell
            self.tail = cell
        return 0
