"""The seams of the core for Python: an Inbox, a Wire and a way to answer, for tests and tools.

Owns nothing; each method hands on what the compiled method of the same meaning was called with.
"""

from libc.stdint cimport int64_t, uint64_t

from cajun_fast._core.ports cimport DROPPED, EXPIRED, FULL, MOVING, NOT_HERE, TAKEN, Inbox, Replies
from cajun_fast._core.outbound cimport Wire

VERDICTS = {"TAKEN": TAKEN, "FULL": FULL, "NOT_HERE": NOT_HERE, "DROPPED": DROPPED, "MOVING": MOVING, "EXPIRED": EXPIRED}


cdef class PyInbox(Inbox):
    """Subclass ``on_message``; it returns a number of VERDICTS."""

    cdef readonly list listeners

    def __cinit__(self, *args, **options):
        self.listeners = []

    cdef int deliver(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                     bint direct) except -1:
        return self.on_message(message, sender, replies, tag, deadline)

    def on_message(self, message, sender, replies, tag, deadline):
        """One message; the verdict."""
        raise NotImplementedError

    cpdef call_when_room(self, object listener):
        """Keep ``listener`` until ``announce_room``."""
        self.listeners.append(listener)

    def announce_room(self):
        """Tell all who wait for room."""
        listeners, self.listeners = self.listeners, []
        for listener in listeners:
            listener.on_room()


cdef class PyWire(Wire):
    """Subclass ``on_wake``, ``on_push`` and ``is_over``."""

    cdef int wake(self) except -1:
        self.on_wake()
        return 0

    cdef int push(self) except -1:
        self.on_push()
        return 0

    cdef bint turn_over(self) noexcept:
        return self.is_over()

    def on_wake(self):
        """There is something to collect."""

    def on_push(self):
        """A batch is full."""

    def is_over(self):
        """Whether to stop reading for now."""
        return False


def answer(Replies replies, tag, value):
    """Answer an ask as a cell does."""
    replies.answer(tag, value)


def fault(Replies replies, tag, error):
    """Fail an ask as a cell does."""
    replies.fault(tag, error)
