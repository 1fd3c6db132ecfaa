"""Work that is awaited, or followed step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cajun_fast.cluster.steps import Steps

Tell = Callable[[tuple[str, int]], None]


def counting(upto: int, log: list[str], pause: float = 0.0) -> Steps[tuple[str, int], int]:
    async def work(tell: Tell) -> int:
        try:
            for number in range(upto):
                tell(("even" if number % 2 == 0 else "odd", number))
                await asyncio.sleep(pause)
            return upto
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up takes its time
            log.append("cancelled")
            raise

    return Steps(work, lambda step: step[0])


async def test_it_is_awaited_for_its_result() -> None:
    steps = counting(3, [])
    assert await steps == 3
    assert steps.result == 3


async def test_it_is_followed_step_by_step_to_the_same_result() -> None:
    steps = counting(3, [])
    assert [step async for step in steps] == [("even", 0), ("odd", 1), ("even", 2)]
    assert steps.result == 3


async def test_it_runs_once() -> None:
    steps = counting(1, [])
    await steps
    with pytest.raises(RuntimeError, match="once"):
        await steps
    with pytest.raises(RuntimeError, match="once"):
        [step async for step in steps]


async def test_a_slow_reader_gets_the_newest_of_each_kind_and_the_last_of_all() -> None:
    async def work(tell: Callable[[tuple[str, int]], None]) -> str:
        for number in range(1000):
            tell(("move", number))
        tell(("settle", 1000))
        return "done"

    steps: Steps[tuple[str, int], str] = Steps(work, lambda step: step[0])
    assert [step async for step in steps] == [("move", 999), ("settle", 1000)]


async def test_what_the_work_raises_comes_behind_its_steps() -> None:
    async def work(tell: Callable[[tuple[str, int]], None]) -> None:
        tell(("move", 1))
        raise OSError("as planned")

    steps: Steps[tuple[str, int], None] = Steps(work, lambda step: step[0])
    following = aiter(steps)
    assert await anext(following) == ("move", 1)
    with pytest.raises(OSError, match="as planned"):
        await anext(following)


async def test_a_loop_that_is_closed_has_cancelled_the_work_and_waited_for_its_end() -> None:
    log: list[str] = []
    following = aiter(counting(1000, log, 0.001))
    async for _, number in following:
        if number == 3:
            break
    await following.aclose()
    assert log == ["cancelled"]


async def test_a_loop_that_is_cancelled_has_cancelled_the_work_and_waited_for_its_end() -> None:
    log: list[str] = []
    steps = counting(1_000_000, log, 0.001)

    async def follow() -> None:
        async for _ in steps:
            pass

    task = asyncio.ensure_future(follow())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["cancelled"]
    with pytest.raises(RuntimeError, match="no result"):
        steps.result  # noqa: B018 - it is asked
