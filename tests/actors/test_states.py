"""An actor's life as a whole, against a plain model: whatever happens in whatever order, each message has one fate."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cajun_fast._core.cell import Cell
from cajun_fast.actors import Actor, ActorSystem, Context, Directive, Supervision
from cajun_fast.clock import ManualClock
from cajun_fast.errors import CajunError
from cajun_fast.ports import Ports


class Probe(Actor):
    """Notes what it begins and ends; fails when it is told so; holds its mind to one message at a time."""

    active = 0

    def __init__(self, log: list[tuple[str, int]]) -> None:
        self.log = log

    def enter(self, number: int) -> None:
        assert Probe.active == 0, "two messages at once"
        Probe.active += 1
        self.log.append(("begin", number))

    def leave(self, number: int, kind: str) -> int:
        Probe.active -= 1
        self.log.append(("end", number))
        if kind == "fail":
            raise ValueError(number)
        return number


class Sync(Probe):
    def receive(self, message: Any, context: Context) -> int:
        kind, number = message
        self.enter(number)
        return self.leave(number, kind)


class Async(Probe):
    async def pre_start(self) -> None:
        await asyncio.sleep(0)

    async def receive(self, message: Any, context: Context) -> int:
        kind, number = message
        self.enter(number)
        for _ in range(number % 3):
            await asyncio.sleep(0)
        return self.leave(number, kind)


class Mixed(Probe):
    def receive(self, message: Any, context: Context) -> Any:
        kind, number = message
        self.enter(number)
        if number % 2:
            return self.leave(number, kind)

        async def later() -> int:
            await asyncio.sleep(0)
            return self.leave(number, kind)

        return later()


STEP = st.sampled_from(
    ["tell", "tell", "tell", "ask", "ask", "fail", "turn", "turn", "freeze", "thaw", "stop", "spawn"]
)


@settings(max_examples=150)
@given(
    kind=st.sampled_from([Sync, Async, Mixed]),
    rule=st.sampled_from(list(Directive)),
    policy=st.sampled_from(["block", "drop-new", "drop-oldest", "fail"]),
    capacity=st.integers(1, 6),
    steps=st.lists(STEP, max_size=60),
)
def test_every_message_has_one_fate_and_order_is_kept(
    kind: type[Probe], rule: Directive, policy: str, capacity: int, steps: list[str]
) -> None:
    async def live() -> None:
        life = Life(
            kind,
            mailbox_capacity=capacity,
            mailbox_policy=policy,
            supervision=Supervision(rule, max_restarts=3),
        )
        await life.begin()
        for number, step in enumerate(steps):
            await life.step(number, step)
        await life.end(turns=20 + 10 * len(steps))
        life.check()

    Probe.active = 0
    with asyncio.Runner() as runner:
        runner.run(live())


class Life:
    """One actor, what was sent to it, and what became of that."""

    def __init__(self, kind: type[Probe], **props: Any) -> None:
        self.kind = kind
        self.props = props
        self.log: list[tuple[str, int]] = []
        self.fates: Counter[int] = Counter()
        self.asks: dict[int, asyncio.Future[int]] = {}
        self.sent: list[int] = []
        self.system = ActorSystem("n1", ports=Ports(clock=ManualClock(), random=random.Random(1)))

    async def begin(self) -> None:
        await self.system.start()
        self.system.dead_letters.subscribe(lambda letter: self.fates.update([letter.message[1]]))
        await self.spawn()

    async def spawn(self) -> None:
        await self.system.spawn(self.kind, "x", self.log, **self.props)

    async def step(self, number: int, step: str) -> None:
        cell = self.system.cell("x")
        if step in ("tell", "fail", "ask"):
            self.send(number, step)
        elif step == "turn":
            await asyncio.sleep(0)
        elif step == "stop":
            await self.system.stop_actor("x")
        elif cell is None and step == "spawn":
            await self.spawn()
        elif cell is not None:
            self.hold(cell, step)

    def send(self, number: int, step: str) -> None:
        self.sent.append(number)
        pid = self.system.pid("x")
        try:
            if step == "ask":
                self.asks[number] = pid.ask(("tell", number), timeout=3600)
            else:
                pid.tell((step, number))
        except CajunError:
            self.fates[number] += 1

    def hold(self, cell: Cell, step: str) -> None:
        if step == "freeze" and cell.state in ("running", "suspended"):
            cell.freeze()
        elif step == "thaw" and cell.state == "frozen":
            cell.thaw()

    async def end(self, turns: int) -> None:
        if (cell := self.system.cell("x")) is not None:
            self.hold(cell, "thaw")
        for _ in range(turns):
            await asyncio.sleep(0)
        await self.system.stop()

    def check(self) -> None:
        begun = [number for what, number in self.log if what == "begin"]
        assert begun == sorted(begun), "out of order"
        assert self.log == [entry for n in begun for entry in (("begin", n), ("end", n))]
        for number, ask in self.asks.items():
            assert ask.done()
            if ask.exception() is None:
                assert ask.result() == number
            elif number not in begun:
                self.fates[number] += 1
        self.fates.update(begun)
        assert self.fates == Counter(self.sent)
