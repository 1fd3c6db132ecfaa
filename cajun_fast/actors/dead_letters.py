"""Messages that reached no handler: counted by reason, kept for inspection, logged at a bounded rate.

Laws: everything here is bounded; recording never raises; time comes from the clock that is handed in.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cajun_fast.clock import Clock
from cajun_fast.pid import Pid

logger = logging.getLogger("cajun_fast.dead_letters")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them. ``message`` is bytes where it was encoded already, ``at_ns`` the node's clock; ``message_id`` is for
    ``explain``, where a link had numbered it and the number is at hand: see docs/observability.md."""

    target: str
    message: Any
    reason: str
    sender: str | None
    at_ns: int
    message_id: str | None = None


Subscriber = Callable[[DeadLetter], None]


class DeadLetters:
    """Those of one node: the last ``keep`` of them, and how many there were."""

    def __init__(self, clock: Clock, *, keep: int = 1000, logged_per_second: float = 10.0) -> None:
        self._clock = clock
        self._kept: deque[DeadLetter] = deque(maxlen=keep)
        self._counts: Counter[str] = Counter()
        self._subscribers: list[Subscriber] = []
        self._throttle = Throttle(clock, logged_per_second)

    def record(
        self, target: str, message: Any, reason: str, sender: Pid | None = None, message_id: str | None = None
    ) -> None:
        """One more. Does not raise, whatever subscribers do."""
        by = sender.id if sender is not None else None
        letter = DeadLetter(target, message, reason, by, self._clock.now_ns(), message_id)
        self._counts[reason] += 1
        self._kept.append(letter)
        skipped = self._throttle.pass_one()
        if skipped is not None:
            self._log(letter, skipped)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(letter)
            except Exception:
                logger.exception("a subscriber to dead letters failed: %r", subscriber)

    def _log(self, letter: DeadLetter, skipped: int) -> None:
        logger.warning(
            "dead letter for %r (%s): a %s from %s%s%s",
            letter.target,
            letter.reason,
            type(letter.message).__name__,
            letter.sender or "nobody",
            f", message {letter.message_id}" if letter.message_id else "",
            f", and {skipped} more that were not logged" if skipped else "",
            extra={"actor": letter.target, "reason": letter.reason, "message_id": letter.message_id},
        )

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Have ``subscriber(letter)`` called for each; the returned function ends that."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    @property
    def total(self) -> int:
        """How many there were since the start."""
        return self._counts.total()

    @property
    def counts(self) -> dict[str, int]:
        """How many there were, by reason."""
        return dict(self._counts)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Those that are kept, the oldest first."""
        return iter(tuple(self._kept))

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget those that are kept; the counts stay."""
        self._kept.clear()


class Throttle:
    """A token bucket: so many a second on average, as many at once."""

    __slots__ = ("_at_ns", "_clock", "_most", "_rate", "_skipped", "_tokens")

    def __init__(self, clock: Clock, per_second: float) -> None:
        self._clock = clock
        self._rate = per_second
        self._most = max(per_second, 1.0) if per_second else 0.0
        self._tokens = self._most
        self._at_ns = clock.now_ns()
        self._skipped = 0

    def pass_one(self) -> int | None:
        """How many were skipped since the last that passed, or None: this one is skipped too."""
        now = self._clock.now_ns()
        self._tokens = min(self._most, self._tokens + (now - self._at_ns) / 1e9 * self._rate)
        self._at_ns = now
        if self._tokens < 1.0:
            self._skipped += 1
            return None
        self._tokens -= 1.0
        skipped, self._skipped = self._skipped, 0
        return skipped
