"""Planted faults: an ask that times out says where its target stands. One test a fault."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.cluster import unanswered
from cajun_fast.cluster.tasks import Tasks
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


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a moment makes no answer late; where a node is stopped on purpose it may."""
    if "processes" not in request.keywords:
        monkeypatch.setattr(unanswered, "PATIENCE", 20.0)


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


@pytest.mark.processes
async def test_each_answer_of_a_node_of_its_own(nodes: Nodes) -> None:
    """Not there, queued, in its handler, and the node gone while it is awaited."""
    nodes.module = "hosted_fates"
    await nodes.start("a", "b")

    async def told(pid: cf.Pid, message: str, cause: str) -> cf.AskTimeoutError:
        """A busy machine may need more than one question."""
        while True:
            error = await timed_out(pid, message, timeout=1.0)
            if error.cause == cause:
                return error
            assert error.cause == "unknown", error

    async with nodes.client() as system:
        for name in ("leaver", "worker"):
            await system.create_actor_on_node("fated", name, "b")
            assert await system.pid(name).ask("good", timeout=30) == "b"
        left = await told(system.pid("leaver"), "leave", "not-found")
        assert "there is no such actor on node 'b'" in str(left)
        inside = asyncio.ensure_future(system.pid("worker").ask("wait", timeout=60))
        error = await told(system.pid("worker"), "good", "queued")
        assert error.position is not None
        assert error.position >= 1
        assert "hosted_fates.py" in error.where
        await system.create_actor_on_node("fated", "other", "b")
        error = await told(system.pid("other"), "wait", "in-handler")
        assert (error.node, "in Fated.receive" in error.where) == ("b", True)
        assert error.since is not None
        await nodes.signal("b", signal.SIGKILL)
        with pytest.raises(cf.OutcomeUnknownError, match="node 'b' was lost") as gone:
            await inside
        assert gone.value.node == "b"
    assert await nodes.stop() == [0]


async def test_the_plain_error_comes_where_too_many_ask(
    member: Member, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await member("a"), await member("b")
    questions, begin, most = b._node.unanswered._tasks, Tasks.start, 0

    def counted(tasks: Tasks, work: Any, name: str) -> Any:
        nonlocal most
        begun = begin(tasks, work, name)
        most = max(most, len(questions))
        return begun

    monkeypatch.setattr(Tasks, "start", counted)
    await a.register(Waiter, "target", gate)
    there = b.pid("target")
    assert await there.ask("quick") == "quick"
    asks = [asyncio.ensure_future(there.ask("wait", timeout=0.3)) for _ in range(300)]
    found = await asyncio.gather(*asks, return_exceptions=True)
    causes = [error.cause for error in found if isinstance(error, cf.AskTimeoutError)]
    assert len(causes) == 300
    # How many of them find an answer is a matter of the machine: the questions have half a second, and one that is
    # answered makes room for the next.
    assert set(causes) <= {"in-handler", "queued", "unknown"}
    assert 0 < most <= 64
    assert b.metrics.snapshot().asks.timed_out == 300
    gate.set()
