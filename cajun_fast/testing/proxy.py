"""A bad network between two nodes: a proxy that knows where frames begin and does to them what networks do.

Laws: stands where a node's address is given to another one; each direction has rules of its own; chance comes from the
generator that is handed in; what it did is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cajun_fast.ports import Address

HEADER: Final = struct.Struct("<BBBBIQ")  # magic, version, type, flags, length, sequence
CHUNK: Final = 64 * 1024


@dataclass(slots=True)
class Rules:
    """What befalls frames in one direction. Probabilities a frame; ``kinds``: only frames of these types, None all."""

    drop: float = 0.0
    duplicate: float = 0.0
    swap: float = 0.0
    cut: float = 0.0
    delay: float = 0.0  # seconds, each frame
    rate: float = 0.0  # bytes a second, 0 for no limit
    kinds: frozenset[int] | None = None

    def concerns(self, frame: bytes) -> bool:
        return self.kinds is None or frame[2] in self.kinds


class Proxy:
    """Listens, and carries each connection on to ``target``."""

    def __init__(self, target: Address, generator: random.Random, *, unix: bool = False) -> None:
        self.target = target
        self.there, self.back = Rules(), Rules()
        self.connections = 0
        self.counts = {"drop": 0, "duplicate": 0, "swap": 0, "cut": 0, "frame": 0}
        self.refusing = False
        self._random = generator
        self._unix = unix
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._carriers: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Address:
        """Where to dial instead of the target."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Carry nothing more."""
        if self._server is not None:
            self._server.close()
        self.cut()
        self._open.set()
        for task in list(self._carriers):
            task.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)

    def cut(self) -> None:
        """Cut all connections now."""
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Pull the cable: connections stand, nothing comes through."""
        self._open.clear()

    def flow(self) -> None:
        """Plug the cable in again."""
        self._open.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carriers.add(task)
        self.connections += 1
        try:
            if self.refusing:
                return
            far_reader, far_writer = await self._dial()
            self._writers |= {writer, far_writer}
            ways = [
                asyncio.ensure_future(self._pump(reader, far_writer, lambda: self.there)),
                asyncio.ensure_future(self._pump(far_reader, writer, lambda: self.back)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                self._writers -= {writer, far_writer}
                far_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            return  # cancelled by `stop`: the task ends here, and nobody awaits it but that
        finally:
            writer.transport.abort()
            self._carriers.discard(task)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._unix and self.target.path:
            return await asyncio.open_unix_connection(self.target.path)
        return await asyncio.open_connection(self.target.host, self.target.port)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rules_now: Callable[[], Rules]
    ) -> None:
        kept: bytes | None = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await self._frame(reader)
                await self._open.wait()
                rules = rules_now()
                if rules.delay or rules.rate:
                    await asyncio.sleep(rules.delay + (len(frame) / rules.rate if rules.rate else 0))
                out, kept = self._fate(frame, kept, rules)
                if out is None:
                    return
                if out:
                    writer.write(out)
                    await writer.drain()

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(HEADER.size)
        length = HEADER.unpack(head)[4]
        self.counts["frame"] += 1
        return head + await reader.readexactly(length)

    def _fate(self, frame: bytes, kept: bytes | None, rules: Rules) -> tuple[bytes | None, bytes | None]:
        """What is written now (None: the connection is cut), and what is kept to come behind the next frame."""
        if not rules.concerns(frame):
            return frame + (kept or b""), None
        if self._strikes("cut", rules.cut):
            return None, None
        if self._strikes("drop", rules.drop):
            return kept or b"", None
        if kept is None and self._strikes("swap", rules.swap):
            return b"", frame
        if self._strikes("duplicate", rules.duplicate):
            frame += frame
        return frame + (kept or b""), None

    def _strikes(self, what: str, probability: float) -> bool:
        struck = probability > 0 and self._random.random() < probability
        self.counts[what] += struck
        return struck
