"""The accounts of the demo: each streams transfers to others, handles those of others, writes both down.

A transfer is a tell ``[stream, number, amount]``. After each batch the sender asks the receiver for a
receipt, ``[stream]``: it comes behind all of the batch, and says which life of the receiver answers, and
from where to where it has handled this stream. What the engine could not deliver, it tells as a dead letter
of the sender's node.

Laws: an account of a lost node starts again from nothing, as a new life with new streams; a life's number
is never used twice. All that is kept of a transfer is that its number was passed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cajun_fast as cf
from cajun_fast.management.demo import books
from cajun_fast.management.demo.books import IN, OUT, Control, Ledger, Note, amount_of
from cajun_fast.management.demo.ranges import Ranges

#: Transfers between two receipts of a stream.
BATCH = 64
#: Accounts to which one account transfers.
PARTNERS = 4
#: Seconds until a receipt that did not come is asked for again.
RECEIPT_TIMEOUT = 5.0
GAUGE_INTERVAL = 0.2
#: For tests of the verdict: ``double`` sends one transfer of each stream twice, ``lose`` forgets to send one.
PLANT = "CAJUN_DEMO_PLANT"
PLANTED_AT = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """What every account is told when it is made."""

    folder: str
    nodes: list[str]
    index: int
    partners: list[int]
    guarantee: str
    capacity: int

    def as_plain(self) -> list[Any]:
        """In a form that travels."""
        return [self.folder, self.nodes, self.index, self.partners, self.guarantee, self.capacity]


def account_id(index: int) -> str:
    """The id of an account."""
    return f"account-{index}"


class Desk:
    """What the accounts of one process share: its book, the control, the ear for dead letters."""

    def __init__(self, plan: Plan, system: cf.ClusterActorSystem) -> None:
        folder = Path(plan.folder)
        self.system = system
        self.node = plan.nodes.index(system.node_id)
        self.ledger = Ledger(folder / f"{system.node_id}.book", plan.capacity)
        self.control = Control(folder / "control")
        self.guarantee = cf.DeliveryGuarantee[plan.guarantee]
        self.outflows: dict[int, Outflow] = {}
        self.plant = os.environ.get(PLANT, "")
        self._nodes = frozenset(plan.nodes)
        system.dead_letters.subscribe(self._on_dead_letter)
        self._gauges = asyncio.get_running_loop().create_task(self._watch())

    def new_life(self) -> int:
        """Its number is its own in the whole demo."""
        return self.node << 20 | self.ledger.new_life()

    def planted(self, numbers: range) -> Sequence[int]:
        """The numbers, unless a test has a fault planted."""
        if not self.plant or PLANTED_AT not in numbers:
            return numbers
        before, after = range(numbers.start, PLANTED_AT), range(PLANTED_AT + 1, numbers.stop)
        return [*before, *([PLANTED_AT] * 2 if self.plant == "double" else []), *after]

    async def _watch(self) -> None:
        cells = self.ledger.cells
        while True:
            cells[books.AT_PEERS] = len(self._nodes & self.system.known_nodes.keys()) - 1
            cells[books.AT_LEADER] = self.system.is_leader
            cells[books.AT_ACCOUNTS] = len(self.system.actor_ids())
            await asyncio.sleep(GAUGE_INTERVAL)

    def _on_dead_letter(self, letter: cf.DeadLetter) -> None:
        message = letter.message
        if isinstance(message, bytes):
            message = self.system.exchange.decode(message)
        if not isinstance(message, list) or len(message) != 3:
            return  # a receipt: who asked for it hears of it
        stream, number, _ = message
        kind = "unknown" if letter.reason == cf.OutcomeUnknownError.__name__ else "failed"
        outflow = self.outflows.get(stream)
        if outflow is None or number <= outflow.settled:
            self.ledger.note(Note(kind, stream, number, number, 0, letter.reason))
        else:
            (outflow.unknown if kind == "unknown" else outflow.failed).add(number, number)


_desks: dict[str, Desk] = {}


def desk_of(plan: Plan, system: cf.ClusterActorSystem) -> Desk:
    """That of this process; made by its first account."""
    if plan.folder not in _desks:
        _desks[plan.folder] = Desk(plan, system)
    return _desks[plan.folder]


class Outflow:
    """A stream at its sender."""

    def __init__(self, desk: Desk, life: int, target: int) -> None:
        self.desk = desk
        self.stream = life << 16 | target
        self.pid = desk.system.pid(account_id(target))
        self.settled = 0
        self.failed, self.unknown = Ranges(), Ranges()
        self._receiver = 0  # the life that gave the last receipt
        self._at = desk.ledger.new_row(OUT, self.stream, life, 0, 0)
        desk.outflows[self.stream] = self

    async def run(self) -> None:
        """Transfer until the demo closes."""
        control = self.desk.control
        while control.phase == Control.WAIT:  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(0.02)
        self._receiver = (await self._receipt())[0]
        while control.phase == Control.TRADE:
            last = await self._send_batch()
            self._settle(last, *await self._receipt())

    async def _send_batch(self) -> int:
        cells, at, tell = self.desk.ledger.cells, self._at + books.SENT, self.pid.tell
        stream, guarantee = self.stream, self.desk.guarantee
        for number in self.desk.planted(range(self.settled + 1, self.settled + BATCH + 1)):
            cells[at] = number
            while True:
                try:
                    tell([stream, number, amount_of(number)], guarantee=guarantee)
                    break
                except cf.BackpressureError:  # nothing was sent
                    await self.pid.ready()
        return self.settled + BATCH

    async def _receipt(self) -> list[int]:
        """Ask until somebody answers: while the account starts elsewhere nobody does."""
        while True:
            asked = time.perf_counter_ns()
            try:
                receipt: list[int] = await self.pid.ask([self.stream], timeout=RECEIPT_TIMEOUT)
            except cf.CajunError:
                await asyncio.sleep(0.05)
                continue
            self.desk.ledger.record_latency((time.perf_counter_ns() - asked) // 1000)
            return receipt

    def _settle(self, last: int, life: int, start: int, watermark: int) -> None:
        if life != self._receiver:  # a new life vouches for what it has handled, and for nothing before
            vouched = Ranges([(start, watermark)]) if start else Ranges()
            nobody = Ranges([(self.settled + 1, last)]) - vouched - self.failed - self.unknown
            self._note("vouched by nobody", nobody)
            self._receiver = life
        self._note("failed", self.failed)
        self._note("unknown", self.unknown)
        self.failed, self.unknown = Ranges(), Ranges()
        self.settled = last
        self.desk.ledger.cells[self._at + books.SETTLED] = last

    def _note(self, kind: str, numbers: Ranges) -> None:
        for first, last in numbers:
            self.desk.ledger.note(Note(kind, self.stream, first, last))

    def end(self) -> None:
        """Its account is stopped; if that is before the end of the demo, what is open stays open."""
        if self.desk.control.phase != Control.CLOSE:
            self.desk.ledger.cells[self._at + books.ENDED] = 1


class Inflow:
    """A stream at its receiver."""

    __slots__ = ("_missing", "at", "cells", "desk", "life", "next", "start", "stream", "total")

    def __init__(self, desk: Desk, life: int, stream: int, start: int) -> None:
        self.desk, self.life, self.stream, self.start = desk, life, stream, start
        self.next, self.total = start, 0
        self.cells = desk.ledger.cells
        self.at = desk.ledger.new_row(IN, stream, life, start)
        self._missing = Ranges([(1, start - 1)])

    def astray(self, number: int, amount: int) -> None:
        """It is not the next one: some are missing before it, or it comes late, or it has come before."""
        cells, at = self.cells, self.at
        if number < self.next and number not in self._missing:
            cells[at + books.DOUBLES] += 1
            return
        self.total += amount
        cells[at + books.TOTAL] = self.total
        if number < self.next:
            self._missing -= Ranges([(number, number)])
            self._note("late", number, number)
            cells[at + books.LATE] += 1
        else:
            self._missing.add(self.next, number - 1)
            self._note("gap", self.next, number - 1)
            self.next = number + 1
            cells[at + books.WATERMARK] = number

    def _note(self, kind: str, first: int, last: int) -> None:
        self.desk.ledger.note(Note(kind, self.stream, first, last, self.life))


@cf.actor("cajun-demo-account")
class Account(cf.Actor):
    """See the module's text."""

    def __init__(self, plan: list[Any]) -> None:
        self.plan = Plan(*plan)
        self.balance = 0
        self.inflows: dict[int, Inflow] = {}
        self.outflows: list[Outflow] = []
        self.tasks: list[asyncio.Task[None]] = []

    def pre_start(self) -> None:
        self.desk = desk_of(self.plan, self.context.system)
        self.life = self.desk.new_life()
        self.outflows = [Outflow(self.desk, self.life, target) for target in self.plan.partners]
        start: Callable[..., asyncio.Task[None]] = asyncio.get_running_loop().create_task
        self.tasks = [start(outflow.run()) for outflow in self.outflows]

    def receive(self, message: Any, context: cf.Context) -> Any:
        if len(message) != 3:
            return self.answer(message[0], context)
        stream, number, amount = message
        flow = self.inflows.get(stream)
        if flow is None:
            flow = self.inflows[stream] = Inflow(self.desk, self.life, stream, number)
        self.balance += amount
        if number != flow.next:
            return flow.astray(number, amount)
        flow.next = number + 1
        flow.total = total = flow.total + amount
        cells, at = flow.cells, flow.at
        cells[at + 5] = total  # books.TOTAL and books.WATERMARK, without a look-up a transfer
        cells[at + 4] = number
        return None

    def answer(self, question: Any, context: cf.Context) -> Any:
        """A receipt for a stream, or where this account is."""
        if question == "where":
            return [context.node_id, self.life]
        flow = self.inflows.get(question)
        return [self.life, flow.start, flow.next - 1] if flow is not None else [self.life, 0, 0]

    def post_stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for outflow in self.outflows:
            outflow.end()
