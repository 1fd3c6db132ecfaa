"""A far actor that is slower than its senders: who waits for room lets the loop run, and all of it arrives in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.messaging.nodes import tell_all, until

MESSAGES = 5_000


@pytest.mark.parametrize("capacity", [1, 100, 2_000])
async def test_ready_waits_while_a_full_mailbox_is_tried_step_by_step(make_node: Any, capacity: int) -> None:
    a, b = await make_node("a"), await make_node("b")
    a.knows(b)
    log: list[int] = []

    async def slow(message: int, context: Any) -> int:
        if message % 50 == 0:
            await asyncio.sleep(0)
        log.append(message)
        return len(log)

    await b.actors.spawn(slow, "x", mailbox_capacity=capacity)
    pid = a.pid("x", b)
    turns = 0

    async def watch() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    watcher = asyncio.ensure_future(watch())
    async with asyncio.timeout(45):
        await tell_all(pid, list(range(MESSAGES)))
        await until(lambda: len(log) == MESSAGES, 40)
    watcher.cancel()
    assert log == list(range(MESSAGES))
    assert turns > MESSAGES // 1000
    assert a.link(b).returned > 0  # it was full at times, or nothing was tested
