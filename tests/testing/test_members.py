"""The fixture that users test with: nodes in one process, probes, faults, and time that is turned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.actors.registry import Registry
from cajun_fast.testing.members import Members
from cajun_fast.testing.turned import run_turned


class Counter(cf.Actor):
    def __init__(self) -> None:
        self.value = 0

    def receive(self, message: Any, context: Any) -> Any:
        if message == "get":
            return self.value, context.node_id
        self.value += message
        return None


async def test_a_probe_gets_what_another_node_sends_in_order(cluster: Members) -> None:
    a, _b = await cluster.start("a", "b")
    probe = await cluster.probe("b")
    for n in range(100):
        a.pid("probe").tell(n)
    await probe.expect(*range(100))
    assert await a.pid("probe").ask("echo") == "echo"
    assert await probe.next() == "echo"
    await probe.quiet(0.05)


async def test_what_a_probe_waits_for_in_vain_is_said(cluster: Members) -> None:
    await cluster.start("a")
    probe = await cluster.probe("a", reply=lambda message: "answer")
    assert await probe.pid.ask(1) == "answer"
    with pytest.raises(AssertionError, match="message 1 of 1: expected 2, got 1"):
        await probe.expect(2)
    with pytest.raises(AssertionError, match=r"no message came within 0\.05 s"):
        await probe.next(timeout=0.05)
    probe.pid.tell("more")
    with pytest.raises(AssertionError, match="1 more came"):
        await probe.quiet(0.2)


async def test_a_cut_holds_messages_and_a_heal_lets_them_through_once(cluster: Members) -> None:
    a, _b = await cluster.start("a", "b")
    probe = await cluster.probe("b")
    a.pid("probe").tell("before")
    await probe.expect("before")
    cluster.cut("a", "b")
    for n in range(10):
        a.pid("probe").tell(n)
    await probe.quiet(0.2)
    cluster.heal()
    await probe.expect(*range(10), timeout=20)
    await probe.quiet(0.2)


async def test_broken_connections_lose_and_double_nothing(cluster: Members) -> None:
    a, _b = await cluster.start("a", "b")
    probe = await cluster.probe("b")
    for n in range(200):
        a.pid("probe").tell(n)
        if n % 40 == 20:
            cluster.network.break_links("b")
            await asyncio.sleep(0.01)
    await probe.expect(*range(200), timeout=20)


async def test_actors_of_a_crashed_node_start_elsewhere(cluster: Members) -> None:
    cluster.types = Registry()
    cluster.types.actor("counter")(Counter)
    a, _b, _c = await cluster.start("a", "b", "c")
    pid = await a.create_actor_on_node("counter", "x", "b")
    assert await pid.ask("get") == [0, "b"]
    await cluster.crash("b")

    async def elsewhere() -> bool:
        try:
            return (await pid.ask("get", timeout=1.0))[1] in ("a", "c")
        except cf.CajunError:
            return False

    await cluster.until(elsewhere, 30)


async def test_a_store_is_taken_from_one_node_and_given_back(cluster: Members) -> None:
    a, b = await cluster.start("a", "b")
    cluster.stores["b"].fall()
    await cluster.until(lambda: b.is_fenced, 20)
    assert not a.is_fenced
    cluster.stores["b"].rise()
    await cluster.until(lambda: not b.is_fenced, 20)


async def test_a_node_that_was_not_started_is_said(cluster: Members) -> None:
    with pytest.raises(cf.ConfigError, match=r"await cluster\.start\('z'\)"):
        cluster["z"]


async def test_a_slow_reader_makes_the_writer_wait(cluster: Members) -> None:
    """A stream in memory is as narrow as a socket: megabytes go through, bounded, in order."""
    a, _b = await cluster.start("a", "b")
    probe = await cluster.probe("b")
    blob = b"x" * 300_000
    for n in range(20):
        await a.pid("probe").send([n, blob])
    await probe.until(lambda seen: len(seen) == 20, 20)
    assert [message[0] for message in probe.seen] == list(range(20))


def test_turned_time_does_not_wait_and_the_same_seed_tells_the_same_story() -> None:
    async def story(cluster: Members) -> list[float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        a, _b = await cluster.start("a", "b")
        probe = await cluster.probe("b")
        a.pid("probe").tell("later", delay=300.0)
        await probe.expect("later", timeout=400)
        times = [loop.time() - began]
        await cluster.crash("b")
        await cluster.settled(60)
        return [*times, loop.time() - began]

    first = run_turned(story, seed=3)
    assert first[0] >= 300
    assert run_turned(story, seed=3) == first


pytest_plugins = ["pytester"]


def test_the_plugin_serves_a_users_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.asyncio
        async def test_hello(cluster):
            a, b = await cluster.start("a", "b")
            probe = await cluster.probe("b")
            a.pid("probe").tell("hello")
            assert await probe.next() == "hello"
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)


@pytest.fixture
async def cluster() -> AsyncIterator[Members]:
    async with Members() as members:
        yield members
