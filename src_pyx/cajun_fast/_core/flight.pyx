"""What happened to messages, the last of it. See flight.pxd."""

from libc.stdlib cimport free, malloc

STAGES = {
    SENT: "sent", ARRIVED: "arrived", HANDLED: "handled", FAILED: "failed", TURNED_AWAY: "turned-away",
    CAME_BACK: "came-back", LET_GO: "let-go", UNKNOWN: "unknown", UNSEEN: "unseen", VOIDED: "voided",
    ENDED: "ended",
}


cdef class Flight:
    """The last ``capacity`` notes, rounded up to a power of two; 0 notes nothing."""

    def __init__(self, Py_ssize_t capacity=4096):
        if capacity <= 0 or self.notes is not NULL:
            return
        self.capacity = 1
        while self.capacity < capacity:
            self.capacity *= 2
        self.notes = <Note *>malloc(self.capacity * sizeof(Note))
        if self.notes is NULL:
            raise MemoryError
        self.names = [None] * self.capacity

    def __dealloc__(self):
        free(self.notes)

    cdef int note(self, int stage, int detail, str node, uint64_t stream, uint64_t sequence, str target,
                  int64_t at) except -1:
        cdef Note *note
        if self.capacity == 0:
            return 0
        note = &self.notes[self.noted & (self.capacity - 1)]
        note.at = at
        note.stream = stream
        note.sequence = sequence
        note.stage = stage
        note.detail = detail
        self.names[self.noted & (self.capacity - 1)] = (node, target)
        self.noted += 1
        return 0

    @property
    def oldest_ns(self):
        """When the oldest note that is kept was made; 0 before the first was written over: nothing is forgotten."""
        if self.noted <= <uint64_t>self.capacity:
            return 0
        return self.notes[self.noted & (self.capacity - 1)].at

    def find(self, node, uint64_t stream, uint64_t sequence):
        """All notes on one message, the oldest first, as `last` gives them. ``node``: None for messages of this one."""
        cdef uint64_t i
        cdef Note *note
        found = []
        for i in range(self.noted - min(self.noted, <uint64_t>self.capacity), self.noted):
            note = &self.notes[i & (self.capacity - 1)]
            if note.sequence == sequence and note.stream == stream:
                if self.names[i & (self.capacity - 1)][0] == node:
                    found.append(self.row(i))
        return found

    def last(self, Py_ssize_t most, target=None):
        """The newest first: (stage, detail, node, stream, sequence, target, ns); those of one target where it is given."""
        cdef uint64_t i = self.noted
        found = []
        while i > self.noted - min(self.noted, <uint64_t>self.capacity) and len(found) < most:
            i -= 1
            if target is None or self.names[i & (self.capacity - 1)][1] == target:
                found.append(self.row(i))
        return found

    def row(self, uint64_t number):
        """One note."""
        cdef Note *note = &self.notes[number & (self.capacity - 1)]
        node, target = self.names[number & (self.capacity - 1)]
        return STAGES[note.stage], note.detail, node, note.stream, note.sequence, target, note.at


cdef str message_id(str node, uint64_t life, uint64_t stream, uint64_t sequence):
    return f"{node}/{life}/{stream}/{sequence}" if life and sequence else None
