"""Death watch of sharded actors: an id is watched through passivations and moves, and its next end is told once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards import watches as module
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.shards.watches import STANDS, UNKNOWN, ShardWatches
from cajun_fast.testing.etcd import etcd_binary, throwaway_etcd
from tests.actors.test_deaths import STOP, Watcher, told
from tests.cluster.conftest import Cluster, eventually

#: Nothing here is about who is lost unless it says so.
QUIET = {"membership.lease_ttl": 30.0, "membership.suspicion_timeout": 20.0, "membership.leader_ttl": 5.0}
QUICK = {"sharding.shard_count": 16, "sharding.rebalance_delay": 0.1, "sharding.rebalance_pause": 0.02}


class Session(cf.Actor):
    def __init__(self) -> None:
        self.count = 0

    def get_state(self) -> Any:
        return self.count

    def set_state(self, state: Any) -> None:
        self.count = state

    def pre_start(self) -> None:
        if "#bad" in self.context.self.id:
            raise ValueError("as asked")
        self.context.spawn(Child, "child")

    def receive(self, message: Any, context: Any) -> Any:
        match message:
            case "stop":
                context.stop()
            case "rest":
                context.passivate()
            case "fail":
                raise ValueError("as asked")
            case "node":
                return context.node_id
        self.count += 1
        return self.count


class Child(cf.Actor):
    def receive(self, message: Any, context: Any) -> None: ...


#: One kind of store is enough here; by hand also CAJUN_WATCH_STORES=memory,sqlite,etcd.
STORES = os.environ.get("CAJUN_WATCH_STORES", "memory").split(",")


@pytest.fixture(params=STORES)
async def store_url(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[str]:
    if request.param != "etcd":
        yield f"memory://{tmp_path.name}" if request.param == "memory" else f"sqlite:///{tmp_path}/cluster.db"
        return
    try:
        etcd_binary()
    except cf.ConfigError as error:
        pytest.skip(str(error))
    async with throwaway_etcd() as url:
        yield url


@pytest.fixture
def sessions(cluster: Cluster) -> Cluster:
    cluster.settings |= QUICK | QUIET
    cluster.types.actor("session", sharded=True, supervision=STOP)(type("Session", (Session,), {}))
    return cluster


async def shared(cluster: Cluster, *names: str) -> list[cf.ClusterActorSystem]:
    """Members that have the shards, all of them known to all."""
    systems = await cluster.start(*names)
    await lie_on(cluster, *names)
    return systems


async def lie_on(cluster: Cluster, *names: str) -> None:
    await eventually(
        lambda: all(
            set(system.sharded("session").spread()) == set(names)
            and sum(system.sharded("session").spread().values()) == 16
            for system in cluster.members.values()
        ),
        30,
    )


def entity_on(system: cf.ClusterActorSystem, node: str) -> str:
    """The id of an actor whose shard that node has."""
    sessions = system.sharded("session")
    return next(sessions.id(str(n)) for n in range(500) if sessions.node(str(n)) == node)


def watches(system: cf.ClusterActorSystem) -> ShardWatches:
    return system._node.deaths.shards


def known(system: cf.ClusterActorSystem, target: str) -> set[str]:
    """Nodes that watch it, as its owner knows."""
    place = system._node.sharding.table.place(target)
    assert place is not None
    return set(watches(system)._watchers.get(place, {}).get(target, ()))


async def watched(
    systems: list[cf.ClusterActorSystem], target: str, owner: cf.ClusterActorSystem
) -> list[cf.Pid]:
    """A watcher on each node, once the owner knows of all."""
    names = {system.system_id for system in systems}
    watchers = [await system.register(Watcher, f"{system.system_id}-{target[8:]}") for system in systems]
    for watcher in watchers:
        await watcher.ask(["watch", target])
    await eventually(lambda: known(owner, target) == names)
    return watchers


async def all_told(watchers: list[cf.Pid], *expected: tuple[str, str]) -> None:
    for watcher in watchers:
        assert await told(watcher, len(expected)) == list(expected)


async def test_an_end_is_told_and_a_passivation_is_none(sessions: Cluster) -> None:
    systems = await shared(sessions, "a", "b", "c")
    target = entity_on(systems[0], "b")
    watchers = await watched(systems, target, systems[1])
    regions = [system._node.sharding.region for system in systems]
    assert [region.started for region in regions] == [0, 0, 0], "a watch starts nobody"
    for _ in range(3):
        await systems[2].pid(target).ask("rest")
        await eventually(lambda: target not in systems[1].actor_ids())
    for watcher in watchers:
        assert await watcher.ask("told") == []
    await systems[2].pid(target).ask("stop")
    await all_told(watchers, (target, "stopped"))
    for watcher in watchers:
        await watcher.ask(["watch", target])
    await eventually(lambda: known(systems[1], target) == {"a", "b", "c"})
    with pytest.raises(cf.RemoteActorError):
        await systems[0].pid(target).ask("fail")
    await all_told(watchers, (target, "stopped"), (target, "failed"))
    assert not any(watches(system)._homes or watches(system)._watchers for system in systems)
    assert not any(watches(system)._targets for system in systems)


async def test_a_start_that_fails_and_children_and_an_unknown_type_are_told(
    sessions: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    systems = await shared(sessions, "a", "b")
    bad = next(f"session#bad{n}" for n in range(500) if systems[0].sharded("session").node(f"bad{n}") == "b")
    watchers = await watched(systems, bad, systems[1])
    with pytest.raises(cf.CajunError, match="as asked"):
        await systems[0].pid(bad).ask("node")
    await all_told(watchers, (bad, "failed"))

    parent = entity_on(systems[0], "b")
    child = f"{parent}/child"
    for watcher in watchers:
        await watcher.ask(["watch", f"{parent}/nobody"])
        await watcher.ask(["watch", "nosuchtype#1"])
    await all_told(
        watchers, (bad, "failed"), (f"{parent}/nobody", "not-found"), ("nosuchtype#1", "not-found")
    )
    await systems[0].pid(parent).ask("node")
    for watcher in watchers:
        await watcher.ask(["watch", child])
    await eventually(lambda: known(systems[1], child) == {"a", "b"})
    await systems[0].pid(parent).ask("rest")
    for watcher in watchers:
        assert (await told(watcher, 4))[3] == (child, "stopped"), "children end with a life of their parent"


async def test_a_shard_takes_those_who_watch_along(sessions: Cluster) -> None:
    """Whoever runs, and whoever rests; told by its new home although that has not been asked again."""
    systems = await shared(sessions, "a", "b", "c")
    a, b, c = systems
    running = entity_on(a, "b")
    resting = next(
        f"session#{n}"
        for n in range(500)
        if f"session#{n}" != running and a.sharded("session").node(str(n)) == "b"
    )
    await a.pid(running).ask(1)
    first, second = await watched(systems, running, b), await watched(systems, resting, b)

    async def deaf(node: str, request: Any) -> Any:
        raise TimeoutError

    for system in systems:
        watches(system)._ask = deaf
    await b._node.membership.update(cordoned=True)
    await lie_on(sessions, "a", "c")
    assert await a.pid(running).ask("count") == 2, "it moved with its state"
    for target, watchers in ((running, first), (resting, second)):
        home = {"a": a, "c": c}[a.sharded("session").node(target[8:]) or ""]
        assert known(home, target) == {"a", "b", "c"}
        for watcher in watchers:
            assert await watcher.ask("told") == []
        await a.pid(target).ask("stop")
        await all_told(watchers, (target, "stopped"))


async def test_a_node_that_stops_in_order_tells_of_nothing_that_moves(sessions: Cluster) -> None:
    a, b = await shared(sessions, "a", "b")
    target = entity_on(a, "b")
    await a.pid(target).ask(1)
    [watcher] = await watched([a], target, b)
    sessions.members.pop("b")
    await b.stop()
    await lie_on(sessions, "a")
    assert await watcher.ask("told") == []
    await eventually(lambda: known(a, target) == {"a"})
    await a.pid(target).ask("stop")
    assert await told(watcher) == [(target, "stopped")]


async def test_the_last_node_of_a_type_tells_that_its_actors_stop(sessions: Cluster) -> None:
    [b] = await shared(sessions, "b")
    types, sessions.types = sessions.types, type(sessions.types)()
    [a] = await sessions.start("watching")
    sessions.types = types
    target = entity_on(b, "b")
    await b.pid(target).ask(1)
    [watcher] = await watched([a], target, b)
    sessions.members.pop("b")
    await b.stop()
    assert await told(watcher) == [(target, "stopped")]


async def test_with_the_owner_of_its_shard_an_actor_is_lost(sessions: Cluster) -> None:
    sessions.settings |= {"membership.lease_ttl": 5.0, "membership.suspicion_timeout": 2.0}
    systems = await shared(sessions, "a", "b", "c")
    a, b, c = systems
    target = entity_on(a, "b")
    await a.pid(target).ask(1)
    watchers = await watched([a, c], target, b)
    await sessions.kill("b")
    for watcher in watchers:
        assert await told(watcher) == [(target, "node-lost")]
        await watcher.ask(["watch", target])
    await lie_on(sessions, "a", "c")
    home = sessions.members[a.sharded("session").node(target[8:]) or ""]
    await eventually(lambda: known(home, target) == {"a", "c"})
    await a.pid(target).ask("stop")
    await all_told(watchers, (target, "node-lost"), (target, "stopped"))


async def test_who_does_not_watch_any_more_leaves_nothing_behind(sessions: Cluster) -> None:
    sessions.settings |= {"membership.lease_ttl": 5.0, "membership.suspicion_timeout": 2.0}
    systems = await shared(sessions, "a", "b")
    a, b = systems
    targets = [entity_on(a, "a"), entity_on(a, "b")]
    watcher = await a.register(Watcher, "w")
    for target, owner in zip(targets, systems, strict=True):
        await watcher.ask(["watch", target])
        await eventually(lambda o=owner, t=target: known(o, t) == {"a"})
        await watcher.ask(["unwatch", target])
        await eventually(lambda o=owner: not watches(o)._watchers)
        assert target not in watches(a)._homes
        assert not any(target in each for each in watches(a)._targets.values())
        await watcher.ask(["watch", target])
        await eventually(lambda o=owner, t=target: known(o, t) == {"a"})
    await sessions.kill("a")
    await eventually(lambda: not watches(b)._watchers, 30)


async def test_a_new_owner_that_knows_of_no_watch_has_lost_what_was_watched(sessions: Cluster) -> None:
    """As one of an earlier version hands over, or after a loss in between that this node has not seen."""
    systems = await shared(sessions, "a", "b")
    a, b = systems
    target = entity_on(a, "b")
    [watcher, _] = await watched(systems, target, b)
    watches(b)._watchers.clear()
    await b._node.membership.update(cordoned=True)
    await lie_on(sessions, "a")
    assert await told(watcher) == [(target, "node-lost")]


async def test_only_who_has_watched_goes_on_by_being_asked_again(sessions: Cluster) -> None:
    [a] = await shared(sessions, "a")
    target = entity_on(a, "a")
    mine = watches(a)
    assert mine.on_watch(target, "x", 1, True, None) == UNKNOWN
    assert mine.on_watch(target, "x", 1, True, "y") == UNKNOWN
    assert not mine._watchers, "asking leaves nothing"
    assert mine.on_watch(target, "x", 1, False, None) == STANDS
    assert mine.on_watch(target, "x", 2, True, None) == STANDS
    assert mine.on_watch(target, "y", 1, True, "x") == STANDS, "its watcher came from there"


async def test_a_node_that_is_back_takes_its_watches_up_again(
    sessions: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The homes forget what an incarnation watched that is over."""
    a, b = await shared(sessions, "a", "b")
    target = entity_on(a, "b")
    await b.register(Child, "plain")
    watcher = await a.register(Watcher, "w")
    for each in (target, "plain"):
        await watcher.ask(["watch", each])
    await eventually(lambda: known(b, target) == {"a"} and (b._node.deaths._watched_by or {}).get("plain"))
    record = b._node.members.get("a")
    assert record is not None
    a._node.deaths.renew()
    await eventually(lambda: not a._node.deaths._following and not watches(a)._following)
    assert await watcher.ask("told") == []
    b._node.deaths.node_left(record)
    assert known(b, target) == set()
    assert not b._node.deaths._watched_by
    a._node.deaths.renew()
    assert await told(watcher) == [(target, "node-lost")], "what became of it meanwhile is not known"
    await eventually(lambda: (b._node.deaths._watched_by or {}).get("plain"))
    await a.stop_actor("plain")
    assert await told(watcher, 2) == [(target, "node-lost"), ("plain", "stopped")]
    renewed: list[int] = []
    monkeypatch.setattr(a._node.deaths, "renew", lambda: renewed.append(a.incarnation))
    before = a.incarnation
    a._node.membership._fence("as asked")
    await eventually(lambda: renewed, 20)
    assert renewed == [before + 1]


def test_a_watch_goes_on_under_the_next_record_only_by_a_hand_over() -> None:
    """The decision by itself: owners a (this node), s and t."""
    watching = ShardWatches.__new__(ShardWatches)
    watching._owner = lambda: Owner("a", 2)
    watching._homes = {}

    def judge(home: ShardRecord, now: ShardRecord) -> tuple[str | None, bool]:
        watching._homes["x"] = home
        return watching._on_record("x", home, now), watching._homes["x"] is now

    s = ShardRecord(Owner("s", 1), 3, 10)
    assert judge(s, ShardRecord(Owner("s", 1), 4, 11)) == (None, True)  # a hand-over that was undone
    assert judge(s, ShardRecord(Owner("t", 1), 4, 11, "m")) == ("later", True)  # handed over
    assert judge(s, ShardRecord(Owner("t", 1), 5, 11, "m")) == ("later", False)  # not seen in full
    assert judge(s, ShardRecord(Owner("t", 1), 5, 11)) == ("later", False)
    assert judge(s, ShardRecord(Owner("t", 1), 4, 11)) == (None, False)  # the members will say
    assert judge(s, ShardRecord(Owner("s", 2), 4, 11)) == (None, False)
    mine = ShardRecord(Owner("a", 1), 3, 10)
    assert judge(mine, ShardRecord(Owner("a", 2), 4, 11)) == (None, True)  # taken back
    assert judge(mine, ShardRecord(Owner("t", 1), 4, 11)) == ("node-lost", False)  # taken away
