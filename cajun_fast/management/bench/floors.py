"""The plain ways over uvloop: length-prefixed msgpack, as somebody would write it who knows asyncio well.

    joined   64 frames a write (the plain floor)             joined=1: a write a message
    acked    the receiver also tells how many it has, once a read: what W4 is measured against

Laws: nothing of the engine is used here; no option is set that a plain program would not set.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from cajun_fast.management.bench import sockets
from cajun_fast.management.bench.contestant import JOINED, Counter, Make, Message, Receiver, Sender, Tally

Pack = Callable[[Any], bytes]
Unpack = Callable[[Any], Any]
LENGTH = struct.Struct(">I")


def codec(name: str) -> tuple[Pack, Unpack]:
    """How a message becomes bytes and comes back."""
    if name == "msgspec":
        msgspec = import_module("msgspec")
        return msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
    msgpack = import_module("msgpack")
    return msgpack.Packer().pack, msgpack.unpackb


class Frames(asyncio.Protocol):
    """Splits a stream into messages and hands them to ``on_message``."""

    def __init__(self, unpack: Unpack, on_message: Callable[[Frames, Any], None]) -> None:
        self._unpack = unpack
        self._on_message = on_message
        self._rest = b""
        self._room = asyncio.Event()
        self._room.set()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        at, size = 0, len(data)
        while size - at >= 4:
            (length,) = LENGTH.unpack_from(data, at)
            if size - at - 4 < length:
                break
            self._on_message(self, self._unpack(view[at + 4 : at + 4 + length]))
            at += 4 + length
        self._rest = data[at:]
        self.read_done()

    def read_done(self) -> None:
        """All messages of one read are handled."""

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def drain(self) -> None:
        """Wait while the transport holds too much."""
        if not self._room.is_set():
            await self._room.wait()


class AckedFrames(Frames):
    """Tells the sender, once a read, that everything so far is handled."""

    def __init__(self, pack: Pack, unpack: Unpack, counter: Counter, on_message: Any) -> None:
        super().__init__(unpack, on_message)
        self._pack = pack
        self._counter = counter

    def read_done(self) -> None:
        body = self._pack({"ack": self._counter.count})
        self.transport.write(LENGTH.pack(len(body)) + body)


class FrameReceiver(Receiver):
    """Hands messages to the counter; answers those that carry an ``ask``."""

    async def open(self) -> Any:
        pack, unpack = codec(self.options.get("codec", "msgpack"))
        counter = Counter()
        handle = counter.handle

        def on_message(protocol: Frames, message: Any) -> None:
            value = handle(message)
            if value is not None:
                body = pack({"ask": message["ask"], "value": value})
                protocol.transport.write(LENGTH.pack(len(body)) + body)

        def make() -> Frames:
            if self.options.get("acked"):
                return AckedFrames(pack, unpack, counter, on_message)
            return Frames(unpack, on_message)

        return await sockets.listen(make, self.options["transport"])


class FrameSender(Sender):
    """``joined`` frames a write."""

    _protocol: Frames

    async def open(self, address: Any) -> None:
        self._pack, unpack = codec(self.options.get("codec", "msgpack"))
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._protocol = await sockets.dial(lambda: Frames(unpack, self._on_message), address)

    def _on_message(self, _: Frames, message: Any) -> None:
        if "ask" in message:
            self._waiting.pop(message["ask"]).set_result(message["value"])

    async def tell_many(self, make: Make, count: int) -> None:
        pack, length, write = self._pack, LENGTH.pack, self._protocol.transport.write
        joined = self.options.get("joined", JOINED)
        for start in range(0, count, joined):
            frames = []
            for i in range(start, min(start + joined, count)):
                body = pack(make(i))
                frames.append(length(len(body)))
                frames.append(body)
            write(b"".join(frames))
            await self._protocol.drain()

    def ask(self, message: Message) -> Awaitable[Any]:
        self._number += 1
        message["ask"] = self._number
        future = self._waiting[self._number] = self._loop.create_future()
        body = self._pack(message)
        self._protocol.transport.write(LENGTH.pack(len(body)) + body)
        return future

    async def report(self) -> Tally:
        return Tally(*await self.ask({"op": "report"}))
