"""What the node processes of these tests import."""

from __future__ import annotations

import asyncio
import ctypes
import os
from typing import Any

import cajun_fast as cf


@cf.actor("witness")
class Witness(cf.Actor):
    """Writes down each message that it handles, with where it ran: one line each, in one file for all processes."""

    def __init__(self, log: str) -> None:
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def receive(self, message: Any, context: Any) -> Any:
        match message:
            case ["hold", float(seconds)]:
                ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # a call into C that keeps the GIL
        os.write(self.log, f"{context.self.id} {context.node_id} {message}\n".encode())
        return context.node_id


@cf.actor("ledger", sharded=True)
class Ledger(cf.Actor):
    """As Witness, for each entity of a sharded type: ``LEDGER_LOG`` names the file."""

    def __init__(self) -> None:
        self.log = os.open(os.environ["LEDGER_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def receive(self, message: Any, context: Any) -> Any:
        os.write(self.log, f"{context.self.id} {context.node_id} {message}\n".encode())
        return context.node_id

    def post_stop(self) -> None:
        os.close(self.log)


@cf.actor("note")
class Note(cf.Actor):
    """Keeps what it is told, and takes it along."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def get_state(self) -> Any:
        return self.notes

    def set_state(self, state: Any) -> None:
        self.notes = list(state)

    def receive(self, message: Any, context: Any) -> Any:
        if message != "get":
            self.notes.append(message)
        return self.notes


@cf.actor("caller")
class Caller(cf.Actor):
    """Tells and asks an actor numbers, each in order, for as long as it lives."""

    async def receive(self, message: Any, context: Any) -> Any:
        target = context.system.pid(message)
        asks: list[Any] = []
        for number in range(1_000_000):
            target.tell(["tell", number])
            if number % 10 == 0 and len(asks) < 200:
                asks.append(asyncio.ensure_future(target.ask(["ask", len(asks)], timeout=60)))
            if number % 50 == 0:
                await asyncio.sleep(0)
