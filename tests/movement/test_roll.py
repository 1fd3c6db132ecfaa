"""All nodes of a cluster are restarted one by one while everybody asks: no ask fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import cajun_fast as cf
from cajun_fast.management.rolling import roll
from tests.cluster.conftest import Cluster, eventually
from tests.movement.worlds import Ledger, check_order


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """One kind of store is enough here."""
    return f"sqlite:///{tmp_path}/cluster.db"


async def test_a_roll_restarts_every_node_and_no_ask_fails(cluster: Cluster) -> None:
    (client,) = await cluster.start("client", client=True)
    await cluster.start("a", "b", "c")
    await cluster.leader()
    ids = [f"x{n}" for n in range(24)]
    await asyncio.gather(
        *(cluster.members["abc"[n % 3]].register(Ledger, each) for n, each in enumerate(ids))
    )
    lives = {name: cluster.members[name].incarnation for name in "abc"}
    counts = dict.fromkeys(ids, 0)
    going = True

    async def ask(actor_id: str) -> None:
        while going:
            number = counts[actor_id]
            assert await client.pid(actor_id).ask(["note", "client", number], timeout=10) == number
            counts[actor_id] += 1
            await asyncio.sleep(0.002)

    async def restart(name: str) -> None:
        await cluster.members.pop(name).stop()
        await cluster.start(name)

    asking = [asyncio.create_task(ask(each)) for each in ids]
    rolled = roll(client.manager, restart)
    steps = [step async for step in rolled]
    going = False
    await asyncio.gather(*asking)
    result = rolled.result
    assert (result.failed, sorted(result.done)) == (None, ["a", "b", "c"])
    assert result.moved >= len(ids)
    assert {name: cluster.members[name].incarnation for name in "abc"} == {
        name: life + 1 for name, life in lives.items()
    }
    turns = [step.what for step in steps if step.what != "draining"]
    assert turns == ["drained", "restarting", "back"] * 3
    assert {step.node for step in steps if step.progress is not None} == {"a", "b", "c"}
    for each in ids:
        check_order(await client.pid(each).ask("seen"), {"client": counts[each]})
    assert min(counts.values()) > 0


async def test_a_roll_ends_where_something_cannot_move(cluster: Cluster) -> None:
    class Rooted(cf.Actor):
        def __init__(self) -> None:
            self.count = 0

        def receive(self, message: object, context: object) -> int:
            return self.count

    a, b = await cluster.start("a", "b")
    await b.register(Rooted, "x")
    restarted: list[str] = []

    async def restart(name: str) -> None:
        restarted.append(name)

    result = await roll(a.manager, restart, nodes=["b"], drain_timeout=10)
    assert (result.failed, restarted) == ("b", [])
    assert "'x'" in result.reason
    with pytest.raises(cf.NodeUnavailableError, match="zz"):
        await roll(a.manager, restart, nodes=["zz"])


async def test_a_node_that_does_not_come_back_ends_the_roll(cluster: Cluster) -> None:
    a, _b, _c = await cluster.start("a", "b", "c")

    async def restart(name: str) -> None:
        await cluster.members.pop(name).stop()

    result = await roll(a.manager, restart, nodes=["b", "c"], restart_timeout=0.5)
    assert result.failed in ("b", "c")
    assert result.done == ()
    assert "did not come back" in result.reason
    await eventually(lambda: len(a.known_nodes) == 2)
