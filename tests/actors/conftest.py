"""A running system for each test, and ways to wait that turn no clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cajun_fast.actors import Actor, ActorSystem, Context


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    async with ActorSystem("n1") as running:
        yield running


class Recorder(Actor):
    """Keeps what it is told; answers an ask with all of it."""

    def __init__(self, seen: list[Any] | None = None) -> None:
        self.seen = seen if seen is not None else []

    def receive(self, message: Any, context: Context) -> list[Any]:
        self.seen.append(message)
        return list(self.seen)


async def until(condition: Callable[[], Any], turns: int = 2000) -> None:
    """Let the loop turn until ``condition()`` holds."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("what was waited for did not happen")
