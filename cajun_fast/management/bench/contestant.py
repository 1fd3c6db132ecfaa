"""What can be measured: somebody who sends and somebody who handles, in two processes.

Laws: all contestants get the same messages (ordinary dicts, made one by one) and hand them one at a time to
the same few lines of Python; what a handler has counted is asked for through the contestant itself, so that
the answer also says that everything before it was handled.
"""

from __future__ import annotations

import abc
import asyncio
import resource
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

Message = dict[str, Any]
Make = Callable[[int], Message]
Options = dict[str, Any]

JOINED = 64  # messages that a plain sender puts into one write
TAG = "0123456789abcdef" * 2


class Tally(NamedTuple):
    """What a receiver has done: messages handled, CPU used in µs."""

    handled: int
    cpu_us: float


def cpu_us() -> float:
    """CPU time of this process, user and system, in µs."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (usage.ru_utime + usage.ru_stime) * 1e6


class Counter:
    """The handler's few lines, the same for everybody: returns what is to be answered."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0

    def handle(self, message: Any) -> Any:
        if message["op"] == "add":
            self.count += 1
            self.total += message["v"]
            return None
        return self.answer(message)

    def answer(self, message: Message) -> Any:
        """For all but the workload's tells."""
        return message if message["op"] == "echo" else [self.count, cpu_us()]


def payload(size: int, op: str = "add") -> Make:
    """Messages of about ``size`` bytes of msgpack; 64 is the workloads' own."""
    if size <= 16:
        return lambda i: {"op": op, "v": 1.5}
    if size <= 64:
        return lambda i: {"id": i, "op": op, "v": 1.5, "tag": TAG}
    if size <= 4096:
        text = "x" * (size - 31)
        return lambda i: {"id": i, "op": op, "v": 1.5, "tag": text}
    data = b"x" * (size - 31)
    return lambda i: {"id": i, "op": op, "v": 1.5, "tag": data}


class Receiver(abc.ABC):
    """The handling side. ``open`` returns the address for the sender."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abc.abstractmethod
    async def open(self) -> Any: ...


class Sender(abc.ABC):
    """The sending side."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @abc.abstractmethod
    async def open(self, address: Any) -> None: ...

    @abc.abstractmethod
    async def tell_many(self, make: Make, count: int) -> None:
        """Send ``count`` messages as fast as they go."""

    @abc.abstractmethod
    async def report(self) -> Tally:
        """What the receiver has done, after everything that was sent before."""

    async def settle(self) -> Tally:
        """What the receiver has done once it has handled all that was told."""
        return await self.report()

    def ask(self, message: Message) -> Awaitable[Any]:
        """The answer to one message."""
        raise NotImplementedError(f"{type(self).__name__} answers nothing")

    async def asks(self, make: Make, count: int, in_flight: int) -> None:
        """``count`` asks, ``in_flight`` of them at once."""
        numbers = iter(range(count))

        async def ask_on() -> None:
            for i in numbers:
                await self.ask(make(i))

        await asyncio.gather(*(ask_on() for _ in range(in_flight)))
