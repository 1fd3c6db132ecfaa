"""Messages that an actor sends itself later.

Laws: a timer belongs to its cell, which ends it; the loop keeps the time. Its first message belongs to the trace in
which it was scheduled; those that follow at its interval belong to no request.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cajun_fast._core.cell import Cell


class Timer:
    """A message that will be told to the actor that scheduled it, once or again and again."""

    __slots__ = ("_at", "_cell", "_handle", "_loop", "_stopped", "interval", "message", "trace")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        cell: Cell,
        delay: float,
        message: Any,
        interval: float | None,
        trace: bytes | None = None,
    ) -> None:
        if not delay >= 0:
            raise ValueError(f"delay={delay!r} is no time to wait: give seconds, 0 or more")
        if interval is not None and not interval > 0:
            raise ValueError(f"interval={interval!r} is no period: give seconds above 0, or None for once")
        self.message = message
        self.interval = interval
        self._cell = cell
        self._loop = loop
        self._at = loop.time() + delay
        self._stopped = False
        #: Of whoever scheduled it; goes with the first message.
        self.trace = trace
        self._handle: asyncio.TimerHandle | None = self._call()
        if cell.timers is None:
            cell.timers = set()
        cell.timers.add(self)

    def _call(self) -> asyncio.TimerHandle:
        return self._loop.call_at(self._at, self._fire, context=self._cell.dispatcher.base)

    @property
    def active(self) -> bool:
        """Whether it will still fire."""
        return self._handle is not None

    def hold(self) -> None:
        """Do not fire until ``go_on``; its time runs on."""
        if self._handle is not None and not self._stopped:
            self._handle.cancel()
            self._stopped = True

    def go_on(self) -> None:
        """After ``hold``: fire when it is due, at once if that is over."""
        if self._handle is not None and self._stopped:
            self._stopped = False
            self._handle = self._call()

    def postpone(self, seconds: float) -> None:
        """Fire next in so many seconds."""
        if self._handle is not None:
            self._at = self._loop.time() + seconds
            self._handle.cancel()
            self._handle = self._call()

    @property
    def remaining(self) -> float:
        """Seconds until it fires next; 0 where it is due or has ended."""
        return max(0.0, self._at - self._loop.time()) if self._handle is not None else 0.0

    def cancel(self) -> None:
        """End it. A message that stands in the mailbox already is handled all the same."""
        if self._handle is not None:
            self._handle.cancel()
            self._end()

    def _end(self) -> None:
        self._handle = None
        if self._cell.timers is not None:
            self._cell.timers.discard(self)

    def _fire(self) -> None:
        if self.interval is None:
            self._end()
        else:
            now = self._loop.time()
            self._at += self.interval
            if self._at <= now:  # the loop was held up: beats that were missed are left out
                self._at = now + self.interval
            self._handle = self._call()
        trace, self.trace = self.trace, None
        if trace is None:
            trace = self._cell.dispatcher.exchange.begin_trace("schedule", self._cell.id)
        self._cell.tell_self(self.message, trace)


def cancel_all(cell: Cell) -> None:
    """End the timers of a cell."""
    for timer in tuple(cell.timers or ()):
        timer.cancel()
    cell.timers = None
