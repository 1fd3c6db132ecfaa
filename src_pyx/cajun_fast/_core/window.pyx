"""Send and receive windows: numbering, keeping, acknowledging, refusing.

Own the numbers of one lane in one direction and the bytes that may have to go again; know nothing of actors, time or
sockets.
"""

from collections import deque

from libc.string cimport memcpy

from cajun_fast._core.frame cimport DATA, FRAME_FULL, FRAME_HEADER, get_header, put_header
from cajun_fast._core.outbuf cimport OutBuf, Slab
from cajun_fast._core.ports cimport NAME
from cajun_fast._core.wire cimport load_le32, store_le32

from cajun_fast.errors import ProtocolError

cdef enum:
    SPARE_SLABS = 4
    SMALL_WRITE = 1024                  # bytes up to which a copy is cheaper than a view


cdef class SendWindow:
    """What was sent and is not yet acknowledged. ``limit`` in bytes."""

    def __init__(self, Py_ssize_t limit=8 << 20, Py_ssize_t slab_size=256 << 10):
        self.limit = limit
        self.slab_size = slab_size
        self.next_seq = 1
        self.slabs = []
        self.spare = []
        self.frame_at = -1

    cdef unsigned char *open_record(self, Py_ssize_t size, bint numbered) except NULL:
        cdef Slab slab = self.current
        cdef unsigned char *at
        if slab is None or slab.capacity - slab.used < size + FRAME_HEADER:
            self.close_frame()
            self.new_slab(size + FRAME_HEADER)
            slab = self.current
        elif self.frame_at >= 0 and slab.used - self.frame_at > FRAME_FULL:
            self.close_frame()
        if self.frame_at < 0:
            self.frame_at = slab.used
            self.frame_seq = self.next_seq
            slab.used += FRAME_HEADER
            self.unflushed += FRAME_HEADER
            self.retained += FRAME_HEADER
        at = slab.data + slab.used
        store_le32(at, <uint32_t>(size - 4))
        slab.used += size
        self.unflushed += size
        self.retained += size
        if numbered:
            slab.last_seq = self.next_seq
            self.next_seq += 1
        return at

    cdef int new_slab(self, Py_ssize_t least) except -1:
        cdef Slab slab
        if least <= self.slab_size and self.spare:
            slab = self.spare.pop()
        else:
            slab = Slab(max(least, self.slab_size))
        self.slabs.append(slab)
        self.current = slab
        return 0

    cdef void close_frame(self) noexcept:
        cdef Slab slab = self.current
        if self.frame_at >= 0:
            put_header(slab.data + self.frame_at, DATA, <uint32_t>(slab.used - self.frame_at - FRAME_HEADER),
                       self.frame_seq)
            self.frame_at = -1

    cdef int collect(self, list out) except -1:
        """Views of everything not yet handed over, oldest first."""
        cdef Slab slab
        cdef Py_ssize_t i = len(self.slabs) - 1
        if self.unflushed == 0:
            return 0
        self.close_frame()
        while i > 0 and (<Slab>self.slabs[i - 1]).written < (<Slab>self.slabs[i - 1]).used:
            i -= 1
        for i in range(i, len(self.slabs)):
            slab = <Slab>self.slabs[i]
            if slab.written < slab.used:
                out.append(slab.view(slab.written, slab.used))
                slab.written = slab.used
        self.unflushed = 0
        if self.next_seq - 1 > self.flushed:
            self.flushed = self.next_seq - 1
        return 0

    cdef bint collect_small(self, OutBuf out) except -1:
        """A copy of everything not yet handed over into ``out``, where that is little and lies in one piece: one buffer
        costs a transport less than two."""
        cdef Slab slab = self.current
        cdef Py_ssize_t size = self.unflushed
        if size > SMALL_WRITE or slab is None or slab.used - slab.written != size:
            return False
        self.close_frame()
        memcpy(out.room(size), slab.data + slab.written, size)
        out.used += size
        slab.written = slab.used
        self.unflushed = 0
        if self.next_seq - 1 > self.flushed:
            self.flushed = self.next_seq - 1
        return True

    cdef int ack(self, uint64_t seq) except -1:
        """Everything up to ``seq`` has its verdict. Raises ProtocolError for a number that was never sent."""
        if seq > self.flushed:
            raise ProtocolError(f"an acknowledgement of {seq}, when only {self.flushed} was sent")
        if seq >= self.acked and self.slabs:    # equal: what was sent again has been written since
            self.acked = seq
            self.release()
        return 0

    cdef int release(self) except -1:
        cdef Slab slab
        cdef Py_ssize_t done = 0
        for item in self.slabs:
            slab = <Slab>item
            if slab.last_seq > self.acked or slab.written < slab.used:
                break
            if slab is self.current and (slab.views or self.frame_at >= 0):
                break
            done += 1
            self.retained -= slab.used
            if slab is self.current:
                self.current = None
            if not slab.views and slab.capacity == self.slab_size and len(self.spare) < SPARE_SLABS:
                slab.reset()
                self.spare.append(slab)
        if done:
            del self.slabs[:done]
            self.sought = None
        return 0

    cdef unsigned char *find(self, uint64_t seq, Py_ssize_t *size) noexcept:
        cdef Slab slab
        cdef unsigned char *record
        self.close_frame()                  # after a rewind what was flushed may stand in a frame that is still open
        if seq <= self.acked or seq > self.flushed:      # above it a frame may still be open
            return NULL
        if self.sought is not None and self.sought_seq < seq <= self.sought.last_seq:
            record = self.seek(seq, size)   # refusals come in rising order: go on where the last one was found
            if record is not NULL:
                return record
        for item in self.slabs:
            slab = <Slab>item
            if slab.last_seq < seq:
                continue
            self.sought = slab
            self.sought_at = self.sought_end = 0
            self.sought_seq = 0
            record = self.seek(seq, size)
            if record is not NULL:
                return record
        return NULL

    cdef unsigned char *seek(self, uint64_t seq, Py_ssize_t *size) noexcept:
        cdef unsigned char *record
        cdef bint numbered
        while next_record(self.sought, &self.sought_at, &self.sought_end, &self.sought_seq, &record, size, &numbered):
            if numbered and self.sought_seq == seq:
                return record
        self.sought = None
        return NULL

    cdef list unseen(self):
        self.close_frame()
        return [slab for slab in self.slabs if (<Slab>slab).last_seq > self.flushed]

    cdef list rewind(self):
        cdef list slabs = self.slabs
        self.close_frame()
        self.sought = None
        self.slabs = []
        self.current = None
        self.retained = 0
        self.unflushed = 0
        self.next_seq = self.acked + 1
        return slabs


cdef bint next_record(Slab slab, Py_ssize_t *at, Py_ssize_t *body_end, uint64_t *seq, unsigned char **record,
                      Py_ssize_t *size, bint *numbered) noexcept:
    # On entry *seq is the number of the record before; frames set it anew.
    if at[0] >= body_end[0]:
        if at[0] + FRAME_HEADER > slab.used:
            return False
        header = get_header(slab.data + at[0])
        at[0] += FRAME_HEADER
        body_end[0] = at[0] + header.length
        seq[0] = header.sequence - 1
        if at[0] >= body_end[0]:
            return False
    size[0] = load_le32(slab.data + at[0])
    record[0] = slab.data + at[0] + 4
    numbered[0] = record[0][4] != NAME
    if numbered[0]:
        seq[0] += 1
    at[0] += 4 + size[0]
    return True


cdef class ReceiveWindow:
    """What has come, up to where, and what of it was refused."""

    def __init__(self):
        self.refusals = deque()
        self.news = []

    cdef int refuse(self, uint64_t seq, int verdict, object hint, object id) except -1:
        if len(self.refusals) >= REFUSALS_MOST:
            raise ProtocolError(f"{REFUSALS_MOST} messages were refused and the sender has confirmed none of it")
        refusal = (seq, verdict, hint, id)
        self.refusals.append(refusal)
        self.news.append(refusal)
        return 0

    cdef list untold(self):
        news = self.news
        self.news = []
        return news

    cdef int restart(self) except -1:
        self.news = list(self.refusals)
        return 0

    cdef list confirm(self, uint64_t seq):
        done = []
        while self.refusals and self.refusals[0][0] <= seq:
            done.append(self.refusals.popleft())
        if done and self.news:              # told on an earlier connection, due again on this one
            self.news = [refusal for refusal in self.news if refusal[0] > seq]
        return done
