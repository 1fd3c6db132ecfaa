"""Background work with an owner: whoever starts it ends it, and nothing fails unseen.

Laws: no task outlives its owner's ``stop``; a failed one is logged once, with its name; cancellation is never
swallowed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger("cajun_fast.cluster")


class Tasks:
    """The tasks of one part."""

    def __init__(self, owner: str, expected: tuple[type[Exception], ...] = ()) -> None:
        """``expected``: errors that somebody awaits, which are not logged here."""
        self._owner = owner
        self._expected = expected
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any] | None:
        """Run it until it ends or ``stop``; None (and the work is dropped) after ``stop``."""
        if self._stopped:
            work.close()
            return None
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, self._expected):
            log.error("%s failed: %s", task.get_name(), error, exc_info=error)

    async def stop(self) -> None:
        """Cancel everything and wait for it; the task that calls this is left out."""
        self._stopped = True
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Backoff:
    """Growing waits with jitter: between half and all of ``first * 2^n``, at most ``cap`` seconds."""

    def __init__(self, chance: random.Random, first: float, cap: float) -> None:
        self._chance = chance
        self._first = first
        self._cap = cap
        self._step = first

    def next(self) -> float:
        """Seconds to wait now."""
        step, self._step = self._step, min(self._step * 2, self._cap)
        return step * (0.5 + 0.5 * self._chance.random())

    def reset(self) -> None:
        self._step = self._first

    async def wait(self) -> None:
        await asyncio.sleep(self.next())
