"""A node is lost: its actors start elsewhere, or it is said that they are no more. Nothing has two owners."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.cluster.failover import FailoverSettings
from cajun_fast.cluster.host import ask_to_adopt
from cajun_fast.cluster.records import ActorRecord, Owner
from cajun_fast.metadata import Compare
from tests.cluster.conftest import MORTAL, Cluster, eventually


class Account(cf.Actor):
    """Says where it runs; ``running`` counts copies by id over all nodes of this process."""

    running: dict[str, list[str]] = {}  # noqa: RUF012

    def __init__(self, owner: str = "") -> None:
        self.owner = owner

    def pre_start(self) -> None:
        self.running.setdefault(self.context.self.id, []).append(self.context.node_id)

    def receive(self, message: Any, context: Any) -> Any:
        return {"node": context.node_id, "owner": self.owner}


class Picky(Account):
    """Refuses to start on some nodes."""

    refuses: set[str] = set()  # noqa: RUF012

    def pre_start(self) -> None:
        if self.context.node_id in self.refuses:
            raise OSError("no disk here")


class Volatile(Account):
    pass


@pytest.fixture(autouse=True)
def _types(cluster: Cluster) -> None:
    cluster.settings |= MORTAL
    Account.running.clear()
    Picky.refuses.clear()
    cluster.types.actor("account")(Account)
    cluster.types.actor("picky")(Picky)


async def where(system: cf.ClusterActorSystem, actor_id: str, timeout: float = 10.0) -> str:
    answer = await system.pid(actor_id).ask({"op": "where"}, timeout=timeout)
    return str(answer["node"])


async def test_actors_of_a_killed_node_start_on_the_others_with_their_arguments(cluster: Cluster) -> None:
    a, b, c = await cluster.start("a", "b", "c")
    ids = [f"x{n}" for n in range(30)]
    await asyncio.gather(*(b.register(Account, each, owner=f"owner of {each}") for each in ids))
    assert {await where(a, each) for each in ids} == {"b"}
    await cluster.kill("b")
    answers = await asyncio.gather(*(a.pid(each).ask({"op": "where"}, timeout=10) for each in ids))
    assert {answer["node"] for answer in answers} == {"a", "c"}
    assert [answer["owner"] for answer in answers] == [f"owner of {each}" for each in ids]
    assert set(a.known_nodes) == {"a", "c"}
    page = await c.manager.get_cluster_actors()
    assert {(actor.node, actor.epoch) for actor in page.actors} == {("a", 2), ("c", 2)}
    for each in ids:
        assert len(Account.running[each]) == 2, "started once on b and once elsewhere"


async def test_when_the_leader_is_killed_the_next_one_does_the_same(cluster: Cluster) -> None:
    await cluster.start("a", "b", "c")
    leader = await cluster.leader()
    ids = [f"x{n}" for n in range(10)]
    await asyncio.gather(*(leader.register(Account, each) for each in ids))
    await cluster.kill(leader.system_id)
    for system in cluster.members.values():
        assert set(await asyncio.gather(*(where(system, each) for each in ids))) <= set(cluster.members)


async def test_what_nobody_else_could_start_is_said_to_be_gone(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Volatile, "x")
    assert await where(a, "x") == "b"
    await cluster.kill("b")
    with pytest.raises(cf.ActorNotFoundError):
        await where(a, "x")
    await a.register(Volatile, "x")


async def test_an_id_of_a_lost_node_can_be_registered_once_that_is_settled(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Volatile, "x")
    await cluster.kill("b")
    with pytest.raises(cf.ActorAlreadyExistsError):
        await a.register(Volatile, "x")  # as far as anybody knows, b lives
    a._node.failover.on_deposed("to hold it up for the test")
    await eventually(lambda: "b" not in a.known_nodes)
    registering = asyncio.ensure_future(a.register(Volatile, "x"))
    await asyncio.sleep(0.3)
    assert not registering.done()
    a._node.leadership.resign()
    await registering
    assert await where(a, "x") == "a"


async def test_a_type_that_no_living_node_knows_waits_for_one_that_does(cluster: Cluster) -> None:
    (a,) = await cluster.start("a", **{"placement.rehost_timeout": 1.0})
    knowing, cluster.types = cluster.types, type(cluster.types)()
    (b,) = await cluster.start("b", **{"placement.rehost_timeout": 1.0})
    a._node.host._types, a._types = cluster.types, cluster.types  # a does not know it, b does
    b._node.host._types, b._types = knowing, knowing
    await b.register(Account, "x")
    await cluster.kill("b")
    with pytest.raises(cf.NodeUnavailableError, match="'b'"):
        await where(a, "x")
    cluster.types = knowing
    (c,) = await cluster.start("c")
    assert await where(a, "x") == "c"
    assert c.actor_ids() == ["x"]


async def test_an_actor_whose_start_fails_elsewhere_is_told_to_be_gone(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Picky, "x")
    Picky.refuses.add("a")
    await cluster.kill("b")
    with pytest.raises(cf.ActorNotFoundError):
        await where(a, "x")


async def test_actors_of_a_node_that_left_in_order_are_started_elsewhere_too(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Account, "x")
    await b.register(Volatile, "y")
    assert await where(a, "x") == "b"
    await b.stop()
    del cluster.members["b"]
    assert await where(a, "x") == "a"
    with pytest.raises(cf.ActorNotFoundError):
        await where(a, "y")


async def test_a_restart_of_everything_brings_registered_actors_back(cluster: Cluster) -> None:
    if cluster.url.startswith("memory"):
        pytest.skip("nothing survives there")
    a, b = await cluster.start("a", "b")
    await a.register(Account, "x", "xo")
    await b.register(Account, "y", "yo")
    await b.register(Volatile, "z")
    await cluster.kill("a")
    await cluster.kill("b")
    (c,) = await cluster.start("c")  # neither a nor b comes back
    assert await where(c, "x") == await where(c, "y") == "c"
    with pytest.raises(cf.ActorNotFoundError):
        await where(c, "z")


async def test_a_restarted_node_takes_part_in_bringing_its_own_actors_back(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await asyncio.gather(*(b.register(Account, f"x{n}") for n in range(10)))
    port = b.address.port
    await cluster.kill("b")
    (b2,) = await cluster.start("b", **{"messaging.port": port})  # at once: no need to wait for its old lease
    places = [await where(a, f"x{n}") for n in range(10)]
    assert set(places) == {"a", "b"}
    assert sorted(b2.actor_ids()) == sorted(f"x{n}" for n in range(10) if places[n] == "b")


async def test_nobody_adopts_from_a_node_that_lives_whoever_asks(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Account, "x")
    standing = await a._node.directory.read("x", fresh=True)
    assert standing is not None
    assert await ask_to_adopt(a._node.exchange, "a", [standing], 10) == [("x", "later", "node 'b' lives")]
    assert await where(a, "x") == "b"


async def test_an_adoption_does_not_stand_if_the_owner_comes_back_between_the_look_and_the_claim(
    cluster: Cluster,
) -> None:
    a, b = await cluster.start("a", "b")
    await b.register(Account, "x")
    standing = await a._node.directory.read("x", fresh=True)
    assert standing is not None
    seen_absent = Compare(a._node.keys.node("b"), 0)
    with pytest.raises(cf.LeaseLostError):
        await a._node.hosting.adopt(standing, Account, (seen_absent,))
    assert Account.running["x"] == ["b"]
    assert await where(a, "x") == "b"


async def test_an_order_to_adopt_given_twice_starts_one_actor(cluster: Cluster) -> None:
    a, b, c = await cluster.start("a", "b", "c")
    await b.register(Account, "x")
    standing = await a._node.directory.read("x", fresh=True)
    assert standing is not None
    await cluster.kill("b")
    await eventually(lambda: "b" not in a.known_nodes and "b" not in c.known_nodes)
    orders = [
        ask_to_adopt(node._node.exchange, target, [standing], 10)
        for node in (a, c)
        for target in ("a", "c")
        for _ in range(3)
    ]
    outcomes = [outcome for answers in await asyncio.gather(*orders) for _, outcome, _ in answers]
    assert set(outcomes) <= {"adopted", "taken"}
    place = await where(a, "x")
    assert await where(c, "x") == place
    assert Account.running["x"] == ["b", place]


async def test_senders_wait_for_the_rehosting_and_keep_their_order(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b")

    class Log(cf.Actor):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def receive(self, message: Any, context: Any) -> Any:
            if message == "seen":
                return self.seen
            self.seen.append(message)

    cluster.types.actor("log")(Log)
    await b.register(Log, "x")
    assert await a.pid("x").ask("seen") == []
    await cluster.kill("b")
    await eventually(lambda: "b" not in a.known_nodes)
    for n in range(200):
        a.pid("x").tell(n)
    assert await a.pid("x").ask("seen", timeout=10) == list(range(200))


async def test_many_actors_are_settled_in_batches(cluster: Cluster) -> None:
    a, b = await cluster.start("a", "b", **{"placement.adoption_batch_size": 50, "membership.lease_ttl": 2.0})
    ids = [f"x{n}" for n in range(1000)]
    await asyncio.gather(*(b.register(Account, each) for each in ids))
    await cluster.kill("b")
    loop = asyncio.get_running_loop()
    await eventually(lambda: "b" not in a.known_nodes)
    gone = loop.time()
    await eventually(lambda: len(a.actor_ids()) == 1000, 20)
    assert loop.time() - gone < 5
    await eventually(lambda: a._node.failover.outcomes["adopted"] == 1000)
    assert set(a._node.failover.outcomes) == {"adopted"}


async def test_a_record_that_a_dead_life_wrote_late_is_settled_at_once(cluster: Cluster) -> None:
    (a,) = await cluster.start("a")
    await cluster.leader()
    failover, looks = a._node.failover, []
    failover._settings = FailoverSettings(grace=0.0)  # unknown nodes had their time
    sweep = failover._sweep

    async def noted(term: Any, grace_over: bool) -> bool:
        looks.append(await sweep(term, grace_over))
        return looks[-1]

    failover._sweep = noted  # type: ignore[method-assign]
    await a.manager.force_leader_election()
    await eventually(lambda: looks)
    late = ActorRecord(
        owner=Owner("ghost", 1), claim=1, type="account", arguments=a.exchange.encode([[], {}])
    )
    await a._node.store.put(a._node.keys.actor("x"), late.encode())
    assert await where(a, "x", timeout=20) == "a"


async def test_an_adopter_that_has_no_seat_leaves_the_actor_to_another(cluster: Cluster) -> None:
    cluster.types.actor("worker")(type("Small", (cf.Actor,), {"receive": lambda self, m, c: c.node_id}))
    a, _, c = await cluster.start("a", "b", "c")
    for n in range(20):
        await a.create_actor_on_node("worker", f"seat-{n}", "b")
    refused: list[int] = []

    async def no_seat() -> bool:
        refused.append(1)
        return len(refused) > 15

    for system in (a, c):
        system._node.hosting._may_own = no_seat
    await cluster.kill("b")

    async def answered() -> bool:
        try:
            return {await a.pid(f"seat-{n}").ask(1, timeout=2) for n in range(20)} <= {"a", "c"}
        except (cf.CajunError, TimeoutError):
            return False

    assert await eventually(answered, 30)
    assert len(refused) > 20
