"""Without the store: what goes on, what fails at once, who stands still, and how everybody finds back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.metadata.memory import MemoryMetadataStore
from tests.cluster.conftest import MORTAL, Cluster, eventually
from tests.cluster.worlds import FaultyStore


class Tally(cf.Actor):
    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: Any, context: Any) -> Any:
        self.count += message
        return {"node": context.node_id, "count": self.count}


class Named(Tally):
    pass


class Cut(Cluster):
    """Each member has a store of its own that can be cut off."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.settings |= MORTAL
        self.stores: dict[str, FaultyStore] = {}

    async def join(self, *names: str, **settings: Any) -> list[cf.ClusterActorSystem]:
        for name in names:
            self.stores[name] = FaultyStore(MemoryMetadataStore(self.url.split("://")[1]))
            system = self.make(name, store=self.stores[name], **settings)
            await system.start()
            self.members[name] = system
        await self.settle()
        return [self.members[name] for name in names]


@pytest.fixture
async def cut(tmp_path: Path) -> AsyncIterator[Cut]:
    made = Cut(f"memory://{tmp_path.name}")
    made.types.actor("named")(Named)
    yield made
    for store in made.stores.values():
        store.rise()
    await made.stop()


async def test_messages_go_on_and_what_needs_the_store_fails_at_once(cut: Cut) -> None:
    settings = {
        "membership.lease_ttl": 30.0,
        "membership.leader_ttl": 1.0,
        "placement.location_cache_expiry_ms": 100,
    }
    a, b = await cut.join("a", "b", **settings)
    here, there = await a.register(Tally, "here"), await b.register(Tally, "there")
    assert (await a.pid("there").ask(1))["count"] == 1
    assert (await cut.leader()) is a
    for store in cut.stores.values():
        store.fall()
    await eventually(lambda: not a.is_store_available and not b.is_store_available)
    assert not a.is_leader, "a leader that cannot write leads nobody"
    await asyncio.sleep(0.3)  # past the expiry of what is cached
    for n in range(2, 50):
        assert (await a.pid("there").ask(1))["count"] == n
        assert (await here.ask(1))["count"] == n - 1
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(cf.MetadataStoreUnavailableError, match="'new'"):
        await a.register(Tally, "new")
    with pytest.raises(cf.MetadataStoreUnavailableError):
        await a.create_actor_on_node("named", "new", "b")
    with pytest.raises(cf.NodeUnavailableError, match="metadata store"):
        await a.pid("unknown").ask(1, timeout=20)
    assert loop.time() - before < 1
    for store in cut.stores.values():
        store.rise()
    await eventually(lambda: a.is_store_available and b.is_store_available)
    await a.register(Tally, "new")
    assert (await b.pid("new").ask(1))["count"] == 1
    assert (await there.ask(0))["count"] == 49
    await cut.leader()
    assert a.incarnation == b.incarnation == 1


async def test_a_registration_under_way_waits_a_short_outage_out(cut: Cut) -> None:
    (a,) = await cut.join("a", **{"membership.lease_ttl": 30.0})
    cut.stores["a"].fall()
    registering = [asyncio.ensure_future(a.register(Tally, f"x{n}")) for n in range(200)]
    await asyncio.sleep(0.5)
    cut.stores["a"].rise()
    await asyncio.gather(*registering)
    assert len((await a.manager.get_cluster_actors()).actors) == 200


async def test_an_actor_stopped_during_an_outage_is_not_resurrected(cut: Cut) -> None:
    a, b = await cut.join("a", "b", **{"membership.lease_ttl": 30.0, "metadata.registration_timeout": 0.5})
    await a.register(Named, "x")
    await b.pid("x").ask(1)
    cut.stores["a"].fall()
    with pytest.raises(cf.MetadataStoreUnavailableError):
        await a.stop_actor("x")
    assert a.actor_ids() == []
    cut.stores["a"].rise()
    await eventually(lambda: a.is_store_available)
    with pytest.raises(cf.ActorNotFoundError):
        await b.pid("x").ask(1)
    await b.register(Named, "x")
    assert (await a.pid("x").ask(1)) == {"node": "b", "count": 1}


async def test_a_node_that_is_cut_off_stands_still_before_others_take_its_actors(cut: Cut) -> None:
    a, b = await cut.join("a", "b")
    await b.register(Named, "x")
    pid = a.pid("x")
    assert (await pid.ask(1)) == {"node": "b", "count": 1}
    handled_by_b = asyncio.ensure_future(_count_while_it_may(b))
    cut.stores["b"].fall()
    await eventually(lambda: b.is_fenced)
    stopped_counting = await handled_by_b
    taken = await eventually(lambda: "x" in a.actor_ids() and asyncio.get_running_loop().time())
    assert stopped_counting < taken
    assert (await pid.ask(1, timeout=10)) == {"node": "a", "count": 1}
    with pytest.raises(cf.MetadataStoreUnavailableError):
        await b.register(Tally, "y")
    cut.stores["b"].rise()
    await eventually(lambda: not b.is_fenced)
    await eventually(lambda: b.actor_ids() == [])
    assert b.incarnation == 2
    await eventually(lambda: b.is_store_available)
    assert (await b.pid("x").ask(1, timeout=10)) == {"node": "a", "count": 2}
    await b.register(Tally, "y")
    assert (await a.pid("y").ask(1, timeout=10)) == {"node": "b", "count": 1}


async def _count_while_it_may(system: cf.ClusterActorSystem) -> float:
    """When its own actor stopped answering it."""
    loop = asyncio.get_running_loop()
    last = loop.time()
    while True:
        try:
            await system.pid("x").ask(1, timeout=0.2)
            last = loop.time()
        except (TimeoutError, cf.CajunError):
            return last


async def test_when_the_store_is_gone_for_everybody_everybody_goes_on(cut: Cut) -> None:
    a, b, c = await cut.join("a", "b", "c")
    await a.register(Named, "x")
    await b.register(Tally, "y")
    await b.pid("x").ask(0)
    await c.pid("y").ask(0)
    for store in cut.stores.values():
        store.fall()
    loop = asyncio.get_running_loop()
    began, n = loop.time(), 0
    while loop.time() < began + 4:  # four leases long
        n += 1
        assert (await b.pid("x").ask(1, timeout=1)) == {"node": "a", "count": n}
        assert (await c.pid("y").ask(1, timeout=1)) == {"node": "b", "count": n}
        await asyncio.sleep(0.02)
    assert not any(system.is_fenced for system in (a, b, c))
    for store in cut.stores.values():
        store.rise()
    await eventually(lambda: all(system.is_store_available for system in (a, b, c)))
    await asyncio.sleep(2)
    assert (await b.pid("x").ask(0)) == {"node": "a", "count": n}
    assert (await c.pid("y").ask(0)) == {"node": "b", "count": n}
    assert [system.incarnation for system in (a, b, c)] == [1, 1, 1]
    await cut.leader()
    nodes = await a.manager.get_cluster_nodes()
    assert [node.node for node in nodes] == ["a", "b", "c"]


async def test_where_one_member_still_sees_the_store_nobody_else_holds(cut: Cut) -> None:
    a, b, c = await cut.join("a", "b", "c")
    await a.register(Named, "x")
    assert (await c.pid("x").ask(1)) == {"node": "a", "count": 1}
    for name in "ab":
        cut.stores[name].fall()
    await eventually(lambda: a.is_fenced and b.is_fenced)
    assert (await eventually(lambda: _answer(c, "x", 1), 30))["node"] == "c"
    assert c.actor_ids() == ["x"]


async def test_without_every_promise_it_stands_still_and_comes_back_with_its_state(cut: Cut) -> None:
    a, b, _ = await cut.join("a", "b", "c")
    await a.register(Named, "x")
    await b.register(Tally, "y")
    assert (await a.pid("y").ask(5))["count"] == 5
    assert (await b.pid("x").ask(6))["count"] == 6
    for store in cut.stores.values():
        store.fall()
    await cut.kill("c")  # nobody can know what c promises
    await eventually(lambda: a.is_fenced and b.is_fenced)
    waiting = asyncio.ensure_future(a.pid("y").ask(1, timeout=20))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    for store in cut.stores.values():
        store.rise()
    await eventually(lambda: not a.is_fenced and not b.is_fenced)
    try:
        assert await waiting == {"node": "b", "count": 6}
        count = 6
    except (cf.OutcomeUnknownError, cf.NodeUnavailableError):  # its link ended with the incarnation: said so
        count = 5
    assert await eventually(lambda: _answer(a, "y", 0)) == {"node": "b", "count": count}
    assert await eventually(lambda: _answer(b, "x", 0)) == {"node": "a", "count": 6}
    await cut.leader()


async def test_who_sends_while_a_node_changes_its_incarnation_waits_and_hears_of_no_stop(cut: Cut) -> None:
    a, b = await cut.join("a", "b", **{"membership.lease_ttl": 30.0})
    await b.register(Tally, "y")
    assert (await a.pid("y").ask(1))["count"] == 1
    old, closed = a._node.messaging, asyncio.Event()
    stop = old.stop

    async def slow_stop(*, left: bool) -> None:
        old.stopping = True
        await closed.wait()
        old.stopping = False
        await stop(left=left)

    old.stop = slow_stop  # type: ignore[method-assign]
    a._node.membership._fence("for the test")
    await eventually(lambda: old.stopping)
    lane = a._node.exchange.lane("y")
    lane.unbind()
    asks = [asyncio.ensure_future(a.pid("y").ask(1, timeout=20)) for _ in range(3)]
    sends = [asyncio.ensure_future(a.pid("y").send(1)) for _ in range(3)]
    await asyncio.sleep(0.1)
    assert not any(each.done() for each in (*asks, *sends))
    closed.set()
    assert [(await ask)["count"] for ask in asks] == [2, 3, 4]
    await asyncio.gather(*sends)
    assert (await a.pid("y").ask(0))["count"] == 7
    assert a.incarnation == 2


async def test_a_node_that_knows_no_other_stands_still_and_comes_back_with_its_state(cut: Cut) -> None:
    (a,) = await cut.join("a")
    pid = await a.register(Tally, "x")
    assert (await pid.ask(3))["count"] == 3
    cut.stores["a"].fall()
    await eventually(lambda: a.is_fenced)
    waiting = asyncio.ensure_future(pid.ask(1, timeout=20))
    await eventually(lambda: _is_gone(cut, a))
    assert not waiting.done()
    cut.stores["a"].rise()
    assert (await waiting) == {"node": "a", "count": 4}
    assert (a.incarnation, a.is_fenced) == (2, False)


async def _is_gone(cut: Cut, system: cf.ClusterActorSystem) -> bool:
    """Whether its record is: its lease has ended."""
    return await cut.stores["a"].inner.get(system._node.keys.node(system.node_id)) is None


async def _answer(system: cf.ClusterActorSystem, actor_id: str, message: int) -> Any:
    try:
        return await system.pid(actor_id).ask(message, timeout=5)
    except (cf.CajunError, TimeoutError):
        return None


async def test_a_claim_that_somebody_removed_is_put_back_only_if_nobody_took_it(cut: Cut) -> None:
    a, b = await cut.join("a", "b", **{"membership.lease_ttl": 30.0})
    await a.register(Tally, "kept")
    await a.register(Tally, "lost")
    keys, store = a._node.keys, cut.stores["b"].inner
    await a._node.locator.stop()  # it does not see what happens now
    await store.delete(keys.actor("kept"))
    await store.delete(keys.actor("lost"))
    await b.register(Tally, "lost")
    assert await a.sync_actor_registry() == (1, 1)
    await eventually(lambda: a.actor_ids() == ["kept"])
    assert (await b.pid("kept").ask(1))["node"] == "a"
    assert (await b.pid("lost").ask(1))["node"] == "b"
    assert await a.sync_actor_registry() == (1, 0)


async def test_an_actor_whose_record_somebody_removes_stops_here(cut: Cut) -> None:
    a, b = await cut.join("a", "b", **{"membership.lease_ttl": 30.0})
    await a.register(Tally, "x")
    await cut.stores["b"].inner.delete(a._node.keys.actor("x"))
    await eventually(lambda: a.actor_ids() == [])
    await b.register(Tally, "x")


async def test_a_store_that_drops_every_lease_at_once_moves_nothing(cut: Cut) -> None:
    settings = {"membership.lease_ttl": 9.0, "membership.suspicion_timeout": 3.0}
    systems = await cut.join("a", "b", "c", **settings)
    for system in systems:
        await system.register(Named, f"of-{system.system_id}")
        await asyncio.gather(
            *(system.pid(f"of-{each}").ask(1) for each in "abc" if f"of-{each}" in _all_ids(systems))
        )
    for system in systems:
        for each in "abc":
            await system.pid(f"of-{each}").ask(1)
    before = [system._node.membership.lease_id for system in systems]
    for lease in before:
        await cut.stores["a"].inner._revoke(lease)  # type: ignore[attr-defined]
    await eventually(lambda: not {system._node.membership.lease_id for system in systems} & set(before))
    for system in systems:
        assert system.incarnation == 1
        assert set(system.known_nodes) == {"a", "b", "c"}
        for each in "abc":
            answer = await system.pid(f"of-{each}").ask(0)
            assert answer["node"] == each
            assert answer["count"] >= 3
    assert not any(system._node.failover.outcomes["adopted"] for system in systems)


async def test_many_members_whose_leases_are_dropped_do_not_dial_each_other_to_hear_that_they_live(
    cut: Cut,
) -> None:
    names = [f"n{number:02}" for number in range(16)]
    settings = {"membership.lease_ttl": 9.0, "membership.suspicion_timeout": 3.0}
    systems = await cut.join(*names, **settings)
    await cut.leader()

    def connections() -> int:
        return sum(
            peer.connection is not None
            for system in systems
            for peer in system._node.messaging._peers.values()
        )

    before = connections()
    leases = [system._node.membership.lease_id for system in systems]
    for lease in leases:
        await cut.stores["n00"].inner._revoke(lease)  # type: ignore[attr-defined]
    await eventually(lambda: not {system._node.membership.lease_id for system in systems} & set(leases))
    await cut.settle()
    assert {system.incarnation for system in systems} == {1}
    assert connections() <= before + len(names) < len(names) * (len(names) - 1)


def _all_ids(systems: list[cf.ClusterActorSystem]) -> set[str]:
    return {actor_id for system in systems for actor_id in system.actor_ids()}
