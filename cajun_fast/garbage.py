"""Short pauses of Python's garbage collector in a process with many actors.

A full collection looks at every object there is: with 100,000 actors most of a second in which no loop turns, and while
actors are created one follows the other. A node that does not look at its seat for so long stands still.

Laws: what has outlived a long full collection is set aside (``gc.freeze``), so that the next one looks at what is new
only. It comes back before one part in a thousand of the time would be spent on collecting, so garbage in cycles is
found late, and found. Nothing is done before a full collection was long, nor in a process that does not ask for it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: Seconds from which on a full collection is long.
LONG = 0.05
#: Of the time: what collections of everything may take.
SHARE = 0.001
OLDEST = 2


class ShortCollections:
    """For one process: see the module's laws."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, long: float = LONG) -> None:
        self._clock = clock
        self._long = long
        self._began = 0.0
        self._back_at = 0.0
        self._set_aside = False

    def start(self) -> None:
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """As if it had never been."""
        gc.callbacks.remove(self._on_collection)
        if self._set_aside:
            self._set_aside = False
            gc.unfreeze()

    def _on_collection(self, phase: str, info: Mapping[str, Any]) -> None:
        if info["generation"] != OLDEST:
            return
        now = self._clock()
        if phase == "start":
            self._begin(now)
        elif now - self._began >= self._long:
            if not self._set_aside:
                self._back_at = now + (now - self._began) / SHARE
            self._set_aside = True
            gc.freeze()

    def _begin(self, now: float) -> None:
        self._began = now
        if self._set_aside and now >= self._back_at:
            self._set_aside = False
            gc.unfreeze()


@contextmanager
def short_collections() -> Iterator[None]:
    """While it lasts; ``cajun_fast.run`` does it, a program with a loop of its own may."""
    collections = ShortCollections()
    collections.start()
    try:
        yield
    finally:
        collections.stop()
