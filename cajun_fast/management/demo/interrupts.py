"""A command that a signal ends: its work is cancelled, and has cleaned up behind itself before the command returns."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any


async def interruptible(work: Coroutine[Any, Any, int | None], words: str = "") -> int:
    """The exit status: what the work returns, or 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP; ``words`` are
    said on standard error then.
    """
    task = asyncio.ensure_future(work)
    caught: list[signal.Signals] = []

    def interrupt(number: signal.Signals) -> None:
        caught.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt, number)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if not caught:
            raise
        if words:
            print(words, file=sys.stderr)  # noqa: T201
        return 128 + caught[0]
