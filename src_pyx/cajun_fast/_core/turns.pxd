# Who runs when, in one actor system.
#
#   loop ─▶ Dispatcher._run ─▶ turn, turn, turn, … until the slice is over ─▶ call_soon ─▶ loop
#   link's frame loop ─▶ begin_slice, then deliver(direct) and slice_over after each message
#   pump of an async actor ─▶ turn_over after each message
#
# The clock is looked at every few messages, after each one where handlers are slow (`stride`).

cimport cython
from libc.stdint cimport int64_t
from cajun_fast._core.instruments cimport Tally
from cajun_fast._core.lane cimport Exchange, Pid
from cajun_fast._core.ports cimport Inbox

cdef class Resident(Inbox):             # what takes turns; cell.pxd has the one there is
    cdef object __weakref__
    cdef readonly Pid pid
    cdef readonly Dispatcher dispatcher
    cdef public dict children           # id -> Resident; None when there are none
    cdef Resident next_ready
    cdef unsigned char queued           # it stands in the dispatcher's queue

    cdef int turn(self) except -1       # handle some messages; 1 when the slice is over

@cython.final
cdef class Dispatcher:
    cdef readonly Exchange exchange
    cdef readonly object keeper         # port, see cell.pxd; None once closed
    cdef object loop
    cdef object clock                   # () -> int ns
    cdef object base                    # contextvars of a loop where no actor runs: pumps start from a copy
    cdef object run_callback            # self._run, bound once
    cdef Resident head                      # the queue of cells that have messages, linked by next_ready
    cdef Resident tail
    cdef bint scheduled                 # _run stands in the loop
    cdef object spare                   # the Context that is lent to sync handlers, one at a time
    cdef public bint timing             # measure busy_ns of the sync handlers: two looks at the clock a message
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

    cdef inline int slice_over(self) except -1:
        self.countdown -= 1
        return 0 if self.countdown > 0 else self.look()

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
