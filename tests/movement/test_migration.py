"""One actor moves: what it has goes with it, whoever writes to it notices nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cajun_fast as cf
from tests.cluster.conftest import Cluster
from tests.movement.worlds import Ledger, Slow, check_order


async def test_an_actor_moves_with_its_state(cluster: Cluster) -> None:
    a, b, c = await cluster.start("a", "b", "c")
    await a.register(Ledger, "x", "the first")
    for n in range(10):
        b.pid("x").tell(["note", "b", n])
    result = await c.manager.migrate_actor("x", "b")
    assert (result.outcome, result.source, result.target, result.epoch) == (cf.Outcome.MOVED, "a", "b", 2)
    for system in (a, b, c):
        assert await system.pid("x").ask("where") == "b"
    assert await a.pid("x").ask("name") == "the first"
    check_order(await c.pid("x").ask("seen"), {"b": 10})
    assert a.actor_ids() == []
    page = await a.manager.get_cluster_actors()
    assert [(each.actor_id, each.node, each.epoch) for each in page.actors] == [("x", "b", 2)]


async def test_moves_under_load_lose_double_and_reorder_nothing(cluster: Cluster) -> None:
    systems = await cluster.start("a", "b", "c")
    await systems[0].register(Ledger, "x")
    sent: dict[str, int] = {}
    going = True

    async def send(system: cf.ClusterActorSystem, name: str) -> None:
        pid, n = system.pid("x"), 0
        while going:
            try:
                pid.tell(["note", name, n])
                n += 1
            except cf.BackpressureError:
                await pid.ready()
            if n % 20 == 0:
                await asyncio.sleep(0)
            if n % 400 == 0:
                assert await pid.ask("where", timeout=10) in "abc"
        sent[name] = n

    tasks = [
        asyncio.create_task(send(system, f"{system.node_id}{n}")) for system in systems for n in range(2)
    ]
    for n in range(20):
        result = await systems[n % 3].manager.migrate_actor("x", "bca"[n % 3])
        assert result.moved, result
    going = False
    await asyncio.gather(*tasks)
    check_order(await systems[1].pid("x").ask("seen", timeout=20), sent)
    assert sum(sent.values()) > 1000
    assert len(Ledger.homes["x"]) == 1
    assert all(system.dead_letters.total == 0 for system in systems)


async def test_what_waits_in_the_mailbox_goes_along_with_its_asks(cluster: Cluster) -> None:
    a, b, c = await cluster.start("a", "b", "c")
    await a.register(Slow, "x")
    asks = [
        asyncio.ensure_future(system.pid("x").ask(["note", system.node_id, n], timeout=20))
        for n in range(100)
        for system in (a, b, c)
    ]
    await asyncio.sleep(0.02)
    result = await b.manager.migrate_actor("x", "b")
    assert result.moved
    assert result.messages > 0
    assert await asyncio.gather(*asks) == [n for n in range(100) for _ in range(3)]
    assert await a.pid("x").ask("where") == "b"
    check_order(await c.pid("x").ask("seen"), {"a": 100, "b": 100, "c": 100})


async def test_what_cannot_move_is_told_and_goes_on(cluster: Cluster) -> None:
    class Dumb(cf.Actor):
        def __init__(self) -> None:
            self.count = 0

        def receive(self, message: Any, context: Any) -> Any:
            self.count += 1
            return self.count

    cluster.types.actor("dumb")(Dumb)
    a, b = await cluster.start("a", "b")
    await a.register(Dumb, "x")
    assert await b.pid("x").ask("") == 1
    result = await a.manager.migrate_actor("x", "b")
    assert result.outcome is cf.Outcome.STAYED
    assert "get_state" in result.reason
    assert "Dumb" in result.reason
    assert await b.pid("x").ask("") == 2
    assert (await a.manager.migrate_actor("x", "b", without_state=True)).moved
    assert await a.pid("x").ask("") == 1
    with pytest.raises(cf.ActorNotFoundError):
        await a.manager.migrate_actor("nobody", "b")
    with pytest.raises(cf.NodeUnavailableError, match="zz"):
        await a.manager.migrate_actor("x", "zz")
    with pytest.raises(cf.CajunError):
        await a.manager.migrate_actor("cajun:host@a", "b")
    assert (await a.manager.migrate_actor("x", "b")).outcome is cf.Outcome.THERE


async def test_a_drained_node_is_empty_and_takes_nothing_new(cluster: Cluster) -> None:
    a, b, c = await cluster.start("a", "b", "c")
    await asyncio.gather(*(b.register(Ledger, f"x{n}") for n in range(40)))
    drain = a.manager.drain_node("b")
    seen = [step async for step in drain]
    result = drain.result
    assert result.complete, result
    assert result.moved == 40
    assert set(result.to) == {"a", "c"}
    assert b.actor_ids() == []
    assert seen[-1].phase == "done"
    assert seen[-1].left == 0
    with pytest.raises(cf.NodeUnavailableError, match="cordoned"):
        await a.create_actor_on_node("ledger", "new", "b")
    with pytest.raises(cf.NodeUnavailableError, match="cordoned"):
        await b.register(Ledger, "new")
    nodes = {info.node: info for info in await a.manager.get_cluster_nodes()}
    assert nodes["b"].is_cordoned
    assert not nodes["a"].is_cordoned
    assert (await c.manager.uncordon_node("b")).changed
    await a.create_actor_on_node("ledger", "new", "b")


async def test_a_drain_waits_until_the_shards_have_left_too(cluster: Cluster) -> None:
    cluster.types.actor("sharded", sharded=True)(type("Sharded", (Ledger,), {}))
    cluster.settings["sharding.rebalance_delay"] = 0.1
    cluster.settings["sharding.shard_count"] = 8
    a, b = await cluster.start("a", "b")
    for n in range(20):
        assert await a.sharded("sharded").pid(str(n)).ask(["note", "a", 0], timeout=10) == 0
    result = await a.manager.drain_node("b", timeout=30)
    assert result.complete, result
    assert not [owner for _, owner in b._node.sharding.table.items() if owner.owner.node == "b"]
    for n in range(20):
        assert await a.sharded("sharded").pid(str(n)).ask("where", timeout=10) == "a"


async def test_who_has_come_back_is_not_looked_for_where_it_had_gone(cluster: Cluster) -> None:
    """A node that had handed it over and has it again, by an adoption or a registration, says nothing of its stone."""
    a, b = await cluster.start("a", "b")
    await a.register(Ledger, "x")
    assert (await a.manager.migrate_actor("x", "b")).moved
    assert a._node._new_home("x") == "b"
    await b.stop_actor("x")
    await a.register(Ledger, "x")
    assert a._node._new_home("x") is None
