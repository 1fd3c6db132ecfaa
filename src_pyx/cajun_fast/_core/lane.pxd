# One way through for a message: Pid → Lane → (Inbox | Carrier | the lane's own waiting room).
#
#   Exchange  the switchboard of one actor system: its lanes, its local actors, its asks, its clock
#   Lane      the way to one actor id. At most one of the two is set:
#               inbox    the actor lives here
#               carrier  it lives at the other end of that link, as far as is known
#             neither: not known (yet, or any more). Messages that cannot go wait in the lane, in order, bounded.
#             A message may pass only when nothing waits: that keeps FIFO across cache hits and misses, full windows,
#             full mailboxes, refusals and moves.
#   Pid       a user's handle on a lane: cheap, hashable by id, usable inside messages
#
#             ┌────────────── tell / send / ask ──────────────┐
#             ▼                                               │ nothing waits
#   inbox.deliver ─FULL─▶ waits for room                  carrier.post ─FULL─▶ waits for the window
#             │ NOT_HERE                                      │ refused by the far node (later)
#             └────────────▶ router.resolve(lane) ◀───────────┘ returned go before waiting

from libc.stdint cimport int64_t, uint32_t, uint64_t
from cajun_fast._core.asks cimport Asks
from cajun_fast._core.flight cimport Flight
from cajun_fast._core.instruments cimport Mark, Sampler
from cajun_fast._core.locations cimport Location
from cajun_fast._core.ports cimport Carrier, Inbox, Replies, Tracer

cdef class Exchange:
    cdef readonly str node_id
    cdef public uint64_t life           # its incarnation; 0: it is no member of a cluster
    cdef readonly object loop
    cdef public object router           # port: resolve(lane), refresh(lane); see cajun_fast/actors/ports.py
    cdef public object dead_letters     # port: record(target, message, reason, sender, message_id)
    cdef readonly Asks asks
    cdef readonly object clock          # () -> int ns
    cdef public object encode           # message -> bytes, for what waits before it has a link
    cdef public object decode           # bytes -> message
    cdef readonly dict inboxes          # actor id -> Inbox: the actors of this node
    cdef public object activator        # (actor id) -> Inbox or None: starts actors that begin with their first message
    cdef object _lanes                  # WeakValueDictionary: actor id -> Lane
    cdef unsigned long thread
    cdef readonly bint is_open
    cdef public int guarantee           # the default one
    cdef public int64_t fence_at        # ns; past it nothing may run before `overdue` was asked; 0: never
    cdef public object overdue          # () -> None: may this node still act? It freezes the actors if not
    cdef public int64_t now             # coarse time in ns: set by whoever wakes, good to a tick
    cdef public Py_ssize_t waiting_limit        # messages that may wait in one lane
    cdef public Py_ssize_t waiting_bytes_limit  # encoded bytes of them, beyond which a tell has no room there
    cdef public Py_ssize_t waiting_bytes_total  # and of all lanes together
    cdef readonly Py_ssize_t waiting_bytes      # encoded bytes that wait in all lanes
    cdef public bint raise_when_full    # tell: BackpressureError (True) or a dead letter (False)
    cdef set _timers                    # delayed tells that stand
    cdef set dated                      # lanes in which a message with a deadline waits
    cdef readonly set waiting_lanes     # lanes in which anything waits
    cdef public int async_actors        # cells that run coroutines; at 0 the context variable is not asked
    cdef public object ways             # Ways (durable.pxd): how durable actors are told; None: they cannot be
    cdef public object volatile         # Volatile (mail.pxd): numbers that other actors have seen
    cdef public dict gates              # id -> Gate of the durable actors here; None while there are none
    cdef public bint weighing           # somebody looks: bytes are counted for each actor
    cdef readonly Sampler sampler
    cdef readonly Flight flight, losses # what happened to the messages that are measured; to all that did not arrive
    cdef Mark mark                      # of the message that is being handed over: a parameter that few have
    cdef public Tracer tracer           # None: no message is traced
    cdef object trace                   # W3C context of the message that is being sent: as `mark`, taken by who keeps it
    cdef readonly uint64_t ended_told   # messages that ended in a lane with an error to their sender
    cdef readonly uint64_t answers_lost # answers whose asker's node was gone, or before it had acknowledged them

    cpdef Lane lane(self, str actor_id)
    cpdef Pid pid(self, str actor_id)
    cpdef Inbox find_inbox(self, str actor_id)      # of an actor of this node, which may start by it; or None
    cdef int check(self) except -1      # right thread and open, else raises
    cdef int deliver_marked(self, Mark mark, Inbox inbox, object message, object sender, Replies replies, uint64_t tag,
                            int64_t deadline, bint direct) except -1

cdef class Waiting:                     # a message that has not found its way yet, or has come back
    cdef readonly int kind
    cdef readonly int guarantee
    cdef readonly object message        # bytes of the payload where `encoded`; a large one's Pieces within a link
    cdef readonly bint encoded
    cdef readonly Pid sender
    cdef readonly uint64_t tag
    cdef readonly Replies origin
    cdef readonly int64_t deadline
    cdef readonly object waiter
    cdef readonly object trace          # bytes of a frame's TRACE option; None for nearly all
    cdef object route                   # the span of its wait here
    cdef uint64_t stream, sequence      # the last number that a link gave it; 0: none

    cdef int leave_link(self) except -1

cdef class Lane:
    cdef object __weakref__
    cdef readonly Exchange exchange
    cdef readonly str target
    cdef readonly Inbox inbox
    cdef readonly Carrier carrier
    cdef readonly Location location     # the cache entry that `carrier` was taken from: once it is dropped, so is the way
    cdef public int64_t expires         # coarse ns; past it the router is asked to refresh
    cdef uint32_t name                  # the target's number on `named_by`: kept by the link
    cdef object named_by
    cdef object waiting                 # deque of Waiting; None when empty, so that the hot path has one test
    cdef list returned                  # refused by a node, in order; None when empty
    cdef Py_ssize_t waiting_bytes       # encoded bytes of both; messages that were not encoded count nothing
    cdef readonly bint resolving        # the router has been asked
    cdef readonly int refusals          # in a row; 0 after a success
    cdef public object hint             # node id that the last refusal named, or None
    cdef readonly bint moving           # the last refusal said MOVING: the actor lives, and is on its way elsewhere
    cdef bint refused_full              # its mailbox was full: it waits for the peer's ROOM, and for nothing else
    cdef bint flushing                  # `flush` is on the stack
    cdef bint flush_again               # … and was asked for once more
    cdef object listeners               # futures of ready(); None when empty
    cdef readonly object way            # Way (durable.pxd), once the actor is known to be durable; None for all others

    cdef int submit(self, int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                    int64_t deadline, object waiter, bint encoded) except -1
    cdef int attempt(self, int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                     int64_t deadline, object waiter, bint encoded) except -1
    cdef int deliver_traced(self, object message, object sender, Replies replies, uint64_t tag,
                            int64_t deadline) except -1
    cdef int wait(self, int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                  int64_t deadline, object waiter, bint encoded, object trace, int why) except -1
    cdef int begin_route(self, Waiting item, int why) except -1
    cdef int end_route(self, Waiting item, object error, bint told) except -1
    cdef int no_room(self, object message, Pid sender, object trace) except -1
    cdef bint is_full(self) noexcept
    cdef void count_bytes(self, Waiting item, int sign) noexcept
    cdef int find(self) except -1
    cdef int leave(self) except -1
    cdef int await_room(self) except -1
    cdef int end(self, Waiting item, object error) except -1
    cdef uint64_t last_number(self) except? 0
    cdef int tell_number(self, object span, uint64_t before) except -1
    cdef int begin_wait(self) except -1
    cdef int end_wait(self) except -1
    cdef int wake_listeners(self) except -1
    cdef int find_again(self) except -1
    cdef int take_back(self, Waiting item, int verdict, object hint) except -1
    cdef int returned_all(self, bint refused) except -1
    cdef int expire(self, int64_t now) except -1
    cdef int flush(self) except -1
    cdef int flush_waiting(self) except -1
    cdef int flush_one(self, Waiting item) except -1
    cdef Pid pid(self)

cdef Waiting waiting_of(int kind, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                        int64_t deadline, object waiter, bint encoded)

cdef class Pid:
    cdef readonly Lane lane
    cdef object __weakref__

# Send within a span of its own, where one that is sampled is current; it ends here, or with the waiter.
cdef object traced(Pid pid, str what, object message, int guarantee, Pid sender, uint64_t tag, Replies origin,
                   int64_t deadline, object waiter)

# The actor whose handler is on the stack, or whose coroutine runs: the sender of what it tells. None outside of actors.
cdef Pid running_actor(Exchange exchange)
cdef Pid swap_running(Pid pid)          # set it, get what was set before
