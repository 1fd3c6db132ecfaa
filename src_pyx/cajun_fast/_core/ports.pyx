"""Seams of the compiled core: abstract classes that cells and links implement. See ports.pxd."""


cdef class Tracer:
    """Makes spans of messages."""

    cdef bint sampled(self) except -1:
        return False


cdef class Replies:
    """Where the answer to an ask goes."""

    cdef int answer(self, uint64_t tag, object value) except -1:
        raise NotImplementedError

    cdef int fault(self, uint64_t tag, object error) except -1:
        raise NotImplementedError


cdef class Nobody(Replies):
    """Whoever asked is gone: answers go nowhere."""

    def __init__(self, str node):
        self.node = node

    cdef int answer(self, uint64_t tag, object value) except -1:
        return 0

    cdef int fault(self, uint64_t tag, object error) except -1:
        return 0


cdef class Inbox:
    """What a message to a local actor is put into."""

    cdef int deliver(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                     bint direct) except -1:
        raise NotImplementedError

    cpdef call_when_room(self, object listener):
        """Call ``listener.on_room()`` once there is room again."""
        raise NotImplementedError

    cpdef bint has_room(self):
        """Whether a message would be taken now."""
        return True

    cdef int deliver_numbered(self, object mail) except -1:
        raise NotImplementedError

    cdef void weigh(self, Py_ssize_t size) noexcept:
        pass

    cdef bint is_durable(self) noexcept:
        return False


cdef class Gate:
    """What stands between a durable actor and the rest."""

    cdef int admit(self, object mail) except -1:
        raise NotImplementedError

    cdef int begin(self, object mail) except -1:
        raise NotImplementedError

    cdef int handled(self, object mail, object error) except -1:
        raise NotImplementedError

    cdef int let_go(self, object mail, str reason) except -1:
        raise NotImplementedError

    cdef bint hold(self, object lane, object message, int guarantee) except -1:
        raise NotImplementedError


cdef class Carrier:
    """A way to another node."""

    cdef int post(self, object lane, int kind, int guarantee, object message, object sender, uint64_t tag,
                  Replies origin, int64_t deadline, object waiter, bint encoded) except -1:
        raise NotImplementedError

    cpdef call_when_room(self, object listener):
        """Call ``listener.on_room()`` once there is room again."""
        raise NotImplementedError

    cpdef bint has_room(self):
        """Whether a message would be taken now."""
        return True

    cpdef bint has_room_for(self, object lane):
        """Whether a message of ``lane`` would be taken now."""
        return self.has_room()

    def last_of(self, lane):
        """The number of the last message that ``lane`` sent this way; 0: none that is known."""
        return 0

    cpdef bint hold(self, object lane):
        """Whether messages of ``lane`` are on their way; then it is told when they have their verdicts."""
        return False
