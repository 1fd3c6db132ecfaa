# The numbers that one link gives to actors and nodes: on the wire an id is said once a connection, then a u32 stands
# for it.
#
#   lane.name / lane.named_by   the number, and the link that gave it: the hot path asks nobody. A short cut only, another
#                               link may have written over it
#   numbers                     the same for all lanes: a lane that comes back to this link gets its old number
#   states[n].announced         the connection on which n was last said
#   states[n].used              the highest sequence whose record holds n; once it is acknowledged, and only then, the
#                               number may be given to another lane
#   states[n].first, last       the lane's own messages: the first since it found this way, and the last
#
#   states[n].size              bytes of the id that the peer may remember for n
#
# Numbers run from 1 to `limit`; 0 is the node itself. The ids of all of them together have at most `size_limit` bytes: a
# long one may take the place of several short ones, whose numbers are then free and said to mean next to nothing.

from libc.stdint cimport uint32_t, uint64_t
from cajun_fast._core.lane cimport Lane

cdef enum:
    NAMES_MOST = 1 << 18            # of the protocol: no number above it is ever accepted
    NAMES_SIZE = 32 << 20           # and no more bytes of ids together
    ID_MOST = 1024                  # bytes of an id

cdef struct NameState:
    uint64_t announced
    uint64_t used
    uint64_t first
    uint64_t last
    uint32_t size

cdef class Names:
    cdef object owner               # the link; stands in Lane.named_by
    cdef readonly uint32_t limit
    cdef readonly Py_ssize_t size, size_limit
    cdef list lanes                 # number -> Lane, None for one that is free
    cdef list free                  # numbers that were given back
    cdef uint32_t sought            # where the last search ended
    cdef dict numbers               # Lane -> number
    cdef NameState *states
    cdef Py_ssize_t capacity

    # The lane's number, given now if it has none; BackpressureError when all numbers are in use.
    # `bind`: as a target, which is worth the short cut.
    cdef uint32_t find(self, Lane lane, uint64_t acked, bint bind) except 0
    cdef uint32_t give(self, Lane lane, uint64_t acked) except 0
    cdef uint32_t take_back(self, uint64_t acked) except 0      # from a lane with nothing on its way
    cdef int grow(self) except -1
    # Whether messages to the lane have no verdict yet.
    cdef bint is_pending(self, Lane lane, uint64_t acked) except -1
    cdef uint64_t first_of(self, Lane lane) except? 0
    cdef int settled(self, Lane lane) except -1
    # Whether a record that holds the lane's number, as its target or its sender, has no verdict yet.
    cdef bint is_used(self, Lane lane, uint64_t acked) except -1
