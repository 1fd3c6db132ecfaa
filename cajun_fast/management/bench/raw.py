"""Bytes without messages: what uvloop and the kernel take, and nobody can be below.

echo   the receiver writes back what it read                       (floor of W2)
pump   prebuilt chunks of 64 KiB, counted                          (limit of W1)
stream the same with chunks of one payload                         (limit of large payloads)
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable
from typing import Any

from cajun_fast.management.bench import sockets
from cajun_fast.management.bench.contestant import Make, Message, Receiver, Sender, Tally, cpu_us

ECHOED = 63  # bytes: as the workloads' message
CHUNK = 64 * 1024
RUN = struct.Struct("<Q")  # in front of each run: how many bytes follow
DONE = struct.Struct("<d")


class Protocol(asyncio.Protocol):
    """Holds its transport, and waits while that is full."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()


class Echoing(Protocol):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoReceiver(Receiver):
    """Writes back what it read."""

    async def open(self) -> Any:
        return await sockets.listen(Echoing, self.options["transport"])


class EchoAsker(Protocol):
    """Bytes come back in order, ECHOED for each ask."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[Any]] = deque()
        self._come = 0

    def data_received(self, data: bytes) -> None:
        self._come += len(data)
        while self._come >= ECHOED:
            self._come -= ECHOED
            self.waiting.popleft().set_result(None)


class EchoSender(Sender):
    """Asks without a message."""

    async def open(self, address: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = await sockets.dial(EchoAsker, address)
        self._bytes = bytes(ECHOED)

    def ask(self, message: Message) -> Awaitable[Any]:
        future = self._loop.create_future()
        self._protocol.waiting.append(future)
        self._protocol.transport.write(self._bytes)
        return future

    async def tell_many(self, make: Make, count: int) -> None:
        raise NotImplementedError("an echo only answers")

    async def report(self) -> Tally:
        return Tally(0, 0.0)


class Counting(asyncio.BufferedProtocol):
    """Reads runs of bytes; when one is complete it tells its CPU time."""

    transport: Any

    def __init__(self) -> None:
        self._buffer = bytearray(512 * 1024)
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> Any:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        at = 0
        if not self._left:
            self._head += self._buffer[: RUN.size - len(self._head)]
            at = RUN.size
            (self._left,) = RUN.unpack(self._head)
            self._head = b""
        self._left -= nbytes - at
        if not self._left:
            self.transport.write(DONE.pack(cpu_us()))


class PumpReceiver(Receiver):
    """Counts bytes."""

    async def open(self) -> Any:
        return await sockets.listen(Counting, self.options["transport"])


class Told(Protocol):
    def __init__(self) -> None:
        self.done: deque[asyncio.Future[float]] = deque()

    def data_received(self, data: bytes) -> None:
        self.done.popleft().set_result(DONE.unpack(data)[0])


class PumpSender(Sender):
    """``chunk``: bytes a write; ``size``: bytes that count as one message."""

    async def open(self, address: Any) -> None:
        self._protocol = await sockets.dial(Told, address)
        self._size = self.options.get("size", ECHOED + 4)
        self._chunk = bytes(max(CHUNK // self._size, 1) * self._size)
        self._sent = 0

    async def tell_many(self, make: Make, count: int) -> None:
        self._last = await self._run(count)
        self._sent += count

    async def report(self) -> Tally:
        return Tally(self._sent, await self._run(0))

    async def _run(self, count: int) -> float:
        done = asyncio.get_running_loop().create_future()
        self._protocol.done.append(done)
        write, left = self._protocol.transport.write, count * self._size
        write(RUN.pack(left))
        while left:
            write(self._chunk if left >= len(self._chunk) else self._chunk[:left])
            left -= min(left, len(self._chunk))
            if not self._protocol.room.is_set():
                await self._protocol.room.wait()
        return float(await done)
