"""Time that is turned: a loop whose clock stands while something can run, and jumps to the next timer when nothing
can.

    def test_a_lost_node_is_noticed():
        async def story(cluster): …
        run_turned(story, seed=7)

Laws: nothing waits for real time, so minutes pass at once; what happens depends on the seed and nothing else,
as long as no thread, socket or process takes part.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class TurnedLoop(asyncio.SelectorEventLoop):
    """See the module's laws."""

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__(_TurnedSelector(self))

    def time(self) -> float:
        return self._now

    def turn(self, seconds: float) -> None:
        """Jump ahead."""
        self._now += seconds


class _TurnedSelector(selectors.SelectSelector):
    def __init__(self, loop: TurnedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("nothing is ready and no timer stands: this would wait for ever")
        if not events and timeout is not None and timeout > 0:
            self._loop.turn(timeout)
        return events


class LoopClock:
    """A loop's time as a ``Clock``, the turned one's too: of the loop that runs when it is asked for the first time."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def now_ns(self) -> int:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return round(self._loop.time() * 1e9)


def run_turned(story: Callable[..., Awaitable[Result]], *, seed: int = 1, delay: float = 0.001) -> Result:
    """Run ``story(cluster)`` to its end in turned time, on a cluster in memory; returns what it returns.

    ``delay``: seconds (of turned time) that bytes are on their way."""
    from cajun_fast.testing.members import Members

    async def whole() -> Result:
        async with Members(seed=seed, delay=delay) as cluster:
            return await story(cluster)

    work: Coroutine[Any, Any, Result] = whole()
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        return runner.run(work)
