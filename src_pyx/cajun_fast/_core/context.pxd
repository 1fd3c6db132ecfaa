# What a handler is given beside its message.
#
#   Context  the message's sender and its right to an answer (`tag`), and the actor's own means. One is lent to all sync
#            handlers of a system in turn, one belongs to each pump; one that a handler kept is replaced.
#   Reply    that right, taken out of the context to be used later
#   Spawned  the Pid of a child that is starting

cimport cython
from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.instruments cimport Mark
from cajun_fast._core.lane cimport Exchange, Pid
from cajun_fast._core.ports cimport Replies
from cajun_fast._core.turns cimport Resident

@cython.final
cdef class Context:
    cdef Resident cell
    cdef readonly object message        # None between messages
    cdef readonly object sender         # Pid of who sent the message, or None
    cdef Replies replies
    cdef uint64_t tag                   # 0: nobody waits for an answer, or he has it, or somebody else shall give it
    cdef int64_t deadline               # ns; 0: none
    cdef int64_t began                  # coarse ns: a pump's handler began with the message
    cdef Mark mark                      # the message is measured; None for nearly all

    cdef int answer(self, object value) except -1
    cdef int fault(self, object error) except -1
    cdef void clear(self) noexcept

@cython.final
cdef class Reply:
    cdef Replies replies
    cdef uint64_t tag                   # 0 once it is given
    cdef str actor_id

@cython.final
cdef class Spawned(Pid):
    cdef object started                 # the task that starts it; None once that is awaited
