# The flight recorder: what happened to messages on this node, by their identity (sender node, stream, sequence).
#
#   Exchange.flight   stages of the messages that are measured (one in Sampler.every): sent, arrived, handled
#   Exchange.losses   every refusal and every end without a handler, measured or not: these are slow paths
#
# A ring: bounded, the oldest notes are written over. One note is a few words and two borrowed names; nothing is
# allocated for it. The numbers alone say the rest: what a link has acknowledged and nobody noted was taken.

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum Stage:
    SENT = 1            # given a number, kept until acknowledged
    ARRIVED = 2         # decoded, on its way into the mailbox
    HANDLED = 3         # its handler has ended
    FAILED = 4          # its handler has raised
    TURNED_AWAY = 5     # this node refused it; detail: the verdict
    CAME_BACK = 6       # the peer refused it, and it looks for another way or has ended; detail: the verdict
    LET_GO = 7          # it was taken and let go: by the mailbox's policy, its deadline, the actor's end
    UNKNOWN = 8         # its peer was lost while it had no verdict: it may have been handled
    UNSEEN = 9          # its peer was lost before it can have seen it: it looks for another way
    VOIDED = 10         # ended here before it ever left: its deadline, or an open breaker
    ENDED = 11          # it had left, came back and found no other way: an error to its sender, or a dead letter

cdef struct Note:
    int64_t at          # ns of the node's clock, coarse
    uint64_t stream
    uint64_t sequence
    uint8_t stage
    uint8_t detail

cdef class Flight:
    cdef Note *notes
    cdef list names     # (node that numbered it or None for this one, target) of each note
    cdef readonly Py_ssize_t capacity   # a power of two, or 0: nothing is noted
    cdef readonly uint64_t noted        # since the start

    cdef int note(self, int stage, int detail, str node, uint64_t stream, uint64_t sequence, str target,
                  int64_t at) except -1

# A message's identity as text: what dead letters and errors say, and `explain` reads (cluster/fate.py). None for a node
# without a life: it is no member of a cluster, and nobody could be asked.
cdef str message_id(str node, uint64_t life, uint64_t stream, uint64_t sequence)
