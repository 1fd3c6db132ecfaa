"""Members of a cluster: registering, sending, asking, stopping; what goes wrong is said where the user
stands.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from tests.cluster.conftest import Cluster, eventually


class Counter(cf.Actor):
    def __init__(self, start: int = 0) -> None:
        self.value = start
        self.seen: list[int] = []

    def receive(self, message: Any, context: Any) -> Any:
        match message:
            case {"op": "add", "n": n}:
                self.value += n
                self.seen.append(n)
            case {"op": "get"}:
                return self.value
            case {"op": "seen"}:
                return self.seen
            case {"op": "node"}:
                return context.node_id
            case {"op": "stop"}:
                context.stop()
            case {"op": "spawn"}:
                return context.spawn(Counter, "child")


class Unwilling(cf.Actor):
    def pre_start(self) -> None:
        raise OSError("no disk")


async def test_tell_and_ask_work_from_every_member_wherever_the_actor_lives(cluster: Cluster) -> None:
    a, b, c = await cluster.start("a", "b", "c")
    await a.register(Counter, "x", start=5)
    for system in (a, b, c):
        system.pid("x").tell({"op": "add", "n": 1})
        system.route_message("x", {"op": "add", "n": 1}, cf.DeliveryGuarantee.AT_LEAST_ONCE)
        await system.pid("x").send({"op": "add", "n": 1})
    assert await b.pid("x").ask({"op": "get"}) == 14
    assert await c.pid("x").ask({"op": "node"}) == "a"
    assert set(a.known_nodes) == {"a", "b", "c"}


async def test_messages_to_an_actor_whose_place_is_not_known_yet_stay_in_order(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(Counter, "x")
    pid = b.pid("x")
    for n in range(500):
        pid.tell({"op": "add", "n": n})
        if n % 50 == 0:
            await asyncio.sleep(0)
            b._node.locator.cache.clear()
    assert await pid.ask({"op": "seen"}) == list(range(500))


async def test_any_number_of_waiting_messages_cost_one_read(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(Counter, "x")
    before = b._node.directory.reads
    pids = [b.pid("x") for _ in range(50)]
    await asyncio.gather(*(pid.ask({"op": "get"}) for pid in pids))
    assert b._node.directory.reads == before + 1
    await asyncio.gather(*(b._node.locator.locate("x") for _ in range(50)))
    assert b._node.directory.reads == before + 2


async def test_an_id_has_one_owner_in_the_cluster_even_when_all_want_it(cluster: Cluster) -> None:
    systems = await cluster.start("a", "b", "c")
    results = await asyncio.gather(
        *(system.register(Counter, f"x{n}") for n in range(20) for system in systems), return_exceptions=True
    )
    for n in range(20):
        mine = results[3 * n : 3 * n + 3]
        errors = [result for result in mine if isinstance(result, Exception)]
        assert len(errors) == 2
        owner = await systems[0].pid(f"x{n}").ask({"op": "node"})
        assert all(isinstance(error, cf.ActorAlreadyExistsError) and error.node == owner for error in errors)
    with pytest.raises(cf.ActorAlreadyExistsError, match="x0"):
        await systems[0].register(Counter, "x0")


async def test_an_actor_that_does_not_start_gives_its_id_back(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    with pytest.raises(OSError, match="no disk"):
        await a.register(Unwilling, "x")
    with pytest.raises(TypeError):
        await a.register(Counter, "y", nonsense=1)
    await b.register(Counter, "x")
    await b.register(Counter, "y")
    assert await a.pid("x").ask({"op": "node"}) == "b"


async def test_a_stopped_actor_is_gone_for_everybody_and_its_id_is_free(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(Counter, "x")
    assert await b.pid("x").ask({"op": "get"}) == 0
    assert await b.stop_actor("x")
    for system in (a, b):
        with pytest.raises(cf.ActorNotFoundError, match="x"):
            await system.pid("x").ask({"op": "get"})
        with pytest.raises(cf.ActorNotFoundError, match="x"):
            await system.pid("x").send({"op": "get"})
    assert not await a.stop_actor("x")
    await b.register(Counter, "x", 7)
    await asyncio.sleep(0.15)  # that it is not there is remembered for a moment
    assert await a.pid("x").ask({"op": "get"}) == 7


async def test_an_actor_that_stops_itself_frees_its_id(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    pid = await a.register(Counter, "x")
    b.pid("x").tell({"op": "stop"})
    await eventually(lambda: "x" not in a._node.hosting.owned and not a._node.hosting._ending)
    with pytest.raises(cf.ActorNotFoundError):
        await b.pid("x").ask({"op": "get"})
    with pytest.raises(cf.ActorNotFoundError):
        await pid.ask({"op": "get"})
    await b.register(Counter, "x")


async def test_a_tell_to_nobody_is_a_dead_letter_at_its_sender(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    a.pid("nobody").tell({"op": "add", "n": 1})
    letters = await eventually(lambda: a.dead_letters.total)
    assert letters == 1


async def test_that_nobody_is_there_is_not_believed_for_long(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    with pytest.raises(cf.ActorNotFoundError):
        await b.pid("x").ask({"op": "get"})
    await a.register(Counter, "x")
    await asyncio.sleep(0.15)
    assert await b.pid("x").ask({"op": "get"}) == 0


async def test_children_are_reached_without_a_claim_of_their_own(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(Counter, "x")
    child = await b.pid("x").ask({"op": "spawn"})
    assert child.id == "x/child"
    assert await child.ask({"op": "node"}) == "a"
    assert await b.pid("x/child").ask({"op": "get"}) == 0
    with pytest.raises(cf.ActorNotFoundError):
        await b.pid("x/other").ask({"op": "get"})
    page = await b.manager.get_cluster_actors()
    assert [actor.actor_id for actor in page.actors] == ["x"]


async def test_plain_functions_and_generated_ids(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")

    def double(message: Any, context: Any) -> Any:
        return message * 2

    first, second = await a.register(double), await a.register(double)
    assert first.id != second.id
    assert await b.pid(first.id).ask(21) == 42


# ---- other nodes as hosts


async def test_actors_are_started_on_other_nodes_by_the_name_of_their_type(cluster: Cluster) -> None:
    cluster.types.actor("counter")(Counter)
    a, b = await cluster.start("a", "b")
    pid = await a.create_actor_on_node("counter", "x", "b", start=3)
    assert await pid.ask({"op": "get"}) == 3
    assert await pid.ask({"op": "node"}) == "b"
    await b.create_actor_on_node(Counter, "y", "b", 4)
    assert await a.pid("y").ask({"op": "get"}) == 4
    with pytest.raises(cf.ActorAlreadyExistsError) as caught:
        await a.create_actor_on_node("counter", "x", "b")
    assert (caught.value.actor_id, caught.value.node) == ("x", "b")


async def test_what_cannot_be_started_elsewhere_is_said_clearly(cluster: Cluster) -> None:
    cluster.types.actor("unwilling")(Unwilling)
    a, _ = await cluster.start("a", "b")
    with pytest.raises(cf.UnknownActorTypeError, match=r"'ghost'.*'b'.*--import"):
        await a.create_actor_on_node("ghost", "x", "b")
    with pytest.raises(cf.NodeUnavailableError, match=r"'z'.*living: a, b"):
        await a.create_actor_on_node("unwilling", "x", "z")
    with pytest.raises(cf.RemoteActorError, match="no disk") as caught:
        await a.create_actor_on_node("unwilling", "x", "b")
    assert (caught.value.type_name, caught.value.node) == ("OSError", "b")

    class Nameless(cf.Actor):
        pass

    with pytest.raises(cf.ConfigError, match=r"@cajun_fast\.actor"):
        await a.create_actor_on_node(Nameless, "x", "b")
    with pytest.raises(cf.SerializationError):
        await a.create_actor_on_node("unwilling", "x", "b", object())
    with pytest.raises(cf.ActorNotFoundError):
        await a.pid("x").ask({"op": "get"})


async def test_a_registered_type_needs_arguments_that_can_travel(cluster: Cluster) -> None:
    cluster.types.actor("counter2")(type("Counter2", (Counter,), {}))
    (a,) = await cluster.start("a")
    with pytest.raises(cf.SerializationError, match=r"counter2.*another node must be able to start it"):
        await a.register("counter2", "x", object())
    assert a.actor_ids() == []


async def test_a_client_sends_and_asks_but_hosts_nothing(cluster: Cluster) -> None:
    cluster.types.actor("counter3")(type("Counter3", (Counter,), {}))
    (client,) = await cluster.start("client", client=True)
    await asyncio.sleep(0.2)
    assert not client.is_leader
    (a,) = await cluster.start("a")
    assert await cluster.leader() is a
    with pytest.raises(cf.ConfigError, match=r"client.*create_actor_on_node"):
        await client.register(Counter, "x")
    pid = await client.create_actor_on_node("counter3", "x", "a")
    assert await pid.ask({"op": "node"}) == "a"
    with pytest.raises(cf.ConfigError, match="is a client"):
        await a.create_actor_on_node("counter3", "y", "client")


# ---- life


async def test_before_start_and_after_stop_every_use_says_so(cluster: Cluster) -> None:
    system = cluster.make("a")
    for use in (lambda: system.pid("x"), lambda: system.known_nodes, lambda: system.is_leader):
        with pytest.raises(cf.NotRunningError, match="not started"):
            use()
    with pytest.raises(cf.NotRunningError):
        await system.register(Counter, "x")
    async with system:
        with pytest.raises(cf.NotRunningError):
            await system.start()
        pid = await system.register(Counter, "x")
    with pytest.raises(cf.NotRunningError, match="stopped"):
        system.pid("x")
    with pytest.raises(cf.NotRunningError):
        pid.tell({"op": "get"})
    with pytest.raises(cf.NotRunningError, match="make a new one"):
        await system.start()
    await system.stop()


async def test_a_duplicate_node_id_and_a_port_in_use_leave_nothing_half_done(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    await cluster.leader()
    await asyncio.sleep(0.1)
    before = asyncio.all_tasks()
    with pytest.raises(cf.ConfigError, match="node id 'a'"):
        await cluster.make("a").start()
    with pytest.raises(cf.ConfigError, match=str(a.address.port)):
        await cluster.make("b", **{"messaging.port": a.address.port}).start()
    await asyncio.sleep(0.05)
    left = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not {name for name in left if not name.startswith("Task-")}
    assert len(left) <= 2, left  # the store and the lease of the one that lives go on
    assert set(a.known_nodes) == {"a"}
    await a.register(Counter, "x")


async def test_wrong_stores_and_modules_are_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(cf.ConfigError, match="gopher"):
        cf.ClusterFactory.create_cluster_system(cf.ClusterConfig.Builder("a", "gopher://x").build())
    with pytest.raises(cf.ConfigError, match="build"):
        cf.ClusterFactory.create_cluster_system(cf.ClusterConfig.Builder("a", "memory://"))  # type: ignore[arg-type]
    config = (
        cf.ClusterConfig.Builder("a", "memory://x")
        .with_messaging_port(0)
        .with_imports("no.such.thing")
        .build()
    )
    with pytest.raises(cf.ConfigError, match=r"no\.such\.thing"):
        await cf.ClusterFactory.create_cluster_system(config).start()


async def test_two_clusters_on_one_store_do_not_meet(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    await a.register(Counter, "x")
    async with cluster.make("a", cluster_name="other") as other:
        assert set(other.known_nodes) == {"a"}
        with pytest.raises(cf.ActorNotFoundError):
            await other.pid("x").ask({"op": "get"})


async def test_a_restarted_node_is_a_new_incarnation_that_everybody_reaches(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Counter, "x")
    assert await a.pid("x").ask({"op": "get"}) == 0
    first = b.incarnation
    await b.stop()
    del cluster.members["b"]
    (b2,) = await cluster.start("b")
    assert b2.incarnation == first + 1
    await b2.register(Counter, "x", 9)
    assert await a.pid("x").ask({"op": "get"}) == 9
    await a.register(Counter, "y")
    assert await b2.pid("y").ask({"op": "get"}) == 0


async def test_stops_leave_no_task_behind(cluster: Cluster) -> None:
    before = asyncio.all_tasks()
    await cluster.start("a", "b", "c")
    await cluster.members["a"].register(Counter, "x")
    await cluster.members["b"].pid("x").ask({"op": "get"})
    await cluster.stop()
    cluster.members.clear()
    gc.collect()
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() <= before


# ---- looking at it


async def test_a_node_shows_how_it_is_reached_and_whether_it_lives(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Counter, "x")
    await a.pid("x").ask(1)
    nodes = {node.node: node for node in await a.manager.get_cluster_nodes()}
    assert (nodes["a"].state, nodes["a"].transport) == ("self", None)
    assert (nodes["b"].state, nodes["b"].transport) == ("alive", "unix"), "of one host: by itself"
    assert a.liveness("nobody") is None


async def test_nodes_and_actors_are_listed_in_pages(cluster: Cluster) -> None:
    cluster.types.actor("counter4")(Counter4)
    a, b = await cluster.start("a", "b")
    await asyncio.gather(*(a.register(Counter, f"p{n:02}") for n in range(20)))
    await asyncio.gather(*(b.register(Counter4, f"q{n:02}") for n in range(20)))
    nodes = await a.manager.get_cluster_nodes()
    assert [node.node for node in nodes] == ["a", "b"]
    assert [node.is_leader for node in nodes] == [True, False]
    assert nodes[1].address == b.address

    seen, after, revision = [], None, None
    while True:
        page = await b.manager.get_cluster_actors(limit=7, after=after, revision=revision)
        seen += [actor.actor_id for actor in page.actors]
        after, revision = page.after, page.revision
        if after is None:
            break
    assert seen == [f"p{n:02}" for n in range(20)] + [f"q{n:02}" for n in range(20)]
    only = await a.manager.get_cluster_actors(node="b", limit=30)
    assert {actor.node for actor in only.actors} == {"b"}
    assert {actor.type for actor in only.actors} == {"counter4"}
    assert len(only.actors) == 20
    few = await a.manager.get_cluster_actors(prefix="q0", limit=3)
    assert [actor.actor_id for actor in few.actors] == ["q00", "q01", "q02"]
    assert await a.manager.count_actors() == {"a": 20, "b": 20}
    assert [actor.actor_id async for actor in a.manager.all_actors(prefix="q0", node="b")] == [
        f"q{n:02}" for n in range(10)
    ]


class Counter4(Counter):
    pass


async def test_an_election_can_be_forced_from_anywhere(cluster: Cluster) -> None:
    await cluster.start("a", "b", "c")
    for name in ("c", "a"):
        leader = await cluster.leader()
        result = await cluster.members[name].manager.force_leader_election()
        assert result.resigned
        assert result.previous == leader.system_id
        await eventually(lambda: not leader.is_leader)  # noqa: B023
        assert await cluster.leader() is not leader
        assert sum(system.is_leader for system in cluster.members.values()) == 1
