"""What a handler sees, and what it may do. See context.pxd.

Owns the right to answer one ask; all that is slow it hands to the keeper.
"""

import asyncio

from cajun_fast._core.lane cimport traced
from cajun_fast._core.ports cimport ASK, TELL

from cajun_fast.errors import DeliveryError


cdef class Context:
    """What a handler sees of the message it handles, and what it may do about it.

    It is good for that message; kept longer it still answers for it, and costs the actor a new one.
    """

    @property
    def self(self):
        """The Pid of this actor."""
        return self.cell.pid

    @property
    def node_id(self):
        """The id of the node that this actor runs on."""
        return self.cell.dispatcher.exchange.node_id

    @property
    def system(self):
        """The actor system as actors see it: ``spawn``, ``pid``, ``stop_actor``, ``actor_ids``."""
        return self.cell.dispatcher.keeper.view

    @property
    def children(self):
        """Pids of the living children, the oldest first."""
        children = self.cell.children
        return [(<Resident> child).pid for child in children.values()] if children else []

    def reply(self, value):
        """Answer now, while the handler goes on; what it returns then is ignored.

        Of a tell the sender is told ``value`` as a message; without a sender it becomes a dead letter. A second
        answer to an ask is a dead letter too.
        """
        if self.tag:
            self.answer(value)
        elif self.replies is None and self.sender is not None:
            self.sender.tell(value)
        else:
            self.cell.dispatcher.exchange.dead_letters.record("", value, "nobody-asked", self.cell.pid)

    def reply_later(self):
        """Take over the answer: the handler may end, and ``send`` or ``fail`` of the Reply gives it later.

        Of a tell, where nobody waits, the Reply does nothing.
        """
        cdef Reply reply = Reply.__new__(Reply)
        reply.replies = self.replies
        reply.tag = self.tag
        reply.actor_id = self.cell.pid.lane.target
        self.tag = 0
        return reply

    def forward(self, Pid pid not None):
        """Pass the message on as if its sender had sent it to ``pid``: it keeps its sender, and an ask its asker.

        Raises what ``Pid.tell`` raises; then the message is still this handler's to answer.
        """
        cdef Exchange exchange = self.cell.dispatcher.exchange
        exchange.check()
        if exchange.tracer is not None and exchange.tracer.sampled():
            traced(pid, "forward", self.message, exchange.guarantee, self.sender, self.tag, self.replies, self.deadline,
                   None)
        else:
            pid.lane.submit(ASK if self.tag else TELL, self.message, exchange.guarantee, self.sender, self.tag,
                            self.replies, self.deadline, None, False)
        self.tag = 0

    def spawn(self, target, name=None, /, *args, **kwargs):
        """Start a child ``<this id>/<name>``; without a name it gets one. Returns its Pid at once, which may be awaited
        until ``pre_start`` is done.

        Raises what its constructor raises, ActorAlreadyExistsError, ConfigError; awaiting raises what ``pre_start``
        raises. Messages wait in its mailbox meanwhile.
        """
        cdef Spawned pid = Spawned.__new__(Spawned)
        actor_id, pid.started = self.cell.dispatcher.keeper.spawn_child(self.cell, target, name, args, kwargs)
        pid.lane = self.cell.dispatcher.exchange.lane(actor_id)
        return pid

    def stop(self, Pid pid=None):
        """Begin to stop this actor, or ``pid``, which must be a descendant of it. The running handler ends in peace."""
        self.cell.dispatcher.keeper.stop_from(self.cell, pid)

    def passivate(self):
        """End this sharded actor once it has handled what it has; the next message to it starts it again.

        Raises ConfigError for an actor that is not sharded: use ``stop``.
        """
        self.cell.dispatcher.keeper.passivate(self.cell)

    def watch(self, Pid pid not None):
        """Be told once when that actor ends, wherever it lives: a ``Terminated`` message says why. Where there is no
        such actor, at once. Watching again what is watched does nothing."""
        self.cell.dispatcher.keeper.deaths.watch(self.cell.pid, pid.lane.target)

    def unwatch(self, Pid pid not None):
        """Do not be told; a ``Terminated`` that stands in the mailbox already is handled all the same."""
        self.cell.dispatcher.keeper.deaths.unwatch(self.cell.pid, pid.lane.target)

    def subscribe(self, str topic not None):
        """Get what is published to ``topic`` from now on, until ``unsubscribe`` or the end of this actor. Returns an
        awaitable that is done once every node can know of it; it need not be awaited."""
        return self.cell.dispatcher.keeper.groups.subscribe(self.cell.pid, topic)

    def unsubscribe(self, str topic not None):
        """Get no more of ``topic``; what is on its way may still come."""
        self.cell.dispatcher.keeper.groups.unsubscribe(self.cell.pid, topic)

    def schedule(self, delay, message, *, interval=None):
        """Tell this actor ``message`` in ``delay`` seconds, and then every ``interval`` seconds where that is given.

        The returned timer has ``cancel()``. It ends with the actor, and with a restart. Raises ValueError for a
        negative delay or an interval that is not above 0.
        """
        return self.cell.dispatcher.keeper.schedule(self.cell, delay, message, interval)

    cdef int answer(self, object value) except -1:
        cdef uint64_t tag = self.tag
        self.tag = 0
        try:
            self.replies.answer(tag, value)
        except Exception as error:      # it cannot be encoded: the asker hears why
            self.replies.fault(tag, error)
        return 0

    cdef int fault(self, object error) except -1:
        cdef uint64_t tag = self.tag
        self.tag = 0
        return self.replies.fault(tag, error)

    cdef void clear(self) noexcept:
        self.message = self.sender = self.replies = None


cdef class Reply:
    """The right to answer one ask, once. Dropped without an answer it tells the asker so."""

    @property
    def waiting(self):
        """Whether the answer is still to be given."""
        return self.tag != 0

    def send(self, value):
        """Answer. Only the first of ``send`` and ``fail`` counts; returns whether this was it."""
        cdef uint64_t tag = self.tag
        if tag == 0:
            return False
        self.tag = 0
        try:
            self.replies.answer(tag, value)
        except Exception as error:
            self.replies.fault(tag, error)
        return True

    def fail(self, error):
        """End the ask with ``error``; returns as ``send``. Raises TypeError for what is no exception."""
        cdef uint64_t tag = self.tag
        if not isinstance(error, BaseException):
            raise TypeError(f"an ask fails with an exception, not with {error!r}")
        if tag == 0:
            return False
        self.tag = 0
        self.replies.fault(tag, error)
        return True

    def __del__(self):
        if self.tag:
            self.fail(DeliveryError(
                f"actor {self.actor_id!r} took over the answer by reply_later() and then dropped it unanswered",
                self.actor_id,
            ))


cdef class Spawned(Pid):
    """The Pid of a child that was begun; awaited, the plain Pid once it has started."""

    def __await__(self):
        return self._wait().__await__()

    async def _wait(self):
        started, self.started = self.started, None
        if started is not None:
            await asyncio.shield(started)
        return self.lane.exchange.pid(self.lane.target)
