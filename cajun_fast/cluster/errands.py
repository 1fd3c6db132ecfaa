"""Requests that take their time, several at once: whoever asks for one thing does not wait for what others asked for.

Laws: what is about one id is done in the order in which it came; the number of those under way is bounded, and whoever
brings one more waits; each is answered exactly once, also when this node stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from cajun_fast.cluster.tasks import Tasks

#: Under way at once: many, for they mostly wait for the same batch of claims.
AT_ONCE = 512


class Reply(Protocol):
    """The right to answer, once."""

    def send(self, value: Any) -> bool: ...


class Errands:
    """See the module's laws."""

    def __init__(self, owner: str, refuse: Callable[[Exception], Any], at_once: int = AT_ONCE) -> None:
        """``refuse``: an error as the answer that says so."""
        self._refuse = refuse
        self._room = asyncio.Semaphore(at_once)
        self._last: dict[str, asyncio.Task[None]] = {}
        self._tasks = Tasks(owner)

    def __len__(self) -> int:
        return len(self._tasks)

    async def begin(self, key: str, work: Coroutine[Any, Any, Any], reply: Reply) -> None:
        """Have ``work`` done after all that came before for ``key`` ("": nothing did); returns once it is under way."""
        await self._room.acquire()
        before = self._last.get(key) if key else None
        task = self._tasks.start(self._run(before, work, reply), key or "errand")
        if task is None:
            self._room.release()
            work.close()
            reply.send(self._refuse(RuntimeError("this node is stopping")))
            return
        if key:
            self._last[key] = task
        task.add_done_callback(lambda done: self._done(key, done, work))

    async def _run(
        self, before: asyncio.Task[None] | None, work: Coroutine[Any, Any, Any], reply: Reply
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        try:
            answer = await work
        except Exception as error:  # the answer to whoever asked; nothing is swallowed
            answer = self._refuse(error)
        reply.send(answer)

    def _done(self, key: str, task: asyncio.Task[None], work: Coroutine[Any, Any, Any]) -> None:
        self._room.release()
        work.close()  # of one that was cancelled before its turn; else it does nothing
        if self._last.get(key) is task:
            del self._last[key]

    async def stop(self) -> None:
        """Cancel what is under way: its askers hear that nobody answers."""
        await self._tasks.stop()
