"""What the cluster's tests stand on: a loop whose time is turned, a store that fails on demand, small
helpers.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from cajun_fast.metadata.memory import MemoryMetadataStore
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.testing.faulty_store import FaultyStore as FaultyStore
from cajun_fast.testing.turned import LoopClock, TurnedLoop

T = TypeVar("T")
_seeds = itertools.count(1)


def turned(story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a story on a loop of its own whose time is turned."""
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        return runner.run(story())


def store_options(seed: int = 1) -> StoreOptions:
    return StoreOptions(clock=LoopClock(), random=random.Random(seed))


def memory(name: str = "w") -> MemoryMetadataStore:
    """A store of its own chance: two with the same seed would give the same lease ids."""
    return MemoryMetadataStore(name, options=store_options(next(_seeds)))


async def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until it holds; AssertionError after that time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, f"not within {seconds} s: {holds}"
        await asyncio.sleep(0.01)
