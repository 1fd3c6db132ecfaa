"""Who has had a node's loop for longest without a break, lately.

Laws: told by whoever looks at the dispatcher now and then; bounded by the window, whatever happens in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds that are remembered.
WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Hold:
    """``seconds`` without a break, by one handler of ``actor``; "" and 0.0 where there was none."""

    actor: str = ""
    seconds: float = 0.0


NONE = Hold()


class Holds:
    """``take()`` gives the longest one since its last call: (id of the actor or None, ns)."""

    def __init__(self, take: Callable[[], tuple[str | None, int]]) -> None:
        self._take = take
        self._kept: deque[tuple[int, Hold]] = (
            deque()
        )  # the longest first: who was followed by a longer one is gone

    def look(self, now_ns: int) -> None:
        """See whether there was one."""
        actor, ns = self._take()
        if actor is not None:
            hold = Hold(actor, ns / 1e9)
            while self._kept and self._kept[-1][1].seconds <= hold.seconds:
                self._kept.pop()
            self._kept.append((now_ns, hold))
        while self._kept and now_ns - self._kept[0][0] > WINDOW * 1e9:
            self._kept.popleft()

    def longest(self, since_ns: int = 0) -> Hold:
        """The longest that was seen after ``since_ns``, and within the window."""
        return next((hold for at_ns, hold in self._kept if at_ns > since_ns), NONE)
