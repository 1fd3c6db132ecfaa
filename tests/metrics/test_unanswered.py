"""Planted faults: an ask that times out says where its target stands. One test a fault."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from tests.cluster.test_processes import Nodes
from tests.metrics.conftest import Member, until


class Waiter(cf.Actor):
    """Waits at a known line."""

    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate
        self.later: list[cf.Reply] = []

    async def receive(self, message: Any, context: cf.Context) -> Any:
        if message == "later":
            self.later.append(context.reply_later())
            return None
        if message == "quick":
            return "quick"
        return await self.wait_here()

    async def wait_here(self) -> str:
        await self.gate.wait()
        return "done"


class SlowStarter(Waiter):
    async def pre_start(self) -> None:
        await self.gate.wait()


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


async def timed_out(pid: cf.Pid, message: Any = "wait", timeout: float = 0.3) -> cf.AskTimeoutError:
    with pytest.raises(cf.AskTimeoutError) as caught:
        await pid.ask(message, timeout=timeout)
    error = caught.value
    assert error.actor_id == pid.id
    assert repr(pid.id) in str(error)
    return error


@pytest.mark.parametrize("asker", ["a", "b"])
async def test_in_the_handler(member: Member, gate: asyncio.Event, asker: str) -> None:
    nodes = {name: await member(name) for name in ("a", "b")}
    await nodes["a"].register(Waiter, "target", gate)
    assert await nodes[asker].pid("target").ask("quick") == "quick"
    error = await timed_out(nodes[asker].pid("target"))
    assert (error.cause, error.node) == ("in-handler", "a")
    assert error.since is not None
    assert 0.2 < error.since < 10
    assert "test_unanswered.py" in error.where
    assert "Waiter.receive" in error.where
    assert "Waiter.wait_here" in error.where
    assert error.where in str(error)
    gate.set()


@pytest.mark.parametrize("asker", ["a", "b"])
async def test_queued_behind_others(member: Member, gate: asyncio.Event, asker: str) -> None:
    nodes = {name: await member(name) for name in ("a", "b")}
    there = await nodes["a"].register(Waiter, "target", gate)
    for _ in range(4):
        there.tell("wait")
    await until(lambda: nodes["a"].metrics.snapshot().queued == 3)
    error = await timed_out(nodes[asker].pid("target"))
    assert (error.cause, error.node, error.position) == ("queued", "a", 4)
    assert "Waiter.receive" in error.where  # what it waits for
    gate.set()


@pytest.mark.parametrize("asker", ["a", "b"])
async def test_handled_and_not_answered(member: Member, gate: asyncio.Event, asker: str) -> None:
    nodes = {name: await member(name) for name in ("a", "b")}
    await nodes["a"].register(Waiter, "target", gate)
    error = await timed_out(nodes[asker].pid("target"), "later")
    assert (error.cause, error.node) == ("not-answered", "a")


async def test_an_actor_that_starts(member: Member, gate: asyncio.Event) -> None:
    a, b = await member("a"), await member("b")
    start = asyncio.ensure_future(a.register(SlowStarter, "target", gate))
    await until(lambda: "target" in a.actor_ids())
    error = await timed_out(b.pid("target"), "quick")
    assert (error.cause, error.node, error.position) == ("not-running", "a", 1)
    assert "starting" in str(error)
    gate.set()
    await start


async def test_no_room_in_the_mailbox(member: Member, gate: asyncio.Event) -> None:
    a, b = await member("a"), await member("b")
    await a.register(Waiter, "target", gate, mailbox_capacity=2, mailbox_policy=cf.MailboxPolicy.BLOCK)
    there = b.pid("target")
    for _ in range(5):
        there.tell("wait")
    await until(lambda: a.metrics.snapshot().queued == 2)
    error = await timed_out(there)
    assert (error.cause, error.node) == ("no-room", "b")
    assert error.position == 3
    assert "it was not sent" in str(error)
    gate.set()


async def test_no_way(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    a = await member("a")

    async def never(*args: Any, **options: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(a._node.locator, "locate", never)
    error = await timed_out(a.pid("target"))
    assert (error.cause, error.node, error.position) == ("no-way", "a", 1)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path)
    made.settings["membership.lease_ttl"] = "30"
    yield made
    for process in made.processes.values():
        if process.returncode is None:
            process.kill()
            await process.wait()


async def sooner_or_later(pid: cf.Pid, *causes: str) -> cf.AskTimeoutError:
    """The first time-out that tells one of these: until enough has been heard, or not heard, it is on its way."""
    for _ in range(8):
        error = await timed_out(pid, "where", timeout=0.6)
        if error.cause in causes:
            return error
        assert error.cause in ("on-its-way", "unknown", "node-silent"), error
    raise AssertionError(f"none of {causes} in all the time")


@pytest.mark.processes
async def test_a_node_whose_loop_is_blocked_and_one_that_is_stopped(nodes: Nodes, tmp_path: Path) -> None:
    await nodes.start("a", "b")
    async with nodes.client() as system:
        log = str(tmp_path / "witness.log")
        for node in ("a", "b"):
            there = await system.create_actor_on_node("witness", f"on-{node}", node, log)
            assert await there.ask("where") == node
        system.pid("on-a").tell(["hold", 6.0])
        error = await sooner_or_later(system.pid("on-a"), "node-stuck")
        assert error.node == "a"
        assert error.since is not None
        assert error.since > 0.2
        await nodes.signal("b", signal.SIGSTOP)
        error = await sooner_or_later(
            system.pid("on-b"), "node-silent", "node-gone"
        )  # whichever is known first
        assert error.node == "b"
        await nodes.signal("b", signal.SIGCONT)


async def test_the_plain_error_comes_where_too_many_ask(member: Member, gate: asyncio.Event) -> None:
    a, b = await member("a"), await member("b")
    await a.register(Waiter, "target", gate)
    there = b.pid("target")
    assert await there.ask("quick") == "quick"
    asks = [asyncio.ensure_future(there.ask("wait", timeout=0.3)) for _ in range(300)]
    found = await asyncio.gather(*asks, return_exceptions=True)
    causes = [error.cause for error in found if isinstance(error, cf.AskTimeoutError)]
    assert len(causes) == 300
    assert set(causes) == {"in-handler", "queued", "unknown"}
    assert causes.count("unknown") == 300 - 64
    assert b.metrics.snapshot().asks.timed_out == 300
    gate.set()
