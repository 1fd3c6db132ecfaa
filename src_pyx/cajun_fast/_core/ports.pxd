# The seams between the rooms of the compiled core, as classes with empty methods: lanes call through these, so that
# neither actors nor links need to be known to them (and no two modules cimport each other).
#
#   Lane ──▶ Inbox    a local actor's cell                     (cell.pyx implements it)
#        └─▶ Carrier  the link to the node where the actor lives (link.pyx)
#   Cell ──▶ Replies  where the answer to an ask goes: the asks of this node, or the link it came by
#
# Verdicts are ints, 0 is always "taken".

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum Verdict:
    TAKEN = 0       # it stands in the mailbox / in the send window: this party's duty now
    FULL = 1        # bounded room is used up; nothing was kept
    NOT_HERE = 2    # no such actor here (stopped, never started, moved)
    GONE = 3        # the link has ended: find the way again
    DROPPED = 4     # taken and let go by the mailbox's policy; the cell has made a dead letter of it
    UNREADABLE = 5  # the payload cannot be decoded here
    MOVING = 6      # the actor is being handed over: park and ask again
    EXPIRED = 7     # its deadline passed
    FORBIDDEN = 8   # the peer may not do this
    TOO_LARGE = 9   # over the largest message that is taken here
    DURABLE = 10    # the actor is durable: what is for it must be numbered for it (durable.pxd), then it is taken

cdef enum Kind:
    NAME = 0        # unnumbered: binds a link name to an actor id
    TELL = 1
    ASK = 2
    REPLY = 3
    FAULT = 4
    VOID = 5        # takes up its number and means nothing: its message was told as failed before it ever left

# Whoever makes spans of the messages that are traced: tracing.pxd. An exchange without one traces nothing.
cdef class Tracer:
    cdef bint sampled(self) except -1       # whether a span that is sampled is current

cdef class Replies:
    cdef readonly str node              # where the asker is
    cdef int answer(self, uint64_t tag, object value) except -1
    cdef int fault(self, uint64_t tag, object error) except -1

cdef class Nobody(Replies):             # of an asker that is gone
    pass

cdef class Inbox:
    # `direct`: the caller is at the bottom of the stack, so that the handler may run before this returns.
    # Never raises for what a handler did. `sender` is a Pid or None; `replies` and `tag` are None and 0 for a tell;
    # `deadline` in nanoseconds of the system's clock, 0 for none. Returns a Verdict.
    cdef int deliver(self, object message, object sender, Replies replies, uint64_t tag, int64_t deadline,
                     bint direct) except -1
    # After a FULL: call `listener.on_room()` once, soon after there is room again (Cell: drained to half).
    cpdef call_when_room(self, object listener)
    cpdef bint has_room(self)

    # A message that is numbered for this actor (a Mail, see mail.pxd). Returns a Verdict.
    cdef int deliver_numbered(self, object mail) except -1
    # A message with so many bytes of payload came by a link, while Exchange.weighing is on.
    cdef void weigh(self, Py_ssize_t size) noexcept
    # Whether only what is numbered for it is taken here.
    cdef bint is_durable(self) noexcept

# What stands between a durable actor and the rest: gate.pxd. Cells call it; `mail` is a Mail.
cdef class Gate:
    cdef int admit(self, object mail) except -1                     # a Verdict
    cdef int begin(self, object mail) except -1                     # its handler begins
    cdef int handled(self, object mail, object error) except -1     # its handler has ended, with an error or None
    cdef int let_go(self, object mail, str reason) except -1        # it leaves the mailbox unhandled
    # The handler that runs tells something: True if that waits for the commit.
    cdef bint hold(self, object lane, object message, int guarantee) except -1

cdef class Carrier:
    cdef readonly str peer              # id of the node at the other end
    # Number, encode and keep a message until it is acknowledged. TAKEN, FULL (bounded window) or GONE.
    # `lane` and `sender` are Lanes (sender may be None); `origin` is the Replies of a forwarded ask or None;
    # `waiter` is a future told when the far mailbox has it, or None; `encoded`: message is bytes of the payload.
    # Raises SerializationError or MessageTooLargeError, and then nothing was changed.
    cdef int post(self, object lane, int kind, int guarantee, object message, object sender, uint64_t tag,
                  Replies origin, int64_t deadline, object waiter, bint encoded) except -1
    # After a FULL: as Inbox.
    cpdef call_when_room(self, object listener)
    cpdef bint has_room(self)
    cpdef bint has_room_for(self, object lane)  # whether a message of this lane would be taken now
    # The way to this lane's actor is about to change. True: messages of it are on their way here; the lane is handed to
    # `returned_all` and `look_again` when all of them have their verdict. False: none are, it may change at once.
    cpdef bint hold(self, object lane)
