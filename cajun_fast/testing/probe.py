"""An actor that keeps what it gets, and a test that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cajun_fast.pid import Pid


class Probe:
    """Stands for an actor; ``pid`` is what others send to. Made by ``Members.probe``."""

    pid: Pid

    def __init__(self, reply: Callable[[Any], Any] | None = None) -> None:
        """``reply(message)`` answers asks; without one the message itself is the answer."""
        self.seen: list[Any] = []
        self._reply = reply
        self._read = 0
        self._came = asyncio.Event()

    def receive(self, message: Any, context: Any) -> Any:
        """The actor's handler."""
        self.seen.append(message)
        self._came.set()
        return message if self._reply is None else self._reply(message)

    async def next(self, timeout: float = 5.0) -> Any:
        """The next message, in order; AssertionError if none comes in time."""
        await self._until(lambda: len(self.seen) > self._read, timeout, "no message came")
        self._read += 1
        return self.seen[self._read - 1]

    async def expect(self, *messages: Any, timeout: float = 5.0) -> None:
        """Exactly these come next, in this order."""
        for number, message in enumerate(messages, 1):
            got = await self.next(timeout)
            assert got == message, f"message {number} of {len(messages)}: expected {message!r}, got {got!r}"

    async def until(self, holds: Callable[[list[Any]], object], timeout: float = 5.0) -> list[Any]:
        """All messages so far, once ``holds(messages)``."""
        await self._until(lambda: bool(holds(self.seen)), timeout, "it does not hold")
        return list(self.seen)

    async def quiet(self, seconds: float = 0.2) -> None:
        """Nothing more comes for so long."""
        before = len(self.seen)
        await asyncio.sleep(seconds)
        assert len(self.seen) == before, f"{len(self.seen) - before} more came: {self.seen[before:]!r:.500}"

    async def _until(self, holds: Callable[[], bool], timeout: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not holds():
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"{what} within {timeout} s; so far: {self.seen!r:.500}") from None
