"""Asks in flight of one node.

Owns the futures that somebody awaits; knows nothing of links or actors. Every ask ends exactly once: by an answer, a
fault, its time-out, or the loss of the node it went to.
"""

import traceback

from cajun_fast._core.instruments cimport Histogram

from cajun_fast.errors import AskTimeoutError, BackpressureError, CajunError, NotRunningError, RemoteActorError

cdef int64_t GRAIN = 5_000_000      # ns: time-outs that lie closer together share a pass


cdef class PendingAsk:
    """One ask that waits for its answer."""


cdef class Asks(Replies):
    """All asks of a node. ``limit`` bounds how many may wait at once."""

    def __init__(self, str node, loop, clock, uint64_t first_tag, Py_ssize_t limit=65_536):
        self.node = node
        self.limit = limit
        self._pending = {}
        self._next = first_tag or 1
        self._loop = loop
        self._clock = clock
        self.round_trip = Histogram()

    def __len__(self):
        return len(self._pending)

    cdef uint64_t open(self, object future, str target, double timeout) except 0:
        if len(self._pending) >= self.limit:
            raise BackpressureError(
                f"{self.limit} asks wait for their answers already: await some first, or raise max_asks_in_flight"
            )
        cdef PendingAsk ask = PendingAsk.__new__(PendingAsk)
        cdef uint64_t tag = self._next
        ask.future = future
        ask.target = target
        ask.timeout = timeout
        ask.deadline = <int64_t>self._clock() + <int64_t>(timeout * 1e9)
        self._pending[tag] = ask
        self._next = tag + 1 if tag < 0x7FFFFFFFFFFFFFFF else 1
        if self._timer_at == 0 or ask.deadline < self._timer_at - GRAIN:
            self._set_timer(ask.deadline)
        return tag

    cdef int forget(self, uint64_t tag) except -1:
        self._pending.pop(tag, None)
        return 0

    cdef int set_carrier(self, uint64_t tag, object carrier) except -1:
        cdef PendingAsk ask = self._pending.get(tag)
        if ask is not None:
            ask.carrier = carrier
        return 0

    cdef int answer(self, uint64_t tag, object value) except -1:
        cdef PendingAsk ask = self._pending.pop(tag, None)
        if ask is not None and not ask.future.done():
            self.answered += 1
            self.round_trip.add(<int64_t>self._clock() - ask.deadline + <int64_t>(ask.timeout * 1e9), 1)
            ask.future.set_result(value)
        return 0

    cdef int fault(self, uint64_t tag, object error) except -1:
        cdef PendingAsk ask = self._pending.pop(tag, None)
        if ask is not None and not ask.future.done():
            self.failed += 1
            ask.future.set_exception(as_told(error, ask.target, self.node))
        return 0

    def carry(self, tag, carrier):
        """The ask has moved on with the actor that was asked: it is lost with ``carrier`` now."""
        self.set_carrier(tag, carrier)

    def waits(self, tag):
        """Whether the ask of this tag still waits."""
        cdef PendingAsk ask = self._pending.get(tag)
        return ask is not None and not ask.future.done()

    def fail(self, tag, error):
        """End one ask with ``error``."""
        self.fault(tag, error)

    def waits_on(self, carrier):
        """Whether the answer to an ask that left by ``carrier`` is still to come."""
        for ask in self._pending.values():
            if (<PendingAsk>ask).carrier is carrier:
                return True
        return False

    def fail_carried(self, carrier, make_error):
        """End every ask that left by ``carrier`` with ``make_error(target)``; returns how many."""
        lost = [tag for tag, ask in self._pending.items() if (<PendingAsk>ask).carrier is carrier]
        for tag in lost:
            self.fault(tag, make_error((<PendingAsk>self._pending[tag]).target))
        return len(lost)

    def close(self):
        """End every ask with NotRunningError."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for tag in list(self._pending):
            self.fault(tag, NotRunningError(f"node {self.node!r} stopped while the answer was awaited"))

    cdef int give_up(self, uint64_t tag, PendingAsk ask) except -1:
        if self.explainer is not None and self.explainer(tag, ask.target, ask.future, ask.timeout, ask.carrier):
            self.failed += 1
            del self._pending[tag]
            return 0
        return self.fault(tag, AskTimeoutError(
            f"actor {ask.target!r} gave no answer within {ask.timeout:g} s; whether it handled the message is not known",
            ask.target,
        ))

    cdef int _set_timer(self, int64_t at) except -1:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0, at - <int64_t>self._clock()) / 1e9, self._expire)

    def _expire(self):
        cdef int64_t now = self._clock()
        cdef int64_t earliest = 0
        cdef PendingAsk ask
        self._timer = None
        self._timer_at = 0
        for tag, item in list(self._pending.items()):
            ask = <PendingAsk>item
            if ask.future.done():
                del self._pending[tag]
            elif ask.deadline <= now + GRAIN:
                self.timed_out += 1
                self.give_up(tag, ask)
            elif earliest == 0 or ask.deadline < earliest:
                earliest = ask.deadline
        if earliest:
            self._set_timer(earliest)


def as_told(error, str target, str node):
    """The error as the one who asked hears it: the package's own as they are, a handler's as RemoteActorError. One that
    names no actor gets the name of the one that was asked."""
    if isinstance(error, RemoteActorError) and not error.actor_id:
        return RemoteActorError(target, error.type_name, error.text, error.traceback, error.node)
    if isinstance(error, CajunError):
        if getattr(error, "actor_id", None) == "":
            error.actor_id = target
        return error
    trace = "".join(traceback.format_exception(error))
    return RemoteActorError(target, type(error).__name__, str(error), trace, node)
