"""Actors on one node, beside the plain way of doing it in asyncio.

Each pair stands in one group: read the ratio, not the time. ``test_ratios`` interleaves the pairs and prints the median
ratio of their CPU time, which holds on a machine that is busy with other things (``-s`` shows it, and extra_info).
"""

from __future__ import annotations

import asyncio
import gc
import resource
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from cajun_fast.actors import Actor, ActorSystem, Context

uvloop = pytest.importorskip("uvloop")
BATCH = 5000
MESSAGE = {"id": 1, "op": "add", "v": 1.5, "tag": "x" * 32}
Burst = Callable[[], Awaitable[None]]


class Sink(Actor):
    def receive(self, message: Any, context: Context) -> None:
        pass


class AsyncSink(Actor):
    async def receive(self, message: Any, context: Context) -> None:
        pass


class DequeMailbox:
    """The plain floor: a deque, a callback that empties it, nothing bounded, supervised or counted."""

    def __init__(self, receive: Callable[[Any], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.receive = receive
        self.queue: deque[Any] = deque()

    def tell(self, message: Any) -> None:
        if not self.queue:
            self.loop.call_soon(self.run)
        self.queue.append(message)

    def run(self) -> None:
        queue, receive = self.queue, self.receive
        while queue:
            receive(queue.popleft())


async def deque_tells() -> Burst:
    seen: list[Any] = []

    class Handler:
        def receive(self, message: Any) -> None:
            if message is None:
                seen.append(message)

    mailbox = DequeMailbox(Handler().receive)

    async def burst() -> None:
        seen.clear()
        tell = mailbox.tell
        for _ in range(BATCH):
            tell(MESSAGE)
        tell(None)
        while not seen:  # noqa: ASYNC110 - an Event would cost the floor a task switch more
            await asyncio.sleep(0)

    return burst


async def queue_tells() -> Burst:
    queue: asyncio.Queue[Any] = asyncio.Queue(10_000)

    async def consume() -> None:
        while True:
            await queue.get()
            queue.task_done()

    task = asyncio.ensure_future(consume())

    async def burst(_keep: Any = task) -> None:
        for _ in range(BATCH):
            queue.put_nowait(MESSAGE)
        await queue.join()

    return burst


def actor_tells(kind: type[Actor]) -> Callable[[], Awaitable[Burst]]:
    async def prepare() -> Burst:
        system = ActorSystem("bench")
        await system.start()
        pid = await system.spawn(kind)

        async def burst(_keep: ActorSystem = system) -> None:
            tell = pid.tell
            for _ in range(BATCH):
                tell(MESSAGE)
            await pid.ask(None)

        return burst

    return prepare


async def actor_asks() -> Burst:
    system = ActorSystem("bench")
    await system.start()
    pid = await system.spawn(Sink)

    async def burst(_keep: ActorSystem = system) -> None:
        for _ in range(500):
            await pid.ask(MESSAGE)

    return burst


async def future_asks() -> Burst:
    """The floor of an ask: a future that a callback in the next turn answers."""
    loop = asyncio.get_running_loop()

    async def burst() -> None:
        for _ in range(500):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    return burst


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        yield running


@pytest.mark.benchmark(group="local tell, sync handler, 5000 a round")
@pytest.mark.parametrize("prepare", [deque_tells, actor_tells(Sink)], ids=["deque", "actor"])
def test_tell(benchmark: Any, runner: asyncio.Runner, prepare: Callable[[], Any]) -> None:
    burst = runner.run(prepare())
    benchmark(lambda: runner.run(burst()))


@pytest.mark.benchmark(group="local tell, async handler, 5000 a round")
@pytest.mark.parametrize("prepare", [queue_tells, actor_tells(AsyncSink)], ids=["asyncio.Queue", "actor"])
def test_tell_async(benchmark: Any, runner: asyncio.Runner, prepare: Callable[[], Any]) -> None:
    burst = runner.run(prepare())
    benchmark(lambda: runner.run(burst()))


@pytest.mark.benchmark(group="local ask, 500 one after the other")
@pytest.mark.parametrize("prepare", [future_asks, actor_asks], ids=["future", "actor"])
def test_ask(benchmark: Any, runner: asyncio.Runner, prepare: Callable[[], Any]) -> None:
    burst = runner.run(prepare())
    benchmark(lambda: runner.run(burst()))


@pytest.mark.parametrize(
    ("name", "plain", "ours", "least"),
    [
        ("tell, sync: actor against deque mailbox", deque_tells, actor_tells(Sink), 1.0),
        ("tell, async: actor against asyncio.Queue", queue_tells, actor_tells(AsyncSink), 1.0),
    ],
)
def test_ratios(runner: asyncio.Runner, name: str, plain: Any, ours: Any, least: float) -> None:
    async def measure() -> float:
        bursts = [await plain(), await ours()]
        ratios = []
        for _ in range(60):
            times = []
            for burst in bursts:
                began = time.process_time()
                for _ in range(4):
                    await burst()
                times.append(time.process_time() - began)
            ratios.append(times[0] / times[1])
        return statistics.median(ratios)

    ratio = runner.run(measure())
    print(f"\n{name}: {ratio:.2f} × as many a second of CPU")
    assert ratio >= least


def rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("touched", [False, True], ids=["never told", "told once"])
def test_an_idle_actor_takes_at_most_one_kibibyte(runner: asyncio.Runner, touched: bool) -> None:
    count = 100_000

    async def measure() -> float:
        system = ActorSystem("bench")
        await system.start()
        for n in range(1000):
            await system.spawn(Sink, f"warm-{n}")
        gc.collect()
        before = rss()
        for n in range(count):
            pid = await system.spawn(Sink, f"actor-{n:06}")
            if touched:
                pid.tell(MESSAGE)
        await asyncio.sleep(0.2)
        gc.collect()
        taken = (rss() - before) / count
        await system.stop(60)
        return taken

    taken = runner.run(measure())
    print(f"\n{taken:.0f} bytes of resident memory an idle actor, its id and instance among them")
    assert taken <= 1024


@pytest.mark.benchmark(group="life of an actor")
def test_spawn_and_stop(benchmark: Any, runner: asyncio.Runner) -> None:
    async def prepare() -> Burst:
        system = ActorSystem("bench")
        await system.start()

        async def burst() -> None:
            for n in range(1000):
                await system.spawn(Sink, f"actor-{n}")
            for n in range(1000):
                await system.stop_actor(f"actor-{n}")

        return burst

    burst = runner.run(prepare())
    benchmark(lambda: runner.run(burst()))
