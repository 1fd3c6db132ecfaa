"""Real node processes: one is drained while everybody asks, one drains itself when it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

import cajun_fast as cf
from tests.cluster.test_processes import CLI, Nodes, nodes  # noqa: F401

pytestmark = pytest.mark.processes
#: Nobody is lost here but who is killed at the end: a busy machine must not look like a lost node.
STEADY = {"membership.suspicion_timeout": "20", "membership.lease_ttl": "30"}


async def test_nodes_are_drained_and_stopped_under_load_and_no_ask_fails(nodes: Nodes) -> None:  # noqa: F811
    nodes.settings |= STEADY
    await nodes.start("a", "b", "c")
    log = nodes.folder / "handled"
    async with nodes.client() as system:
        ids = [f"w{n}" for n in range(30)]
        for n, each in enumerate(ids):
            await system.create_actor_on_node("witness", each, "abc"[n % 3], str(log))
        counts = dict.fromkeys(ids, 0)
        going = True

        async def ask(actor_id: str) -> None:
            while going:
                assert await system.pid(actor_id).ask(str(counts[actor_id]), timeout=15) in "abc"
                counts[actor_id] += 1
                await asyncio.sleep(0.005)

        asking = [asyncio.create_task(ask(each)) for each in ids]
        result = await system.manager.drain_node("c", without_state=True)
        assert result.complete, result
        nodes.processes["c"].terminate()
        assert await asyncio.wait_for(nodes.processes.pop("c").wait(), 20) == 0
        before = min(counts.values())
        await asyncio.sleep(0.5)
        going = False
        await asyncio.gather(*asking)
        assert min(counts.values()) > before, "they go on without it"
        await nodes.signal("b", signal.SIGKILL)
    handled: dict[str, list[int]] = {}
    for line in log.read_text().splitlines():
        actor_id, _, message = line.split()
        handled.setdefault(actor_id, []).append(int(message))
    for each in ids:
        assert handled[each] == list(range(counts[each])), f"{each}: lost, doubled or out of order"
    assert await nodes.stop() == [0]


async def test_a_node_drains_itself_when_it_is_told_to_stop(
    nodes: Nodes,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CAJUN_MOVEMENT_DRAIN_ON_STOP", "true")
    nodes.settings |= STEADY
    await nodes.start("a", "b")
    async with nodes.client() as system:
        for n in range(10):
            await system.create_actor_on_node("note", f"w{n}", "b")
            await system.pid(f"w{n}").ask(n)
        nodes.processes["b"].terminate()
        assert await asyncio.wait_for(nodes.processes.pop("b").wait(), 30) == 0
        for n in range(10):
            assert await system.pid(f"w{n}").ask("get", timeout=10) == [n]
        page = await system.manager.get_cluster_actors()
        assert {(each.node, each.epoch) for each in page.actors} == {("a", 2)}, "moved, not started anew"
    assert await nodes.stop() == [0]


async def test_the_commands_move_drain_and_cordon(nodes: Nodes) -> None:  # noqa: F811
    nodes.settings |= STEADY
    await nodes.start("a", "b")

    async def command(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLI, *words, "--store", nodes.store),
            *(part for name, value in STEADY.items() for part in ("--set", f"{name}={value}")),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode()

    async with nodes.client() as system:
        await system.create_actor_on_node("note", "w", "b")
        await system.pid("w").ask(1)
        status, out = await command("migrate", "w", "a")
        assert (status, "moved" in out) == (0, True), out
        assert (await command("cordon", "b"))[0] == 0
        with pytest.raises(cf.NodeUnavailableError, match="cordoned"):
            await system.create_actor_on_node("note", "v", "b")
        status, out = await command("drain", "a", "--timeout", "3")
        assert (status, "stays: w" in out) == (1, True), out
        assert (await command("uncordon", "b"))[0] == 0
        status, out = await command("drain", "a")
        assert status == 0, out
        assert await system.pid("w").ask("get") == [1]
    assert await nodes.stop() == [0, 0]


async def test_a_drain_that_is_broken_off_leaves_the_node_cordoned_and_every_actor_with_one_owner(
    nodes: Nodes,  # noqa: F811
) -> None:
    nodes.module = "hosted_fates"
    nodes.settings |= STEADY
    await nodes.start("a", "b")
    async with nodes.client() as system:
        await system.create_actor_on_node("fated", "x", "b")
        waiting = asyncio.ensure_future(system.pid("x").ask("wait", timeout=60))  # its handler does not end
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLI, "drain", "b", "--without-state", "--store", nodes.store),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line.decode().strip() == "b: 0 of 1 moved"
        process.send_signal(signal.SIGINT)
        _, told = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 130
        assert "it stays cordoned" in told.decode()
        (b,) = [node for node in await system.manager.get_cluster_nodes() if node.node == "b"]
        assert b.is_cordoned
        page = await system.manager.get_cluster_actors()
        assert [(each.actor_id, each.node) for each in page.actors] == [("x", "b")]
        waiting.cancel()
    for process in nodes.processes.values():
        process.kill()
