"""Turns: nobody starves, whatever others do. Time is a clock that handlers turn, or a ratio."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

from cajun_fast.actors import Actor, ActorSettings, ActorSystem, Context
from cajun_fast.clock import ManualClock
from cajun_fast.ports import Ports

from .conftest import until


async def noting_turns_of_the_loop(done: asyncio.Event, log: list[Any]) -> int:
    turns = 0
    while not done.is_set():
        log.append("loop")
        turns += 1
        await asyncio.sleep(0)
    return turns


def longest_run(log: list[Any], mark: Any) -> int:
    """The most entries other than ``mark`` between two marks."""
    longest = run = 0
    for entry in log:
        run = 0 if entry == mark else run + 1
        longest = max(longest, run)
    return longest


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_busy_actor_gives_the_loop_its_turn_after_each_slice(asynchronous: bool) -> None:
    clock = ManualClock()
    log: list[Any] = []
    done = asyncio.Event()

    def plain(message: Any, context: Context) -> None:
        clock.advance(0.0004)  # two and a half of them fill the slice of 1 ms
        log.append("handled")
        if message == 199:
            done.set()

    async def coroutine(message: Any, context: Context) -> None:
        plain(message, context)

    async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
        pid = await system.spawn(coroutine if asynchronous else plain)
        for n in range(200):
            pid.tell(n)
        await noting_turns_of_the_loop(done, log)
    assert longest_run(log, "loop") <= 4


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_slow_handler_holds_the_loop_for_one_message_only(asynchronous: bool) -> None:
    clock = ManualClock()
    log: list[Any] = []
    done = asyncio.Event()

    def plain(message: Any, context: Context) -> None:
        clock.advance(0.05)
        log.append("handled")
        if message == 49:
            done.set()

    async def coroutine(message: Any, context: Context) -> None:
        plain(message, context)

    async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
        pid = await system.spawn(coroutine if asynchronous else plain)
        for n in range(50):
            pid.tell(n)
        await noting_turns_of_the_loop(done, log)
    # a pump knows its first turn only after its first messages
    assert longest_run(log[10:], "loop") == 1
    assert longest_run(log, "loop") <= 3


async def test_a_handler_that_turns_slow_is_noticed_within_sixteen_messages() -> None:
    clock = ManualClock()
    log: list[Any] = []
    done = asyncio.Event()

    def receive(message: Any, context: Context) -> None:
        if message >= 100:
            clock.advance(0.05)
        log.append("slow" if message >= 100 else "fast")
        if message == 149:
            done.set()

    async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
        pid = await system.spawn(receive)
        for n in range(150):
            pid.tell(n)
        await noting_turns_of_the_loop(done, log)
    slow = [entry for entry in log[log.index("slow") - 1 :] if entry != "fast"]
    assert longest_run(slow, "loop") <= 16


async def test_two_busy_actors_take_turns() -> None:
    log: list[str] = []

    class Busy(Actor):
        def __init__(self, name: str) -> None:
            self.name = name

        def receive(self, message: Any, context: Context) -> None:
            log.append(self.name)

    async with ActorSystem("n1", settings=ActorSettings(batch=8, time_slice=10.0)) as system:
        pids = [await system.spawn(Busy, name, name) for name in "ab"]
        for pid in pids:
            for n in range(80):
                pid.tell(n)
        await until(lambda: len(log) == 160)
    assert longest_run(log, "a") == longest_run(log, "b") == 8


async def test_an_actor_that_tells_itself_for_ever_starves_neither_the_loop_nor_others() -> None:
    count = 0

    def receive(message: Any, context: Context) -> None:
        nonlocal count
        count += 1
        context.self.tell(message)

    async with ActorSystem("n1") as system:
        (await system.spawn(receive)).tell("go")
        other = await system.spawn(lambda message, context: message)
        for n in range(20):
            assert await other.ask(n) == n
        assert count > 20


async def test_what_a_handler_tells_is_queued_and_never_run_on_top_of_it() -> None:
    depth = deepest = 0
    done = asyncio.Event()

    def receive(message: int, context: Context) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        if message:
            context.self.tell(message - 1)
            other.tell(0)
        elif context.sender == first:
            done.set()
        depth -= 1

    async with ActorSystem("n1") as system:
        other = await system.spawn(lambda message, context: receive(0, context))
        first = await system.spawn(receive)
        first.tell(5000)
        await done.wait()
    assert deepest == 1


async def test_async_actors_share_one_slice_in_a_turn_of_the_loop() -> None:
    clock = ManualClock()
    log: list[Any] = []
    done = asyncio.Event()
    handled = 0

    async def receive(message: Any, context: Context) -> None:
        nonlocal handled
        clock.advance(0.0002)
        log.append("handled")
        handled += 1
        if handled == 500:
            done.set()

    async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
        pids = [await system.spawn(receive) for _ in range(10)]
        for n in range(50):
            for pid in pids:
                pid.tell(n)
        await noting_turns_of_the_loop(done, log)
    # the slice of one turn holds five messages; beyond it each of the ten pumps may begin one
    assert longest_run(log, "loop") <= 2 * (5 + 10)


async def test_ready_actors_are_counted() -> None:
    async with ActorSystem("n1") as system:
        pids = [await system.spawn(lambda message, context: None) for _ in range(3)]
        for pid in pids:
            pid.tell(1)
            pid.tell(2)
        assert system.dispatcher.queued == 3
        await pids[2].ask(3)
        assert system.dispatcher.queued == 0


async def test_counters_count_and_time_is_measured_only_when_switched_on() -> None:
    clock = ManualClock()

    def receive(message: Any, context: Context) -> None:
        clock.advance(0.25)
        if message == "bad":
            raise ValueError(message)

    async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
        pid = await system.spawn(receive, "x")
        cell = system.cell("x")
        assert cell is not None
        pid.tell("bad")
        await pid.ask(1)
        assert (cell.handled, cell.failed, cell.busy_ns) == (2, 1, 0)
        system.dispatcher.timing = True
        await pid.ask(1)
        assert (cell.handled, cell.failed, cell.busy_ns) == (3, 1, 250_000_000)


async def test_no_handler_runs_after_a_pause_before_it_was_asked_whether_the_node_may_still_act() -> None:
    clock = ManualClock()
    handled: list[int] = []

    async with ActorSystem("n1", ports=Ports(clock=clock)) as system:
        pid = await system.spawn(lambda message, context: handled.append(message), "x")
        cell = system.cell("x")
        assert cell is not None
        pid.tell(1)
        await until(lambda: handled == [1])
        system.exchange.overdue, system.exchange.fence_at = cell.freeze, clock.now_ns() + 1_000_000_000
        pid.tell(2)
        clock.advance(2.0)  # paused with a message in the mailbox; the loop's timers have not run yet
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert handled == [1]
        system.exchange.fence_at = 0
        cell.thaw()
        await until(lambda: handled == [1, 2])


@pytest.mark.skipif(sys.platform != "linux", reason="this system has no coarse clock")
async def test_a_pause_within_a_turn_is_noticed_before_the_next_message() -> None:
    """Also while the clock is looked at only every few messages, as it is where handlers are quick."""
    handled: list[int] = []

    def receive(message: int, context: Any) -> None:
        handled.append(message)
        if message == 1000:
            time.sleep(0.1)  # the process is paused, as far as the next message can tell

    async with ActorSystem("n1") as system:
        pid = await system.spawn(receive, "x")
        cell = system.cell("x")
        assert cell is not None
        system.exchange.overdue = cell.freeze
        for n in range(1010):
            pid.tell(n)
        system.exchange.fence_at = time.monotonic_ns() + 80_000_000
        await until(lambda: cell.state == "frozen")
        assert handled == list(range(1001))
        system.exchange.fence_at = 0
        cell.thaw()
        await until(lambda: len(handled) == 1010)
