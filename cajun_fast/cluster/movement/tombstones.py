"""Where actors have gone that lived here: a hint for those who still come.

Laws: a hint, never more: whoever follows it is refused there if it is wrong. Bounded in number and in time; who comes
back has no stone.
"""

from __future__ import annotations

from collections.abc import Callable

#: Stones that are kept; the oldest go first.
MOST = 100_000


class Tombstones:
    """See the module's laws. ``seconds``: until everybody's caches have turned over."""

    def __init__(self, now_ns: Callable[[], int], seconds: float, most: int = MOST) -> None:
        self._now_ns = now_ns
        self._keep = round(seconds * 1e9)
        self._most = most
        self._stones: dict[str, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._stones)

    def put(self, actor_id: str, node: str) -> None:
        """It has gone to that node."""
        self._stones.pop(actor_id, None)
        self._stones[actor_id] = node, self._now_ns() + self._keep
        self._sweep()

    def remove(self, actor_id: str) -> None:
        """It is here again."""
        self._stones.pop(actor_id, None)

    def find(self, actor_id: str) -> str | None:
        """Where it, or its oldest ancestor, has gone to."""
        stone = self._stones.get(actor_id.partition("/")[0])
        if stone is None or stone[1] <= self._now_ns():
            return None
        return stone[0]

    def _sweep(self) -> None:
        now = self._now_ns()
        while self._stones:
            oldest = next(iter(self._stones))
            if len(self._stones) <= self._most and self._stones[oldest][1] > now:
                return
            del self._stones[oldest]
