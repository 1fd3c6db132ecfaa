"""Death watch across nodes: stops, failures, lost nodes, moves, and a store that is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.cluster.deaths import Home, continues
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.hosting import ADOPTED_AT
from cajun_fast.cluster.records import ActorRecord, Owner
from tests.actors.test_deaths import STOP, Fragile, Watcher, told
from tests.cluster.conftest import MORTAL, Cluster, eventually
from tests.cluster.test_outages import Cut


class Brittle(cf.Actor):
    """Of no registered type."""

    def receive(self, message: Any, context: Any) -> None:
        raise ValueError("as asked")


class Parent(cf.Actor):
    def pre_start(self) -> None:
        self.context.spawn(Fragile, "child")

    def receive(self, message: Any, context: Any) -> None:
        context.stop()


@pytest.fixture
async def two(cluster: Cluster) -> Any:
    cluster.settings |= MORTAL
    cluster.types.actor("fragile")(Fragile)
    return (await cluster.start("a", "b"), cluster)


async def test_stops_failures_and_nobody_are_told_across_nodes(two: Any) -> None:
    (a, b), _ = two
    watcher, other = await a.register(Watcher, "w"), await b.register(Watcher, "o")
    await b.register(Fragile, "stopping")
    await b.register(Brittle, "failing", supervision=STOP)
    await b.register(Parent, "parent")
    for each in (watcher, other):
        for target in ("nobody", "parent/nobody", "stopping", "failing", "parent/child"):
            await each.ask(["watch", target])
    await told(watcher, 2)
    await told(other, 2)
    await eventually(lambda: len(b._node.deaths._watched_by or ()) == 3)
    await a.stop_actor("stopping")
    await told(watcher, 3)
    with pytest.raises(cf.RemoteActorError):
        await a.pid("failing").ask("fail")
    await told(watcher, 4)
    a.pid("parent").tell("stop")
    for each in (watcher, other):
        found = await told(each, 5)
        assert dict(found) == {
            "nobody": "not-found",
            "parent/nobody": "not-found",
            "stopping": "stopped",
            "failing": "failed",
            "parent/child": "stopped",
        }
    assert not b._node.deaths._watched_by
    assert not a._node.deaths._homes


async def test_who_does_not_watch_any_more_leaves_nothing_at_the_far_side(two: Any) -> None:
    (a, b), _ = two
    watcher = await a.register(Watcher, "w")
    await b.register(Fragile, "x")
    await watcher.ask(["watch", "x"])
    await eventually(lambda: b._node.deaths._watched_by)
    await watcher.ask(["unwatch", "x"])
    await eventually(lambda: not b._node.deaths._watched_by)
    await watcher.ask(["watch", "x"])
    await eventually(lambda: b._node.deaths._watched_by)
    await a.stop_actor("w")
    await eventually(lambda: not b._node.deaths._watched_by)


async def test_with_its_node_an_actor_is_lost_although_it_runs_again_elsewhere(two: Any) -> None:
    (a, b), cluster = two
    watcher = await a.register(Watcher, "w")
    await b.register(Fragile, "x")
    await watcher.ask(["watch", "x"])
    await eventually(lambda: b._node.deaths._watched_by)
    await cluster.kill("b")
    assert await told(watcher) == [("x", "node-lost")]
    await eventually(lambda: "x" in a.actor_ids())
    await watcher.ask(["watch", "x"])
    await a.stop_actor("x")
    assert await told(watcher, 2) == [("x", "node-lost"), ("x", "stopped")]


async def test_a_watcher_of_a_lost_node_is_forgotten(two: Any) -> None:
    (a, b), cluster = two
    watcher = await a.register(Watcher, "w")
    await b.register(Fragile, "x")
    await watcher.ask(["watch", "x"])
    await eventually(lambda: b._node.deaths._watched_by)
    await cluster.kill("a")
    await eventually(lambda: not b._node.deaths._watched_by)


async def test_an_actor_that_moves_with_its_state_is_watched_on(two: Any) -> None:
    """As a migration does it: the new owner's record stands, then the old copy is let go."""
    (a, b), cluster = two
    (c,) = await cluster.start("c")
    watchers = [await system.register(Watcher, f"w-{system.system_id}") for system in (a, b, c)]
    await b.register(Fragile, "x")
    for watcher in watchers:
        await watcher.ask(["watch", "x"])
    await eventually(lambda: (b._node.deaths._watched_by or {}).get("x") == {"a", "c"})
    standing = b._node.hosting.owned.pop("x")
    moved = ActorRecord(
        owner=c._node.owner, claim=1, epoch=standing.record.epoch + 1, type="fragile", arguments=b""
    )
    await c._node.actors.spawn(Fragile, "x")
    outcome = await b._node.store.compare_and_set(c._node.keys.actor("x"), standing.revision, moved.encode())
    assert outcome.succeeded
    c._node.hosting.owned["x"] = Standing("x", moved, outcome.revision)
    await b._node.actors.stop_actor("x")
    await eventually(lambda: (c._node.deaths._watched_by or {}).get("x") == {"a", "b"})
    for watcher in watchers:
        assert await watcher.ask("told") == []
    await a.stop_actor("x")
    for watcher in watchers:
        assert await told(watcher) == [("x", "stopped")]


async def test_a_watch_begun_while_the_store_is_away_is_taken_up_after_it(tmp_path: Any) -> None:
    cut = Cut(f"memory://{tmp_path.name}")
    try:
        a, b = await cut.join(
            "a", "b", **{"membership.lease_ttl": 30.0, "membership.suspicion_timeout": 20.0}
        )
        watcher = await a.register(Watcher, "w")
        await b.register(Fragile, "x")
        for store in cut.stores.values():
            store.fall()
        await watcher.ask(["watch", "x"])
        await watcher.ask(["watch", "nobody"])
        await asyncio.sleep(0.3)
        assert await watcher.ask("told") == []
        for store in cut.stores.values():
            store.rise()
        assert await told(watcher) == [("nobody", "not-found")]
        await eventually(lambda: b._node.deaths._watched_by)
        await b.stop_actor("x")
        assert await told(watcher, 2) == [("nobody", "not-found"), ("x", "stopped")]
    finally:
        for store in cut.stores.values():
            store.rise()
        await cut.stop()


@pytest.mark.parametrize(
    ("epoch", "adopted", "owner", "goes_on"),
    [
        (3, 0, Owner("a", 1), True),
        (3, 0, Owner("b", 1), False),  # registered anew elsewhere
        (4, 0, Owner("b", 1), True),  # handed over
        (4, 4, Owner("b", 1), False),  # started anew
        (5, 4, Owner("c", 1), False),  # started anew, then handed over
        (5, 3, Owner("c", 1), True),  # it had been started anew before it was watched
        (1, 0, Owner("a", 1), False),  # registered anew
    ],
)
def test_the_record_says_whether_it_is_the_same_life(
    epoch: int, adopted: int, owner: Owner, goes_on: bool
) -> None:
    record = ActorRecord(owner=owner, claim=1, epoch=epoch, extra={ADOPTED_AT: adopted})
    assert continues(Home(Owner("a", 1), 3), Standing("x", record, 9)) is goes_on


class Moving(cf.Actor):
    """Its state is nothing; it subscribes once."""

    def receive(self, message: Any, context: Any) -> Any:
        if message == "subscribe":
            context.subscribe("moved")
        return context.node_id

    def get_state(self) -> Any:
        return None

    def set_state(self, state: Any) -> None:
        return None


async def test_a_migration_is_no_death_and_takes_the_subscription_along(two: Any) -> None:
    (a, b), cluster = two
    cluster.types.actor("moving")(Moving)
    (c,) = await cluster.start("c")
    watchers = [await system.register(Watcher, f"w-{system.system_id}") for system in (a, b, c)]
    await b.register(Moving, "x")
    await a.pid("x").ask("subscribe")
    for watcher in watchers:
        await watcher.ask(["watch", "x"])
    await eventually(lambda: (b._node.deaths._watched_by or {}).get("x") == {"a", "c"})
    for there in ("c", "a", "b"):
        result = await a.manager.migrate_actor("x", there)
        assert await a.pid("x").ask(0, timeout=10) == there, result
        others = {"a", "b", "c"} - {there}
        node = cluster.members[there]._node
        await eventually(lambda: (node.deaths._watched_by or {}).get("x") == others)  # noqa: B023
        for watcher in watchers:
            assert await watcher.ask("told") == []
        await eventually(lambda: _reached(c, "moved", 1))
    await a.stop_actor("x")
    for watcher in watchers:
        assert await told(watcher) == [("x", "stopped")]


async def _reached(system: cf.ClusterActorSystem, topic: str, count: int) -> bool:
    return await system.group(topic).send("hello", timeout=10) == count
