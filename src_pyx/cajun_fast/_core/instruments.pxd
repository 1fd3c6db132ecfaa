# What the core counts and measures. Counters are plain fields, raised where the thing happens; times are taken of a
# sample only, and each measured value is recorded with the number of messages that it stands for.
#
#   Histogram  whole numbers in buckets, 32 to each doubling (so within 3 %): one array, nothing is allocated to record
#   Tally      the actors of one type on one node
#   Sampler    which messages are measured: one in `every`, a power of two that follows the load. At a few thousand
#              messages a second each is measured; at millions one in a thousand, and the cost stays the same
#   Mark       what is remembered of such a message on its way: handed over in `Exchange.mark`, kept in the mailbox
#
#   one message in `every`:  Sampler.due ─▶ Mark in Exchange.mark ─▶ Cell (ring, then Context.mark) ─▶ Tally, Flight

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    SUB_BITS = 5                        # 32 buckets to each doubling
    VALUE_BITS = 43                     # larger values (2.4 hours in ns) count into the last bucket
    EVERY_MOST = 1 << 20                # the sparsest sample
    BUCKETS = (VALUE_BITS - SUB_BITS + 1) << SUB_BITS

cdef extern from *:
    """
    static inline int cajun_bit_length(unsigned long long value)
    { return value ? 64 - __builtin_clzll(value) : 0; }
    """
    int bit_length "cajun_bit_length"(uint64_t value) noexcept nogil

cdef inline int bucket_of(int64_t value) noexcept nogil:
    if value <= 0:
        return 0
    cdef int shift = bit_length(<uint64_t>value) - SUB_BITS - 1
    if shift <= 0:
        return <int>value
    if shift > VALUE_BITS - SUB_BITS - 1:
        return BUCKETS - 1
    return (shift << SUB_BITS) + <int>(value >> shift)

@cython.final
@cython.no_gc
cdef class Histogram:
    cdef readonly uint64_t count
    cdef readonly double total          # the sum of all values
    cdef readonly int64_t largest
    cdef uint64_t buckets[BUCKETS]

    cdef inline void add(self, int64_t value, uint64_t times) noexcept nogil:
        self.buckets[bucket_of(value)] += times
        self.count += times
        if value > 0:
            self.total += <double>value * times
            if value > self.largest:
                self.largest = value

@cython.final
cdef class Tally:
    cdef readonly str type
    cdef readonly Py_ssize_t actors
    cdef readonly uint64_t handled
    cdef readonly uint64_t failed
    cdef readonly Histogram latency     # ns, mailbox's door to handler's end
    cdef readonly Histogram handling    # ns, the handler

@cython.final
cdef class Mark:
    cdef readonly int64_t at            # ns: when the message came to this node's mailbox, or was told here
    cdef readonly int64_t begun         # ns: its handler; 0 before
    cdef readonly uint32_t weight       # messages that it stands for
    cdef readonly str node              # who numbered it; None: it came by no link
    cdef readonly uint64_t life         # of that node: its incarnation
    cdef readonly uint64_t stream, sequence
    cdef readonly bytes trace           # W3C trace context, 25 bytes, or None
    cdef public object span             # the tracer's own
    cdef object mail                    # of a durable actor: its gate is told of begin and end; None for all others

@cython.final
cdef class Sampler:
    cdef readonly uint32_t every        # a power of two; 0: nothing is measured
    cdef uint32_t left                  # messages until the next one; its steps vary, so that no rhythm is met
    cdef uint32_t step
    cdef uint32_t taken                 # since the last `settle`
    cdef readonly uint32_t budget       # measured messages between two `settle`

    # Whether to measure this one, which is told on this node. Once in `every` calls on average.
    cdef inline bint due(self) noexcept:
        self.left -= 1
        return self.left == 0

    # The same by its number on a link: both ends measure the same messages, as far as the busier one measures.
    cdef inline bint picks(self, uint64_t sequence) noexcept:
        return (sequence * <uint64_t>0x9E3779B97F4A7C15 >> 40 & (self.every - 1)) == 0

    # One more is measured; where the budget is used up, only every second of them is from now on.
    cdef inline void spend(self) noexcept:
        self.taken += 1
        if self.taken >= self.budget and self.every < EVERY_MOST:
            self.every *= 2
            self.taken = 0

    cdef Mark take(self, int64_t now)   # None where it is off

cdef Mark mark_at(int64_t now)          # one that is not counted: its message is traced
