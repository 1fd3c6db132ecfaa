"""A node as a process of its own, for tests that stop, block or kill it.

    python -m tests.messaging.lives live <name> <incarnation>

Prints its port and Unix path as JSON; has an actor "x" that answers with how many messages it got, that blocks on
{"block": seconds}, and that holds the GIL on {"hold": seconds}.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from cajun_fast.ports import Address
from tests.messaging.nodes import Node

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A running node of its own."""

    def __init__(
        self, name: str, incarnation: int, process: asyncio.subprocess.Process, hello: dict[str, Any]
    ):
        self.name, self.incarnation, self.process = name, incarnation, process
        self.address = Address("127.0.0.1", hello["port"], hello["path"])
        self.pid = process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def process(
    name: str,
    incarnation: int = 1,
    module: str = "tests.messaging.lives",
    role: str = "live",
    *arguments: str,
) -> AsyncIterator[Process]:
    """One that runs until the block is left, and is killed then."""
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, role, name, str(incarnation), *arguments,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert made.stdout is not None
        line = await asyncio.wait_for(made.stdout.readline(), 20)
        yield Process(name, incarnation, made, json.loads(line))
    finally:
        if made.returncode is None:
            made.kill()
        await made.wait()


def hold_gil(seconds: float) -> None:
    """What an extension does that computes and never lets go."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


async def live(name: str, incarnation: str) -> None:
    node = await Node(name, int(incarnation)).start()
    count = 0

    def receive(message: Any, context: Any) -> int:
        nonlocal count
        match message:
            case {"block": seconds}:
                time.sleep(seconds)
            case {"hold": seconds}:
                hold_gil(seconds)
        count += 1
        return count

    await node.actors.spawn(receive, "x")
    await node.actors.spawn(lambda message, context: None, "sink")
    print(json.dumps({"port": node.address.port, "path": node.address.path}), flush=True)  # noqa: T201
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(live(*sys.argv[2:]))
