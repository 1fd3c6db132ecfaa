"""Numbers for the actors that a link talks about. See names.pxd."""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memset

from cajun_fast.errors import BackpressureError, ConfigError

cdef enum:
    LOOKED_AT = 4096                # numbers that one search for a free one may look at

MOST_NAMES = NAMES_MOST


cdef class Names:
    """Who has which number on one link."""

    def __init__(self, owner, uint32_t limit):
        if not 3 <= limit <= NAMES_MOST:
            raise ConfigError(f"max_names must lie between 3 and {NAMES_MOST}, got {limit}")
        self.owner = owner
        self.limit = limit
        self.lanes = [None]
        self.numbers = {}
        self.grow()

    def __dealloc__(self):
        PyMem_Free(self.states)

    cdef int grow(self) except -1:
        cdef Py_ssize_t capacity = max(8, 2 * self.capacity)
        cdef NameState *states = <NameState *>PyMem_Realloc(self.states, capacity * sizeof(NameState))
        if states is NULL:
            raise MemoryError()
        memset(states + self.capacity, 0, (capacity - self.capacity) * sizeof(NameState))
        self.states = states
        self.capacity = capacity
        return 0

    cdef uint32_t find(self, Lane lane, uint64_t acked, bint bind) except 0:
        cdef uint32_t number
        found = self.numbers.get(lane)
        if found is not None:
            number = found
        elif <uint32_t>len(self.lanes) <= self.limit:
            number = <uint32_t>len(self.lanes)
            check_id(lane.target)
            if number >= self.capacity:
                self.grow()
            self.lanes.append(lane)
            self.numbers[lane] = number
        else:
            check_id(lane.target)
            number = self.take_over(lane, acked)
        if bind:
            lane.name = number
            lane.named_by = self.owner
        return number

    cdef uint32_t take_over(self, Lane lane, uint64_t acked) except 0:
        """Take the number of a lane with nothing on its way."""
        cdef Lane other
        cdef Py_ssize_t i, count = len(self.lanes) - 1, start = acked % count
        cdef uint32_t number
        for i in range(min(count, <Py_ssize_t>LOOKED_AT)):
            number = <uint32_t>(1 + (start + i) % count)
            if self.states[number].used <= acked:
                other = <Lane>self.lanes[number]
                if other.named_by is self.owner:
                    other.named_by = None
                del self.numbers[other]
                self.lanes[number] = lane
                self.numbers[lane] = number
                memset(self.states + number, 0, sizeof(NameState))
                return number
        raise BackpressureError(
            f"messages to or from {count} actors are on their way by one link: await some, or raise max_names")

    cdef bint is_pending(self, Lane lane, uint64_t acked) except -1:
        number = self.numbers.get(lane)
        return number is not None and self.states[<uint32_t>number].last > acked

    cdef bint is_used(self, Lane lane, uint64_t acked) except -1:
        number = self.numbers.get(lane)
        return number is not None and self.states[<uint32_t>number].used > acked

    cdef uint64_t first_of(self, Lane lane) except? 0:
        return self.states[<uint32_t>self.numbers[lane]].first

    cdef int settled(self, Lane lane) except -1:
        number = self.numbers.get(lane)
        if number is not None:
            self.states[<uint32_t>number].first = 0
        return 0


cdef int check_id(str target) except -1:
    if len(target.encode()) > ID_MOST:
        raise ConfigError(f"an id of more than {ID_MOST} bytes cannot be sent: {target[:40]!r}…")
    return 0
