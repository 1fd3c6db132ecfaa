"""What happens within one process: local tells beside plain mailboxes, idle actors, single parts.

Laws: everything here runs in one worker, so that neighbours in time are neighbours in the same process.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

from cajun_fast._core.breaker import CircuitBreaker
from cajun_fast._core.locations import LocationCache
from cajun_fast.actors import Actor, ActorSystem, Context
from cajun_fast.management.bench.contestant import Counter, Options, cpu_us, payload
from cajun_fast.management.bench.engine import AsyncTarget, Target

BURST = 1000  # tells in a row, then the loop runs


class DequeMailbox:
    """A mailbox as one writes it by hand: a deque, and a callback that empties it."""

    def __init__(self, handle: Callable[[Any], Any]) -> None:
        self._box: deque[Any] = deque()
        self._handle = handle
        self._scheduled = False
        self._loop = asyncio.get_running_loop()

    def tell(self, message: Any) -> None:
        self._box.append(message)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        box, handle = self._box, self._handle
        for _ in range(len(box)):
            handle(box.popleft())


class QueueMailbox:
    """The same with asyncio.Queue and a task."""

    def __init__(self, handle: Callable[[Any], Any]) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._handle = handle
        self.tell = self._queue.put_nowait
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self._handle(await self._queue.get())


class Local:
    """The worker's third role: it neither sends nor receives."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._counter = Counter()
        self._tells: dict[str, Callable[[Any], object]] = {}

    async def open(self) -> None:
        self._system = ActorSystem("local")
        await self._system.start()
        handle = self._counter.handle
        self._tells = {
            "engine": (await self._system.spawn(Target, None, self._counter)).tell,
            "engine-async": (await self._system.spawn(AsyncTarget, None, self._counter)).tell,
            "deque": DequeMailbox(handle).tell,
            "queue": QueueMailbox(handle).tell,
        }

    async def tell(self, who: str, count: int) -> dict[str, Any]:
        """W5: ``count`` tells to a mailbox in this process."""
        tell, make, counter = self._tells[who], payload(64), self._counter
        counter.count = 0
        began, cpu = time.perf_counter(), cpu_us()
        for start in range(0, count, BURST):
            for i in range(start, min(start + BURST, count)):
                tell(make(i))
            await asyncio.sleep(0)
        while counter.count < count:  # noqa: ASYNC110 - whom to wait for differs from side to side
            await asyncio.sleep(0)
        seconds = time.perf_counter() - began
        return {"rate": count / seconds, "send_us": (cpu_us() - cpu) / count}

    async def idle_actors(self, count: int) -> dict[str, Any]:
        """Resident memory of one actor that has nothing to do, its Python instance with it."""
        await self._spawn(1000)
        before = resident_bytes()
        await self._spawn(count)
        return {"bytes": (resident_bytes() - before) / count}

    async def _spawn(self, count: int) -> None:
        for _ in range(count):
            await self._system.spawn(Idle)
        gc.collect()

    async def part(self, who: str, count: int, known: int = 0) -> dict[str, Any]:
        """One call of a part from Python, beside a dict look-up; with ``known`` keys in it, each time another one."""
        call, *arguments = PARTS[who](known or KNOWN)
        keys = [f"target-{i * STRIDE % known}" for i in range(min(known, ASKED))] if known else arguments[:1]
        rest, turns = arguments[1:], range(max(count // len(keys), 1))
        began = time.perf_counter_ns()
        for _ in turns:
            for key in keys:
                call(key, *rest)
        return {"ns": (time.perf_counter_ns() - began) / (len(turns) * len(keys))}


class Idle(Actor):
    """The least an actor can be."""

    __slots__ = ()

    def receive(self, message: Any, context: Context) -> Any:
        return None


def resident_bytes() -> int:
    """Memory of this process that is in use; 0 where the system has no /proc."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


KNOWN = 100_000
STRIDE = 7919  # a prime: hits lie all over the keys
ASKED = 10_000


@cache
def cache_hit(known: int) -> tuple[Any, ...]:
    """A look-up in a location cache that knows so many actors."""
    locations = LocationCache(known, ttl_ns=1 << 60)
    for i in range(known):
        locations.put(f"target-{i}", "node", 1, 1)
    return locations.get, "target-777", 2


@cache
def breaker_check(known: int) -> tuple[Any, ...]:
    """Asking a closed breaker."""
    return CircuitBreaker("node").allows, 1


@cache
def dict_hit(known: int) -> tuple[Any, ...]:
    """What they are compared with."""
    return {f"target-{i}": i for i in range(known)}.get, "target-777"


PARTS: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "cache": cache_hit,
    "breaker": breaker_check,
    "dict": dict_hit,
}
