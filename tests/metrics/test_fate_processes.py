"""``explain`` over real processes, one of them killed with -9: the asker learns how far a message came, and where."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cajun_fast.cluster.fate import Fate, MessageId
from tests.cluster.conftest import eventually
from tests.cluster.test_processes import Nodes, place_of

pytestmark = pytest.mark.processes


@pytest.fixture
async def fated(tmp_path: Path) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path)
    made.module = "hosted_fates"
    made.settings = {
        "membership.lease_ttl": "8",
        "membership.suspicion_timeout": "4",
    }  # time to look at a paused one
    yield made
    for process in made.processes.values():
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_stage_and_the_node_are_told_through_a_kill(fated: Nodes) -> None:
    await fated.start("a", "b")
    async with fated.client() as system:
        await system.create_actor_on_node("fated", "f", "b")
        there = system.pid("f")

        async def sent(message: str) -> MessageId:
            """Its number: it goes at once, for the way is known."""
            there.tell(message)
            number = system.manager.last_message_id(there)
            assert number is not None
            return number

        async def told(number: MessageId, stage: str) -> Fate:
            async def holds() -> Fate | None:
                fate = await system.manager.explain(number, timeout=0.5)  # a paused node says nothing
                return fate if fate.stage == stage else None

            found: Fate = await eventually(holds, 30)
            return found

        assert await eventually(lambda: place_of(system, "f"), 30) == "b"
        assert (await told(await sent("good"), "handled")).node == "b"
        assert (await told(await sent("fail"), "failed")).node == "b"
        waits = await sent("wait")
        assert (await told(waits, "arrived")).node == "b"
        await fated.signal("b", signal.SIGSTOP)
        underway = await sent("never taken in")
        fate = await told(underway, "on-its-way")
        assert (fate.node, fate.target) == ("b", "f")
        await fated.signal("b", signal.SIGKILL)
        fate = await told(underway, "unknown")
        assert "its receiver was lost before it answered" in str(fate)
        assert fate.target == "f"
        assert (await told(waits, "unknown")).node == "client"
        assert await eventually(lambda: place_of(system, "f"), 30) == "a"
        assert (await told(await sent("good"), "handled")).node == "a"
    assert await fated.stop() == [0]
