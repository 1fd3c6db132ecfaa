"""Work that takes its time: awaited for its result, or followed step by step.

    result = await manager.drain_node("n")

    drain = manager.drain_node("n")
    async for step in drain:
        print(step.phase, step.moved, step.left)
    print(drain.result)

Laws: nothing begins before it is awaited or iterated, and it runs once. Whoever follows it slowly gets the newest step
of each kind, in order: what waits is bounded by the kinds there are. The work ends with whoever awaits or follows it: a
loop that is left, closed or cancelled has cancelled it, and waited until it had cleaned up behind itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Hashable
from typing import Any, Generic, TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


class Steps(Generic[Step, Result]):
    """See the module's laws."""

    def __init__(
        self,
        work: Callable[[Callable[[Step], None]], Coroutine[Any, Any, Result]],
        kind: Callable[[Step], Hashable],
    ) -> None:
        """``work(tell)`` does it; of steps of one ``kind`` in a row, that nobody has taken yet, the newest stays."""
        self._work = work
        self._kind = kind
        self._begun = False
        self._results: list[Result] = []

    @property
    def result(self) -> Result:
        """What came of it. Raises RuntimeError before its end, and where it raised."""
        if not self._results:
            raise RuntimeError("there is no result: this work is not over, or it failed")
        return self._results[0]

    def __await__(self) -> Generator[Any, None, Result]:
        return self._run(lambda step: None).__await__()

    def __aiter__(self) -> AsyncGenerator[Step, None]:
        return self._follow()

    async def _run(self, tell: Callable[[Step], None]) -> Result:
        if self._begun:
            raise RuntimeError("this work was begun already, and is done once: ask for it again")
        self._begun = True
        self._results.append(await self._work(tell))
        return self.result

    async def _follow(self) -> AsyncGenerator[Step, None]:
        waiting: deque[Step] = deque()
        news = asyncio.Event()

        def tell(step: Step) -> None:
            if waiting and self._kind(waiting[-1]) == self._kind(step):
                waiting.pop()
            waiting.append(step)
            news.set()

        task = asyncio.create_task(self._run(tell))
        task.add_done_callback(lambda _: news.set())
        try:
            while waiting or not task.done():
                await news.wait()
                news.clear()
                while waiting:
                    yield waiting.popleft()
            await task
        finally:
            task.cancel()  # nothing, once it is over
            await asyncio.gather(task, return_exceptions=True)
