# The mailbox ring: what waits for one actor, in order, in plain memory.
#
#   ring_push ─▶ [ Entry | Entry | … ] ─▶ ring_pop        no Python object is made on the way
#
# Invariants of a Ring
#   count <= allocated <= capacity;   entries is NULL exactly when allocated is 0
#   the entries at head, head + 1, … (count of them, wrapping at allocated) own their references; the others are void
#   allocated starts at RING_FIRST and doubles up to capacity; a ring that runs empty keeps RING_KEEP entries at most,
#   so an idle actor costs next to nothing. One larger buffer, the spare, is kept for the whole process: bursts would
#   otherwise fetch their memory from the system again and again (measured: 80 ns a message instead of 10)
#
# Ownership
#   ring_push   borrows: it takes references of its own, and none at all unless the entry was let in
#   ring_pop    hands its references over: the taker steals them (`steal`) or drops them (`entry_release`)
#   dropped     likewise: what DROP_OLDEST pushed out is the caller's, to be made a dead letter and released
#
# Cycles: the collector cannot see into a Ring by itself. Mailbox installs a traverse and a clear for its own; whoever
# embeds a Ring in another cdef class calls ring_visit and ring_clear from that class's slots (mailbox.pyx shows how),
# and in any case ring_clear when the actor stops and in __dealloc__. The GIL is held throughout: no promise is made
# for free threading.

cimport cython
from cpython.object cimport visitproc
from cpython.ref cimport PyObject, Py_XDECREF, Py_XINCREF
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    RING_FIRST = 4              # entries of the first allocation (128 bytes)
    RING_KEEP = 8               # a larger buffer is freed when the ring runs empty (256 bytes stay)
    RING_SPARE = 0x10000        # the largest buffer that becomes the spare (2 MiB)
    RING_MOST = 0x7FFFFFFF      # the largest capacity: indices are 32 bits wide

cdef enum policy_t:             # what a full ring does; the ring itself tells only DROP_OLDEST from the rest
    POLICY_BLOCK = 0            # the sender waits for room
    POLICY_DROP_NEW = 1         # the new message becomes a dead letter
    POLICY_DROP_OLDEST = 2      # the oldest one makes room
    POLICY_FAIL = 3             # the sender is told with an error

cdef enum push_t:               # what ring_push answers; -1 is an exception (MemoryError)
    RING_ACCEPTED = 0
    RING_FULL = 1               # nothing was kept, no reference was taken: what follows is the owner's policy
    RING_DROPPED_OLDEST = 2     # accepted; *dropped holds what had to go

cdef struct Entry:
    PyObject* message           # never NULL in a ring
    PyObject* sender            # NULL: none
    PyObject* extra             # NULL: none; the owner's own (where an answer goes, for example)
    uint64_t tag                # the owner's own number

cdef struct Ring:
    Entry* entries              # NULL until the first push
    uint32_t head               # index of the oldest
    uint32_t count              # entries that wait
    uint32_t allocated          # entries that the buffer has room for
    uint32_t capacity           # entries that may wait at most, 1 … RING_MOST
    int policy                  # policy_t

cdef extern from *:
    """
    #ifndef CAJUN_STEAL
    #define CAJUN_STEAL
    static inline PyObject *cajun_steal(PyObject *owned) { return owned; }
    #endif
    """
    # An owned pointer as an object, without touching its count; never NULL.
    object steal "cajun_steal"(PyObject* owned)

# ---- Slow paths, in mailbox.pyx --------------------------------------------------------------------------------------

# Doubles the buffer, at most to capacity (by more if the spare fits). Raises MemoryError, and then nothing has changed.
cdef int ring_grow(Ring* ring) except -1

# Gives the buffer of an empty ring away: to the spare place, or back to the system.
cdef void ring_rest(Ring* ring) noexcept

# Drops all that waits and frees the buffer. The ring is empty and usable before the first destructor can run.
cdef void ring_clear(Ring* ring) noexcept

# For an owner's tp_traverse: shows every reference that the ring holds to the collector.
cdef int ring_visit(const Ring* ring, visitproc visit, void* arg) noexcept

# ---- Fast paths ------------------------------------------------------------------------------------------------------

# An empty ring; allocates nothing. The caller has checked `capacity` (1 … RING_MOST) and `policy`.
cdef inline void ring_init(Ring* ring, uint32_t capacity, int policy) noexcept nogil:
    ring.entries = NULL
    ring.head = ring.count = ring.allocated = 0
    ring.capacity = capacity
    ring.policy = policy

# The oldest entry into *out, its references with it; the buffer stays. Only for a ring that is not empty.
cdef inline void ring_take(Ring* ring, Entry* out) noexcept nogil:
    out[0] = ring.entries[ring.head]
    ring.head += 1
    if ring.head == ring.allocated:
        ring.head = 0
    ring.count -= 1

# The oldest entry into *out, its references with it; False when nothing waits.
cdef inline bint ring_pop(Ring* ring, Entry* out) noexcept:
    if ring.count == 0:
        return False
    ring_take(ring, out)
    if ring.count == 0:
        ring.head = 0
        if ring.allocated > RING_KEEP:
            ring_rest(ring)
    return True

# Room for one more: RING_ACCEPTED, RING_FULL, or RING_DROPPED_OLDEST with the oldest in *dropped.
cdef inline int ring_make_room(Ring* ring, Entry* dropped) except -1:
    if ring.count < ring.capacity:
        ring_grow(ring)
        return RING_ACCEPTED
    if ring.policy != POLICY_DROP_OLDEST:
        return RING_FULL
    ring_take(ring, dropped)
    return RING_DROPPED_OLDEST

# A message to the end of the ring. `dropped` may be NULL unless the policy is DROP_OLDEST; it is written for
# RING_DROPPED_OLDEST alone. Runs no destructor, so nothing can re-enter.
cdef inline int ring_push(Ring* ring, PyObject* message, PyObject* sender, PyObject* extra, uint64_t tag,
                          Entry* dropped) except -1:
    cdef int verdict = RING_ACCEPTED
    if ring.count == ring.allocated:
        verdict = ring_make_room(ring, dropped)
        if verdict == RING_FULL:
            return RING_FULL
    cdef uint32_t index = ring.head + ring.count
    if index >= ring.allocated:
        index -= ring.allocated
    cdef Entry* entry = &ring.entries[index]
    Py_XINCREF(message)
    Py_XINCREF(sender)
    Py_XINCREF(extra)
    entry.message = message
    entry.sender = sender
    entry.extra = extra
    entry.tag = tag
    ring.count += 1
    return verdict

# Drops the references of an entry that was popped or pushed out. May run destructors.
cdef inline void entry_release(Entry* entry) noexcept:
    Py_XDECREF(entry.message)
    Py_XDECREF(entry.sender)
    Py_XDECREF(entry.extra)

# A ring as a Python object: for tests, for benchmarks and for owners that are not compiled.
@cython.final
cdef class Mailbox:
    cdef Ring ring
    cdef object _collected      # always None: its presence makes Cython give the type to the garbage collector
