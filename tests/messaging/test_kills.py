"""kill -9 of either side at random moments under load: message by message, what was told is what happened.

A few times in every run of the tests; CAJUN_KILLS=300 and more by hand.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.errors import CajunError, OutcomeUnknownError
from tests.messaging import ledger
from tests.messaging.lives import process
from tests.messaging.nodes import until

KILLS = int(os.environ.get("CAJUN_KILLS", "4"))
SEED = int(os.environ.get("CAJUN_SEED", "0")) or random.SystemRandom().getrandbits(32)
MODULE = "tests.messaging.ledger"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60 + 5 * KILLS)]


class Books:
    """What the sender was told of each number."""

    def __init__(self) -> None:
        self.taken: set[int] = set()
        self.unknown: set[int] = set()
        self.failed: dict[int, CajunError] = {}
        self.open = 0

    def note(self, number: int, future: asyncio.Future[None]) -> None:
        self.open -= 1
        error = future.exception()
        if error is None:
            self.taken.add(number)
        elif isinstance(error, OutcomeUnknownError):
            self.unknown.add(number)
        else:
            assert isinstance(error, CajunError), error
            self.failed[number] = error


async def test_a_receiver_that_is_killed_again_and_again_handles_nothing_twice_and_every_fate_is_told(
    make_node: Any, tmp_path: Path
) -> None:
    chance, books, path = random.Random(SEED), Books(), str(tmp_path / "ledger")
    a = await make_node("a")
    a.table.patience = 10**6
    numbers = itertools.count()
    for incarnation in range(1, KILLS + 2):
        async with process("b", incarnation, MODULE, "receive", path) as b:
            a.knows(b)
            pid = a.pid("x", "b")
            kill = asyncio.get_running_loop().call_later(chance.uniform(0.0, 0.25), b.signal, signal.SIGKILL)
            if incarnation > KILLS:
                kill.cancel()
            while b.process.returncode is None and not (incarnation > KILLS and books.open == 0):
                for number in itertools.islice(
                    numbers, chance.choice((1, 5, 20)) if books.open < 2000 else 0
                ):
                    books.open += 1
                    pid.send(number).add_done_callback(lambda done, number=number: books.note(number, done))
                if incarnation > KILLS:
                    await until(lambda: books.open == 0, 20)
                await asyncio.sleep(chance.choice((0, 0, 0.001)))
    sent = next(numbers)
    handled = [number for _, number in ledger.read(path)]
    context = f"CAJUN_SEED={SEED}, {sent} messages"
    assert len(handled) == len(set(handled)), f"doubled; {context}"
    assert handled == sorted(handled), f"out of order; {context}"
    assert books.taken <= set(handled), f"lost: {sorted(books.taken - set(handled))[:5]}; {context}"
    assert not books.failed.keys() & set(handled), f"told as failed and handled; {context}"
    assert books.taken | books.unknown | books.failed.keys() == set(range(sent)), f"not told; {context}"
    assert books.taken
    print(f"{context}: {KILLS} kills, {len(books.taken)} taken, {len(books.unknown)} unknown")  # noqa: T201


async def test_a_sender_that_is_killed_again_and_again_leaves_no_gap_and_none_is_swallowed(
    make_node: Any, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    b = await make_node("b")
    log: list[list[int]] = []
    await b.actors.spawn(lambda message, context: log.append(message), "x")
    for incarnation in range(1, KILLS + 1):
        path, begun = str(tmp_path / f"{incarnation}"), len(log)
        arguments = (path, str(b.address.port))
        async with process("a", incarnation, MODULE, "send", *arguments) as a:
            await asyncio.sleep(chance.uniform(0.0, 0.25))
            a.signal(signal.SIGKILL)
            await a.process.wait()
        await until(lambda: not b.link(a).is_up)
        got = [number for whose, number in log[begun:] if whose == incarnation]
        told = {number for number, fate in ledger.read(path) if fate == "taken"}
        context = f"CAJUN_SEED={SEED}, incarnation {incarnation}, {len(got)} messages"
        assert got == list(range(len(got))), f"a gap, a double or another order; {context}"
        assert got, f"a restarted sender was swallowed; {context}"
        assert told <= set(got), f"acknowledged and lost; {context}"
    print(f"CAJUN_SEED={SEED}: {KILLS} kills, {len(log)} messages")  # noqa: T201
