# A message that is numbered for one actor, from its sender to the commit: on the wire, in the mailbox, in the gate.
#
#   on the wire   a TELL or ASK record with the flag NUMBERED, whose payload is
#                   flags u16 | stream's name: length u16 | node: length u16 | 0 u16 | deadline ms u64 (0: none) |
#                   number u64 | low u64 | name | node | the message
#   stream        who numbered it: one life of a node, or one life of a durable actor (its outbox), for one target
#   number        rises by one; 0 asks where the target stands
#   low           the lowest number that the sender still keeps: whatever lies below it is settled
#   node          where news of the commit goes
#
# `Mail` answers for the message: an answer that is given before the commit is kept until then and goes with it.

cimport cython
from libc.stdint cimport int64_t, uint64_t
from cajun_fast._core.codec cimport Serializer
from cajun_fast._core.instruments cimport Mark
from cajun_fast._core.lane cimport Exchange, Pid
from cajun_fast._core.ports cimport Gate, Inbox, Replies

cdef enum MailFlag:
    VOID_MAIL = 1               # it takes up its number and means nothing: its sender was told why

cdef enum MailState:
    MAIL_NEW = 0                # in the mailbox, or its handler runs
    MAIL_DONE = 1               # handled, or let go: waits for the commit
    MAIL_COMMITTED = 2

@cython.final
cdef class Mail(Replies):
    cdef readonly str stream
    cdef readonly uint64_t number, low
    cdef readonly bint void
    cdef readonly object message
    cdef Pid sender
    cdef Replies replies        # where an answer goes in the end; None for a tell
    cdef uint64_t tag
    cdef int64_t deadline       # ns of this node's clock, 0: none
    cdef Gate gate              # that admitted it
    cdef int state
    cdef bint changed           # its handler changed the state or told somebody something
    cdef readonly object answered       # None, or (True, encoded value) or (False, encoded error)
    cdef object value           # the same, for now: what goes out in this life of the owner
    cdef readonly list told     # what its handler has told: (target, guarantee, bytes, trace); None for nothing
    cdef object trace           # bytes of a frame's TRACE option, or None
    cdef object failure         # its handler ended well and its state cannot be kept: the answer is this error

    cdef int reply_now(self) except -1

cdef Mail parse_mail(const unsigned char *data, Py_ssize_t size, Serializer serializer, Exchange exchange)
cdef bytes mail_header(str stream, str node, uint64_t number, uint64_t low, int flags, int64_t milliseconds)
cdef uint64_t number_in(bytes payload) except? 0

# Numbers that volatile actors of this node have seen: what a durable one tells them comes again after a crash of its
# node, and is handled once as long as this node lives.
cdef class Volatile:
    cdef Exchange exchange
    cdef object seen            # ordered: (target, stream) -> highest number; bounded

    cdef Mark mark(self, Mail mail)
    cdef int take(self, Inbox inbox, Mail mail) except -1
