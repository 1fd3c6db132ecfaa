"""What happened on a node, the last of it: nodes that came and went, elections, outages, movements.

Laws: bounded; adding one never raises, never waits and costs nothing for a message (nothing here is called for one).
Numbers rise by one, so whoever asks for what came after a number learns whether something fell out in between.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cajun_fast.clock import Clock

log = logging.getLogger("cajun_fast.cluster")

Listener = Callable[["Event"], None]


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is a word for programs (``node-joined``, ``move-done`` …), ``text`` a line for people, ``at_ns`` the
    node's clock."""

    number: int
    kind: str
    text: str
    at_ns: int
    details: Mapping[str, Any] = field(default_factory=dict)


class EventLog:
    """The last ``keep`` events of one node."""

    def __init__(self, clock: Clock, *, keep: int = 500) -> None:
        self._clock = clock
        self._kept: deque[Event] = deque(maxlen=keep)
        self._listeners: list[Listener] = []
        self._number = 0

    @property
    def number(self) -> int:
        """Of the last event, 0 before the first."""
        return self._number

    def add(self, kind: str, text: str, /, **details: Any) -> None:
        """One more; ``details`` are plain values that can be encoded."""
        self._number += 1
        event = Event(self._number, kind, text, self._clock.now_ns(), details)
        self._kept.append(event)
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                log.exception("a listener to events failed: %r", listener)

    def after(self, number: int, limit: int = 200) -> list[Event]:
        """The newest ``limit`` events behind that number, the oldest first."""
        found = [event for event in self._kept if event.number > number]
        return found[-limit:]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have ``listener(event)`` called for each; the returned function ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe
