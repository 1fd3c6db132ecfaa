"""Publish and subscribe across nodes: order, joins and leaves, lost nodes, outages."""

from __future__ import annotations

import asyncio
from typing import Any

import cajun_fast as cf
from tests.actors.test_groups import Member, Publisher
from tests.cluster.conftest import MORTAL, Cluster, eventually
from tests.cluster.test_outages import Cut


async def numbers(member: cf.Pid) -> list[Any]:
    return [message for message, _ in await member.ask("got")]


async def knows(system: cf.ClusterActorSystem, topic: str, *nodes: str) -> None:
    system.group(topic).publish("warm-up")
    await eventually(lambda: sorted(system._node.groups.nodes(topic)) == sorted(nodes))


async def test_each_publisher_is_heard_in_order_on_every_node(cluster: Cluster) -> None:
    a, b, c = systems = await cluster.start("a", "b", "c")
    members = [
        await system.register(Member, f"{system.system_id}{n}", "t") for system in systems for n in range(2)
    ]
    for system, others in ((a, "bc"), (b, "ac"), (c, "ab")):
        await eventually(lambda: sorted(system._node.groups.nodes("t")) == list(others))  # noqa: B023
    publishers = [await system.register(Publisher, f"p-{system.system_id}") for system in systems]
    for n in range(200):
        for publisher in publishers:
            publisher.tell(["t", n])
    for member in members:
        await eventually(lambda: _has(member, 600))  # noqa: B023
        got = await member.ask("got")
        for publisher in publishers:
            assert [n for n, sender in got if sender == publisher.id] == list(range(200))
    assert await a.group("t").send("last", timeout=10) == 6


async def _has(member: cf.Pid, count: int) -> bool:
    return len(await member.ask("got")) >= count


async def test_what_is_published_first_of_all_waits_until_it_is_known_who_listens(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    member = await a.register(Member, "m", "t")
    for n in range(100):
        b.group("t").publish(n)
    await eventually(lambda: _has(member, 100))
    assert await numbers(member) == list(range(100))


async def test_members_that_leave_end_or_are_lost_are_not_sent_to(cluster: Cluster) -> None:
    cluster.settings |= MORTAL
    a, b, c = await cluster.start("a", "b", "c")
    await b.register(Member, "b1", "t", "u")
    await c.register(Member, "c1", "t")
    assert await a.group("t").send(1, timeout=10) >= 0
    await eventually(lambda: sorted(a._node.groups.nodes("t")) == ["b", "c"])
    assert await a.group("t").send(2, timeout=10) == 2
    await a.pid("b1").ask(["unsubscribe", "t"])
    await eventually(lambda: a._node.groups.nodes("t") == ["c"])
    await cluster.kill("c")
    await eventually(lambda: a._node.groups.nodes("t") == [])
    assert await a.group("t").send(3, timeout=10) == 0
    await a.stop_actor("b1")
    await eventually(lambda: a._node.groups.nodes("u") == [])
    assert (await a._node.store.list(a._node.keys.groups)).entries == ()


async def test_of_two_intentions_the_later_one_stands(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    member = await b.register(Member, "m")
    await knows(a, "t")
    for _ in range(20):
        member.tell(["subscribe", "t"])
        member.tell(["unsubscribe", "t"])
    await member.ask(["subscribe", "t"])
    await eventually(lambda: a._node.groups.nodes("t") == ["b"])
    await asyncio.sleep(0.2)
    assert a._node.groups.nodes("t") == ["b"]
    assert await a.group("t").send("here", timeout=10) == 1
    assert "here" in await numbers(member)


async def test_a_subscription_outlives_the_node_s_incarnation_and_an_outage(tmp_path: Any) -> None:
    cut = Cut(f"memory://{tmp_path.name}")
    try:
        a, b = await cut.join("a", "b")
        member = await b.register(Member, "m", "t")
        await knows(a, "t", "b")
        cut.stores["b"].fall()
        member.tell(["subscribe", "u"])
        await eventually(lambda: b.is_fenced)
        await eventually(lambda: a._node.groups.nodes("t") == [])
        cut.stores["b"].rise()
        await eventually(lambda: not b.is_fenced)
        assert b.incarnation == 2
        for topic in ("t", "u"):
            await eventually(lambda: a._node.groups.nodes(topic) == ["b"])  # noqa: B023
            assert await a.group(topic).send(topic, timeout=10) == 1
        assert (await numbers(member))[-2:] == ["t", "u"]
    finally:
        for store in cut.stores.values():
            store.rise()
        await cut.stop()


async def test_groups_that_nobody_uses_ask_the_store_for_nothing(tmp_path: Any) -> None:
    cut = Cut(f"memory://{tmp_path.name}")
    try:
        (a,) = await cut.join("a")
        await a.register(Member, "m")
        assert not [call for call in cut.stores["a"].calls if call[1] == a._node.keys.groups]
        assert len(a._node.groups._tasks) == 0
    finally:
        await cut.stop()
