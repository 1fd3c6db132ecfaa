"""Nodes that are killed, for test_kills.py: what they did is in a file, written before anything else happens, which
outlives them.

    python -m tests.messaging.ledger receive  <name> <incarnation> <ledger>
    python -m tests.messaging.ledger send     <name> <incarnation> <ledger> <port of the receiver>

The receiver's actor "x" writes each message. The sender sends numbers from 0 to "x" and writes what became of each.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from cajun_fast.errors import CajunError
from cajun_fast.ports import Address
from tests.messaging.nodes import Node

AT_ONCE = 200  # sends in flight


class Ledger:
    """Lines in a file; a line that was written outlives the process."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, *entry: Any) -> None:
        os.write(self._file, (json.dumps(entry) + "\n").encode())


def read(path: str) -> list[list[Any]]:
    """What was written; the last line may have been cut off by the kill."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


async def receive(name: str, incarnation: str, path: str) -> None:
    node, ledger = await Node(name, int(incarnation)).start(), Ledger(path)

    def on_message(message: Any, context: Any) -> None:
        ledger.write(int(incarnation), message)

    await node.actors.spawn(on_message, "x")
    print(json.dumps({"port": node.address.port, "path": node.address.path}), flush=True)  # noqa: T201
    await asyncio.Event().wait()


async def send(name: str, incarnation: str, path: str, port: str) -> None:
    node, ledger = await Node(name, int(incarnation)).start(), Ledger(path)
    node.messaging.add_node("b", 1, [Address("127.0.0.1", int(port))])
    pid = node.pid("x", "b")
    room = asyncio.Semaphore(AT_ONCE)

    def told(number: int, future: Any) -> None:
        room.release()
        error = future.exception()
        ledger.write(number, "taken" if error is None else type(error).__name__)

    await pid.send([int(incarnation), 0])
    print(json.dumps({"port": node.address.port, "path": None}), flush=True)  # noqa: T201
    for number in range(1, 10**9):
        await room.acquire()
        try:
            pid.send([int(incarnation), number]).add_done_callback(
                lambda future, number=number: told(number, future)
            )
        except CajunError as error:
            ledger.write(number, type(error).__name__)
        if number % 20 == 0:
            await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run({"receive": receive, "send": send}[sys.argv[1]](*sys.argv[2:]))
