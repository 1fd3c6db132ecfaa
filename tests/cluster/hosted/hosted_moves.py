"""Actors that move, for the node processes of the tests, and hand-offs that stand still where a test wants it.

An actor whose id ends in ``@<side>-<point>`` has its hand-off stopped there for ever: before that act of its source
(``departure.Act``), or at that step of its target. The file ``at-<id>`` says that it stands there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cajun_fast as cf
from cajun_fast.cluster.movement.destination import Destination, Incoming
from cajun_fast.cluster.movement.source import HandOff

FOLDER = Path(os.environ["MOVES_FOLDER"])
LOG = os.open(FOLDER / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@cf.actor("book")
class Book(cf.Actor):
    """Keeps what it is sent; its lives and its messages are written down too, in one file for all processes."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def get_state(self) -> Any:
        return self.seen

    def set_state(self, state: Any) -> None:
        self.seen = list(state)

    def write(self, what: str) -> None:
        os.write(LOG, f"{self.context.self.id} {self.context.node_id} {what}\n".encode())

    def pre_start(self) -> None:
        self.write(f"start {len(self.seen)}")

    def post_stop(self) -> None:
        self.write("stop")

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case ["note", str(sender), int(number)]:
                self.seen.append([sender, number])
                self.write(f"note {sender} {number}")
                return number
            case "where":
                return context.node_id
        return self.seen


@cf.actor("chest")
class Chest(Book):
    """Keeps how far each sender has come, and what came twice or out of order: a small state, for many commits."""

    durable = True

    def __init__(self) -> None:
        self.next: dict[str, int] = {}
        self.wrong: list[Any] = []

    def get_state(self) -> Any:
        return [self.next, self.wrong]

    def set_state(self, state: Any) -> None:
        self.next, self.wrong = dict(state[0]), list(state[1])

    def pre_start(self) -> None:
        self.write("start 0")

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case ["note", str(sender), int(number)]:
                if number != self.next.get(sender, 0):
                    self.wrong.append(message)
                self.next[sender] = number + 1
                return number
            case "where":
                return context.node_id
        return self.get_state()


@cf.actor("feeder")
class Feeder(cf.Actor):
    """Tells an actor numbered messages from its own node."""

    async def receive(self, message: Any, context: cf.Context) -> Any:
        target, first, count = message
        pid = context.system.pid(target)
        for number in range(first, first + count):
            while True:
                try:
                    pid.tell(["note", context.self.id, number])
                    break
                except cf.BackpressureError:
                    await pid.ready()
            if number % 16 == 0:
                await asyncio.sleep(0)
        return count


async def stand(point: str, actor_id: str) -> None:
    if actor_id.endswith(f"@{point}"):
        (FOLDER / f"at-{actor_id}").touch()
        await asyncio.Event().wait()


def plant_in_source() -> None:
    begin = HandOff.__init__

    def planted(self: HandOff, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        for act, step in self._acts.items():
            self._acts[act] = behind(f"source-{act.value}", self._cell.id, step)

    HandOff.__init__ = planted  # type: ignore[method-assign]


def behind(point: str, actor_id: str, step: Callable[[], Awaitable[Any]]) -> Callable[[], Any]:
    async def planted() -> Any:
        await stand(point, actor_id)
        return await step()

    return planted


def plant_in_target() -> None:
    load, start, let_in, go = Destination.load, Destination._start, Destination._let_in, Destination.go

    async def planted_load(self: Destination, actor_id: str, *args: Any) -> Any:
        await stand("target-load", actor_id)
        answer = await load(self, actor_id, *args)
        await stand("target-taken", actor_id)
        return answer

    async def planted_start(self: Destination, incoming: Incoming, started: Any) -> None:
        await stand("target-start", incoming.actor_id)
        await start(self, incoming, started)

    async def planted_let_in(self: Destination, incoming: Incoming) -> None:
        await stand("target-let-in", incoming.actor_id)
        await let_in(self, incoming)

    async def planted_go(self: Destination, actor_id: str, *args: Any) -> Any:
        answer = await go(self, actor_id, *args)
        await stand("target-started", actor_id)
        return answer

    Destination.load = planted_load  # type: ignore[method-assign]
    Destination._start = planted_start  # type: ignore[method-assign]
    Destination._let_in = planted_let_in  # type: ignore[method-assign]
    Destination.go = planted_go  # type: ignore[method-assign]


plant_in_source()
plant_in_target()
