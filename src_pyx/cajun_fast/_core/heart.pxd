# Heart: this process's beat beside its links, from a thread that needs no GIL. The thread, the datagram and their laws
# are in beat.h; this is their Python face.
#
#   event loop ── turn() ──▶ ┌───────┐ ── a datagram an interval ──▶ peers: "I live; my loop turned so long ago"
#                            │ beat.c│
#   judgement ◀── last() ─── └───────┘ ◀── their datagrams
#
# A handler that blocks the loop, or an extension that holds the GIL, stops `turn`; it stops neither the sending nor the
# taking in. Slots are small numbers, one a peer, of the caller's choice.

cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "_core/beat.h" nogil:
    enum:
        BEAT_KEY
        BEAT_SLOTS
    ctypedef struct beat_heart:
        pass
    ctypedef struct beat_pulse:
        int64_t age_ns
        int64_t standing_ns
        uint64_t turns
        uint64_t number
    beat_heart *beat_start(int fd, int64_t interval_ns)
    void beat_stop(beat_heart *heart)
    void beat_turn(beat_heart *heart)
    int beat_expect(beat_heart *heart, uint32_t slot, const unsigned char *key)
    int beat_send_to(beat_heart *heart, uint32_t slot, const char *host, uint16_t port, uint32_t id,
                     const unsigned char *key)
    void beat_forget(beat_heart *heart, uint32_t slot)
    int beat_last(beat_heart *heart, uint32_t slot, beat_pulse *pulse)
    void beat_take_in(beat_heart *heart, const unsigned char *beat, Py_ssize_t size)
    uint64_t beat_dropped(beat_heart *heart)
    uint64_t beat_siphash(const unsigned char *key, const unsigned char *data, size_t size)

@cython.final
cdef class Heart:
    cdef beat_heart *heart              # NULL once closed
