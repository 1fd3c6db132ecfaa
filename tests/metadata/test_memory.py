"""What is special about memory://: whose truth it is, and that it lives on virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from selectors import SelectSelector
from typing import Any

import pytest

from cajun_fast.clock import ManualClock
from cajun_fast.errors import ConfigError
from cajun_fast.metadata import EventKind, open_store


class JumpingSelector(SelectSelector):
    """Instead of waiting, it moves the time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.now += timeout
        return super().select(0 if timeout is not None else None)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now

    def now_ns(self) -> int:
        return round(self.jumping.now * 1e9)


def run_virtually(main: Any) -> Any:
    loop = VirtualLoop()
    try:
        story: Coroutine[Any, Any, Any] = main(loop)
        return loop.run_until_complete(story)
    finally:
        loop.close()


def test_an_hour_of_leases_takes_no_time() -> None:
    async def story(loop: VirtualLoop) -> list[tuple[EventKind, float]]:
        store = open_store("memory://hour", clock=loop)
        await store.connect()
        watch = store.watch("k")
        lease = await store.lease(1800.0)
        await store.put("k", b"", lease=lease.id)
        seen = []
        for _ in range(2):
            seen += [(event.kind, loop.time()) for event in await anext(aiter(watch))]
        holder = await store.lock("job", ttl=3600.0)
        with pytest.raises(TimeoutError):
            await store.lock("job", ttl=60.0, timeout=600.0)
        await holder.release()
        await store.close()
        return seen

    begun = time.monotonic()
    (put, at), (delete, end) = run_virtually(story)
    assert (put, delete) == (EventKind.PUT, EventKind.DELETE)
    assert 1799.9 < end - at < 1800.1
    assert time.monotonic() - begun < 5


def test_a_waiter_keeps_its_place_longer_than_its_lease() -> None:
    async def story(loop: VirtualLoop) -> list[str]:
        store = open_store("memory://patient", clock=loop)
        await store.connect()
        order: list[str] = []

        async def wait(name: str, ttl: float) -> None:
            held = await store.lock("job", ttl=ttl)
            order.append(name)
            await held.release()

        holder = await store.lock("job", ttl=3600.0)
        first = asyncio.ensure_future(wait("first", 6.0))
        await asyncio.sleep(100.0)
        second = asyncio.ensure_future(wait("second", 6.0))
        await asyncio.sleep(100.0)
        await holder.release()
        await asyncio.gather(first, second)
        await store.close()
        return order

    assert run_virtually(story) == ["first", "second"]


async def test_instances_of_one_name_share_one_truth_until_the_last_closes() -> None:
    one, two, other = (open_store(f"memory://{name}") for name in ("shared", "shared", "other"))
    for store in (one, two, other):
        await store.connect()
    await one.put("a", b"")
    assert await two.get("a") is not None
    assert await other.get("a") is None
    await one.close()
    assert await two.get("a") is not None
    await two.close()
    again = open_store("memory://shared")
    await again.connect()
    assert await again.get("a") is None
    await again.close()
    await other.close()


def test_each_loop_is_a_world_of_its_own() -> None:
    async def story(loop: VirtualLoop) -> bool:
        store = open_store("memory://left-open", clock=loop)
        await store.connect()
        existed = await store.get("a") is not None
        await store.put("a", b"")
        return existed  # and is never closed

    assert [run_virtually(story) for _ in range(3)] == [False] * 3


async def test_time_that_passes_during_a_refresh_is_not_won() -> None:
    clock = ManualClock()
    store = open_store("memory://", clock=clock)
    await store.connect()
    lease = await store.lease(10.0)
    clock.advance(5.0)
    sent = clock.now_ns()
    refreshing = asyncio.ensure_future(lease.refresh())
    await asyncio.sleep(0)
    clock.advance(2.0)
    await refreshing
    assert lease.deadline_ns == sent + 10_000_000_000
    await store.close()


async def test_a_cancelled_write_did_nothing() -> None:
    store = open_store("memory://")
    await store.connect()
    task = asyncio.ensure_future(store.put("a", b""))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await store.get("a") is None
    await store.close()


def test_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="no parameters"):
        open_store("memory://x?history=1")
