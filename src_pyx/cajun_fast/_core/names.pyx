"""Numbers for the actors that a link talks about. See names.pxd."""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memset

from cajun_fast.errors import BackpressureError, ConfigError

cdef enum:
    LOOKED_AT = 4096                # numbers that one search for a free one may look at

MOST_NAMES = NAMES_MOST
MOST_NAME_BYTES = NAMES_SIZE
LONGEST_ID = ID_MOST


cdef class Names:
    """Who has which number on one link."""

    def __init__(self, owner, uint32_t limit, Py_ssize_t size_limit=NAMES_SIZE):
        if not 3 <= limit <= NAMES_MOST:
            raise ConfigError(f"max_names must lie between 3 and {NAMES_MOST}, got {limit}")
        if not 3 * ID_MOST <= size_limit <= NAMES_SIZE:
            raise ConfigError(f"max_name_bytes must lie between {3 * ID_MOST} and {NAMES_SIZE}, got {size_limit}")
        self.owner = owner
        self.limit = limit
        self.size_limit = size_limit
        self.lanes = [None]
        self.numbers = {}
        self.free = []
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
        number = self.give(lane, acked) if found is None else <uint32_t>found
        if bind:
            lane.name = number
            lane.named_by = self.owner
        return number

    cdef uint32_t give(self, Lane lane, uint64_t acked) except 0:
        """A number for a lane that has none."""
        cdef uint32_t number
        cdef Py_ssize_t size = size_of(lane.target)
        while self.size + size > self.size_limit or (not self.free and <uint32_t>len(self.lanes) > self.limit):
            number = self.take_back(acked)
            if self.size + size - self.states[number].size > self.size_limit:   # more than one must go for it
                self.size += 1 - <Py_ssize_t>self.states[number].size
                self.states[number].size = 1
                self.owner.unname(number)
            else:
                self.size -= self.states[number].size
                self.states[number].size = 0
        if self.free:
            number = self.free.pop()
            self.size -= self.states[number].size
            memset(self.states + number, 0, sizeof(NameState))
            self.lanes[number] = lane
        else:
            number = <uint32_t>len(self.lanes)
            if number >= self.capacity:
                self.grow()
            self.lanes.append(lane)
        self.numbers[lane] = number
        self.states[number].size = <uint32_t>size
        self.size += size
        return number

    cdef uint32_t take_back(self, uint64_t acked) except 0:
        cdef Lane other
        cdef Py_ssize_t count = len(self.lanes) - 1
        for _ in range(min(count, <Py_ssize_t>LOOKED_AT)):
            self.sought = 1 + self.sought % count
            if self.states[self.sought].used <= acked and self.lanes[self.sought] is not None:
                other = <Lane>self.lanes[self.sought]
                if other.named_by is self.owner:
                    other.named_by = None
                del self.numbers[other]
                self.lanes[self.sought] = None
                self.free.append(self.sought)
                return self.sought
        raise BackpressureError(
            f"messages to or from {len(self.numbers)} actors are on their way by one link: await some, or raise "
            "max_names and max_name_bytes")

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


cdef Py_ssize_t size_of(str target) except -1:
    cdef Py_ssize_t size = len(target.encode())
    if size > ID_MOST:
        raise ConfigError(f"an id of more than {ID_MOST} bytes cannot be sent: {target[:40]!r}…")
    return size
