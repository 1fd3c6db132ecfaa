"""Actors whose histories are checked message by message, for node processes that are cut off from each other.

All processes of a story append lines to one file, so its order is the order of time:

    <ns> handled  <actor> <node> <pid> <epoch> <sender> <number>
    <ns> sent     <actor> <sender> <number> <kind> <incarnation of its node>
    <ns> told     <actor> <sender> <number> <what its sender was told: ok, or the error> <incarnation of its node>
    <ns> letter   <actor> <node> <sender> <number> <reason>
    <ns> ended    <sender>

Store URLs of the scheme ``cuttable`` are sqlite files that a node cannot reach while the file ``cut-<node>`` stands
beside them (the cable of an etcd is cut by the relay in front of it).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import cajun_fast as cf
from cajun_fast.metadata import open_store
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.testing.faulty_store import FaultyStore

T = TypeVar("T")
log = logging.getLogger("splits")
FOLDER = Path(os.environ["SPLITS_FOLDER"])
LOG = os.open(FOLDER / "history", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
#: Seconds between two looks whether the store is cut off; between two rounds of a sender.
LOOK, PAUSE = 0.02, float(os.environ.get("SPLITS_PAUSE", "0.05"))
#: What an ask hears that waited in the mailbox of a copy which has lost its ownership.
STOPPED = "stopped before it came to the message"


def write(*words: Any) -> None:
    os.write(LOG, (" ".join(map(str, (time.monotonic_ns(), *words))) + "\n").encode())


def note(actor: cf.Actor, message: Any) -> None:
    """That it is handled, under which ownership as this node believes."""
    sender, number = message[:2]
    if sender != "probe":
        context = actor.context
        standing = context.system._node.hosting.owned.get(context.self.id)
        epoch = -1 if standing is None else standing.record.epoch
        write("handled", context.self.id, context.node_id, os.getpid(), epoch, sender, number)


@cf.actor("scribe")
class Scribe(cf.Actor):
    """Volatile; moves with the count of what it was sent."""

    def __init__(self) -> None:
        self.count = 0

    def get_state(self) -> Any:
        return self.count

    def set_state(self, state: Any) -> None:
        self.count = int(state)

    def receive(self, message: Any, context: cf.Context) -> Any:
        self.count += 1
        note(self, message)
        return context.node_id


@cf.actor("tome")
class Tome(cf.Actor):
    """Durable: keeps every number of every sender."""

    durable = True

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}

    def get_state(self) -> Any:
        return self.seen

    def set_state(self, state: Any) -> None:
        self.seen = {sender: list(numbers) for sender, numbers in state.items()}

    def receive(self, message: Any, context: cf.Context) -> Any:
        if message == "seen":
            return self.seen
        note(self, message)
        sender, number = message[:2]
        if sender != "probe":
            self.seen.setdefault(sender, []).append(number)
        return context.node_id


@cf.actor("sender")
class Sender(cf.Actor):
    """Has its process send numbers to all actors, whatever becomes of itself, until the file ``end`` is there."""

    def __init__(self, node: str, name: str, actors: list[str]) -> None:
        self.node, self.name, self.actors = node, name, actors

    def pre_start(self) -> None:
        mark = FOLDER / f"began-{self.name}"
        if self.context.node_id == self.node and not mark.exists():  # else it runs elsewhere now
            mark.touch()
            SENDING.append(asyncio.ensure_future(Sending(self.context.system, self.name).run(self.actors)))


SENDING: list[asyncio.Task[None]] = []


class Sending:
    """One sender's work."""

    def __init__(self, system: Any, name: str) -> None:
        self.system, self.name = system, name
        self.open: set[asyncio.Task[None]] = set()
        system.dead_letters.subscribe(self.on_letter)

    @property
    def incarnation(self) -> int:
        return int(self.system._node.owner.incarnation)

    async def run(self, actors: list[str]) -> None:
        number = 0
        while not (FOLDER / "end").exists():
            number += 1
            for actor in actors:
                self.one(actor, number)
            await asyncio.sleep(PAUSE)
        await asyncio.gather(*self.open)
        write("ended", self.name)

    def one(self, actor: str, number: int) -> None:
        """Every third waits for its answer; the others, in turn, go exactly once and at least once."""
        kind = ("ask", "once", "least")[number % 3]
        pid, message = self.system.pid(actor), [self.name, number]
        write("sent", actor, self.name, number, kind, self.incarnation)
        if kind == "ask":
            outcome = pid.ask(message, timeout=30, guarantee=cf.DeliveryGuarantee.EXACTLY_ONCE)
        else:
            once = cf.DeliveryGuarantee.EXACTLY_ONCE
            outcome = pid.send(
                message, guarantee=once if kind == "once" else cf.DeliveryGuarantee.AT_LEAST_ONCE
            )
        task = asyncio.ensure_future(self.wait_for(outcome, actor, number))
        self.open.add(task)
        task.add_done_callback(self.open.discard)

    async def wait_for(self, outcome: Awaitable[Any], actor: str, number: int) -> None:
        try:
            await outcome
            told = "ok"
        except (cf.CajunError, TimeoutError) as error:
            told = "stopped" if STOPPED in str(error) else type(error).__name__
            log.info("%s was told of %s to %s: %s", self.name, number, actor, error)
        write("told", actor, self.name, number, told, self.incarnation)

    def on_letter(self, letter: Any) -> None:
        """Each message that ends as a dead letter on this node."""
        message = letter.message
        if isinstance(message, bytes):
            message = self.system.exchange.decode(message)
        match message:
            case [str(sender), int(number)]:
                write("letter", letter.target, self.system.node_id, sender, number, letter.reason)


class Cuttable(FaultyStore):
    """Out of reach while a file says so."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self.path = url.removeprefix("cuttable:///")
        self._watching: asyncio.Task[None] | None = None
        super().__init__(
            open_store(
                f"sqlite:///{self.path}", clock=options.clock, random=options.random, timeout=options.timeout
            )
        )

    @property
    def is_cut(self) -> bool:
        return (FOLDER / f"cut-{os.environ['SPLITS_NODE']}").exists()

    async def connect(self) -> None:
        await super().connect()
        self._watching = asyncio.ensure_future(self._watch_the_file())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        await super().close()

    async def _watch_the_file(self) -> None:
        while True:
            if self.is_cut != self.down:
                self.fall() if self.is_cut else self.rise()
            await asyncio.sleep(LOOK)

    async def _call(self, name: str, detail: Any, work: Callable[[], Awaitable[T]]) -> T:
        if self.is_cut:
            await asyncio.sleep(LOOK)  # nobody answers; an etcd would have said so after its time-out
            raise self.unavailable(name)
        self.calls.clear()
        return await super()._call(name, detail, work)


def open_cuttable(url: str, options: StoreOptions) -> Cuttable:
    """Entry point of the scheme."""
    return Cuttable(url, options)
