# cython: binding=False
"""The mailbox ring: a bounded first-in-first-out queue of messages in plain memory. mailbox.pxd tells the design.

Laws: it owns the references of what waits in it, and nothing else. It knows no actor, no loop and no clock; what a full
mailbox means for a sender is its owner's business, a verdict is all it gives. An empty mailbox costs next to nothing.
"""

import enum

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyTypeObject, inquiry, traverseproc, visitproc
from cpython.ref cimport PyObject
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from cajun_fast._core.checks cimport whole


class Policy(enum.IntEnum):
    """What a full mailbox does with one more message."""

    BLOCK = POLICY_BLOCK
    DROP_NEW = POLICY_DROP_NEW
    DROP_OLDEST = POLICY_DROP_OLDEST
    FAIL = POLICY_FAIL


class Verdict(enum.IntEnum):
    """What became of a message that was pushed."""

    ACCEPTED = RING_ACCEPTED
    FULL = RING_FULL
    DROPPED_OLDEST = RING_DROPPED_OLDEST


cdef object accepted = (Verdict.ACCEPTED, None)
cdef object full = (Verdict.FULL, None)
cdef object dropped_oldest = Verdict.DROPPED_OLDEST


# ---- Ring ------------------------------------------------------------------------------------------------------------

cdef Entry* spare = NULL            # one empty buffer that the next burst takes over; guarded by the GIL
cdef uint32_t spare_allocated = 0


cdef uint32_t grown(const Ring* ring) noexcept nogil:
    """The next size of a ring's buffer."""
    cdef uint32_t more = ring.allocated * 2 if ring.allocated else RING_FIRST
    return more if more < ring.capacity else ring.capacity


cdef Entry* take_spare(const Ring* ring, uint32_t* allocated) noexcept:
    """The spare, if it holds *allocated entries and not over four times as many: a few messages pin no megabyte."""
    global spare, spare_allocated
    cdef Entry* taken = spare
    if taken == NULL or spare_allocated < allocated[0] or spare_allocated // 4 > allocated[0]:
        return NULL
    allocated[0] = spare_allocated if spare_allocated < ring.capacity else ring.capacity
    spare, spare_allocated = NULL, 0
    return taken


cdef void ring_rest(Ring* ring) noexcept:
    global spare, spare_allocated
    cdef Entry* freed = ring.entries
    if spare_allocated < ring.allocated <= RING_SPARE:
        freed, spare, spare_allocated = spare, ring.entries, ring.allocated
    ring.entries, ring.head, ring.allocated = NULL, 0, 0
    PyMem_Free(freed)


cdef void copy_entries(const Ring* ring, Entry* to) noexcept nogil:
    """What waits, oldest first, to the start of another buffer."""
    cdef uint32_t first = ring.allocated - ring.head        # entries from head to the end of the buffer
    if ring.count <= first:
        memcpy(to, ring.entries + ring.head, ring.count * sizeof(Entry))
        return
    memcpy(to, ring.entries + ring.head, first * sizeof(Entry))
    memcpy(to + first, ring.entries, (ring.count - first) * sizeof(Entry))


cdef int ring_grow(Ring* ring) except -1:
    cdef uint32_t allocated = grown(ring)
    cdef Entry* entries = take_spare(ring, &allocated)
    if entries == NULL:
        entries = <Entry*> PyMem_Malloc(allocated * sizeof(Entry))
    if entries == NULL:
        raise MemoryError(f"no memory for a mailbox of {allocated} entries: lower its capacity")
    if ring.count:
        copy_entries(ring, entries)
    PyMem_Free(ring.entries)
    ring.entries, ring.allocated, ring.head = entries, allocated, 0
    return 0


cdef void ring_clear(Ring* ring) noexcept:
    cdef Ring gone = ring[0]
    cdef Entry entry
    ring_init(ring, gone.capacity, gone.policy)
    while gone.count:
        ring_take(&gone, &entry)
        entry_release(&entry)
    PyMem_Free(gone.entries)


cdef int entry_visit(const Entry* entry, visitproc visit, void* arg) noexcept:
    """Py_VISIT of the three references; what `visit` answers when it wants to stop."""
    cdef int stop = visit(entry.message, arg)
    if stop == 0 and entry.sender != NULL:
        stop = visit(entry.sender, arg)
    if stop == 0 and entry.extra != NULL:
        stop = visit(entry.extra, arg)
    return stop


cdef int ring_visit(const Ring* ring, visitproc visit, void* arg) noexcept:
    cdef uint32_t offset, index
    cdef int stop
    for offset in range(ring.count):
        index = ring.head + offset
        stop = entry_visit(&ring.entries[index if index < ring.allocated else index - ring.allocated], visit, arg)
        if stop:
            return stop
    return 0


# ---- Mailbox ---------------------------------------------------------------------------------------------------------

cdef tuple entry_tuple(Entry* entry):
    """An entry as Python sees it. Steals its references."""
    cdef object message = steal(entry.message)
    cdef object sender = steal(entry.sender) if entry.sender != NULL else None
    cdef object extra = steal(entry.extra) if entry.extra != NULL else None
    return message, sender, extra, entry.tag


cdef PyObject* or_null(object value) noexcept:
    """Borrowed: None is kept as nothing at all."""
    return NULL if value is None else <PyObject*> value


cdef class Mailbox:
    """A bounded first-in-first-out queue of (message, sender, extra, tag).

    ``capacity`` is the number of messages that may wait (1 … 2147483647), ``policy`` what happens to one more. Raises
    TypeError or ValueError for a capacity beyond that, ValueError for a policy that does not exist.
    """

    def __cinit__(self, capacity, policy=Policy.BLOCK):
        ring_init(&self.ring, whole(capacity, "capacity", 1, RING_MOST), Policy(policy))

    def __dealloc__(self):
        ring_clear(&self.ring)

    def __len__(self):
        return self.ring.count

    def __sizeof__(self):
        return object.__sizeof__(self) + self.ring.allocated * sizeof(Entry)

    @property
    def capacity(self):
        """Messages that may wait at most."""
        return self.ring.capacity

    @property
    def allocated(self):
        """Messages that there is memory for at this moment; 0 before the first one."""
        return self.ring.allocated

    @property
    def policy(self):
        """What a full mailbox does with one more message."""
        return Policy(self.ring.policy)

    def push(self, message, sender=None, extra=None, uint64_t tag=0):
        """Append a message; answers (verdict, the entry that had to go or None).

        ``tag`` is a number of 64 bits without a sign. Raises MemoryError, and then nothing was kept.
        """
        cdef Entry dropped
        cdef int verdict = ring_push(&self.ring, <PyObject*> message, or_null(sender), or_null(extra), tag, &dropped)
        if verdict == RING_ACCEPTED:
            return accepted
        if verdict == RING_FULL:
            return full
        return dropped_oldest, entry_tuple(&dropped)

    def pop(self):
        """The oldest entry, (message, sender, extra, tag), or None when nothing waits."""
        cdef Entry entry
        return entry_tuple(&entry) if ring_pop(&self.ring, &entry) else None

    def clear(self):
        """Drop everything that waits and free the memory; answers how many messages that were."""
        cdef uint32_t count = self.ring.count
        ring_clear(&self.ring)
        return count


# ---- Garbage collection: the ring is shown to the collector, beside what Cython's own slots show ---------------------

cdef PyTypeObject* mailbox_type = <PyTypeObject*> Mailbox
cdef traverseproc traverse_fields = mailbox_type.tp_traverse
cdef inquiry clear_fields = mailbox_type.tp_clear


cdef int mailbox_traverse(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef int stop = ring_visit(&(<Mailbox> self).ring, visit, arg)
    return stop if stop else traverse_fields(self, visit, arg)


cdef int mailbox_clear(object self) noexcept:
    ring_clear(&(<Mailbox> self).ring)
    return clear_fields(self)


mailbox_type.tp_traverse = <traverseproc> mailbox_traverse
mailbox_type.tp_clear = <inquiry> mailbox_clear
