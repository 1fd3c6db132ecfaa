"""The beat of a process beside its links. See heart.pxd, and beat.h for the datagram."""

cimport cython
from libc.stdint cimport uint16_t, uint32_t

KEY_SIZE = BEAT_KEY
MOST_SLOTS = BEAT_SLOTS


@cython.final
cdef class Heart:
    """Beats from its making until ``close``. Takes over ``fd``, a bound datagram socket. Raises OSError."""

    def __cinit__(self, int fd, double interval):
        self.heart = beat_start(fd, <int64_t>(interval * 1e9))
        if self.heart is NULL:
            raise OSError("there is no memory, descriptor or thread for the heartbeat")

    def __dealloc__(self):
        if self.heart is not NULL:
            beat_stop(self.heart)

    def close(self):
        """Beat no more; afterwards every other call does nothing."""
        heart, self.heart = self.heart, NULL
        if heart is not NULL:
            beat_stop(heart)

    def turn(self):
        """The event loop turns."""
        if self.heart is not NULL:
            beat_turn(self.heart)

    def expect(self, uint32_t slot, bytes key):
        """Beats with this slot as their id come under ``key`` from now on."""
        check_key(key)
        if self.heart is not NULL and beat_expect(self.heart, slot, key):
            raise ValueError(f"slot {slot}: 0 to {BEAT_SLOTS - 1} are possible")

    def send_to(self, uint32_t slot, str host, uint16_t port, uint32_t id, bytes key):
        """Send beats there. Answers whether that address can be sent to."""
        check_key(key)
        return self.heart is not NULL and not beat_send_to(self.heart, slot, host.encode(), port, id, key)

    def forget(self, uint32_t slot):
        """Neither send nor take in beats of that slot."""
        if self.heart is not NULL:
            beat_forget(self.heart, slot)

    def last(self, uint32_t slot):
        """(age in ns, ns for which the peer's loop had stood then, its count of turns) of the last beat, or None."""
        cdef beat_pulse pulse
        if self.heart is NULL or not beat_last(self.heart, slot, &pulse):
            return None
        return pulse.age_ns, pulse.standing_ns, pulse.turns

    def take_in(self, bytes datagram):
        """One datagram, as though it had come by the socket: for tools and tests."""
        if self.heart is not NULL:
            beat_take_in(self.heart, datagram, len(datagram))

    @property
    def dropped(self):
        """Datagrams that were not what they should be."""
        return 0 if self.heart is NULL else beat_dropped(self.heart)


cdef int check_key(bytes key) except -1:
    if len(key) != BEAT_KEY:
        raise ValueError(f"a key of {len(key)} bytes, {BEAT_KEY} are due")
    return 0


def siphash(bytes key, bytes data):
    """SipHash-2-4 of ``data``: what signs a beat."""
    check_key(key)
    return beat_siphash(key, data, len(data))
