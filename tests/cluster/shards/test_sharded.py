"""Sharded actors from where a user stands: they start with their first message, end when idle, and errors are told."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

import cajun_fast as cf
from tests.cluster.conftest import MORTAL, Cluster, eventually

QUICK = {"sharding.shard_count": 16, "sharding.rebalance_delay": 0.1, "sharding.rebalance_pause": 0.02}


class Account(cf.Actor):
    """Remembers all it was sent."""

    started: ClassVar[list[str]] = []
    ended: ClassVar[list[str]] = []
    handled: ClassVar[list[tuple[str, Any]]] = []

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def pre_start(self) -> None:
        self.started.append(self.context.self.id)

    def post_stop(self) -> None:
        self.ended.append(self.context.self.id)

    def receive(self, message: Any, context: Any) -> Any:
        match message:
            case "node":
                return context.node_id
            case "seen":
                return self.seen
            case "rest":
                context.passivate()
                return "resting"
            case {"child": name}:
                context.spawn(Account, name)
                return True
            case {"forward": other}:
                context.system.pid(other).tell(context.self)
            case "who":
                return context.self
        self.seen.append(message)
        self.handled.append((context.self.id, message))
        return len(self.seen)


@pytest.fixture
def accounts(cluster: Cluster) -> Cluster:
    cluster.settings |= QUICK
    Account.started, Account.ended, Account.handled = [], [], []
    cluster.types.actor("account", sharded=True)(type("Account", (Account,), {}))
    return cluster


async def spread(cluster: Cluster, *names: str) -> None:
    """Until the shards lie on these nodes, and everybody knows."""
    await eventually(
        lambda: all(
            set(system.sharded("account").spread()) == set(names)
            and max(system.sharded("account").spread().values()) <= 16 // len(names) + 1
            for system in cluster.members.values()
        ),
        20,
    )


async def test_an_actor_starts_with_its_first_message_wherever_its_shard_is(accounts: Cluster) -> None:
    a, b, c = await accounts.start("a", "b", "c")
    await spread(accounts, "a", "b", "c")
    for n in range(30):
        entity = str(n)
        nodes = [await system.sharded("account").pid(entity).ask("node") for system in (a, b, c)]
        assert len(set(nodes)) == 1
        assert nodes[0] == a.sharded("account").node(entity)
    assert sorted(Account.started) == sorted(f"account#{n}" for n in range(30))
    reads = [system._node.directory.reads for system in (a, b, c)]
    assert reads == [0, 0, 0], "nothing was looked up"
    assert (await a.manager.get_cluster_actors()).actors == (), "and nothing registered"


async def test_a_client_sends_without_knowing_the_type(accounts: Cluster) -> None:
    await accounts.start("a", "b")
    types, accounts.types = accounts.types, type(accounts.types)()
    [client] = await accounts.start("client", client=True, **{"sharding.shard_count": None})
    accounts.types = types
    assert await client.sharded("account").pid("7").ask({"op": 1}) == 1
    assert client.sharded("account").shard("7") == accounts.members["a"].sharded("account").shard("7")


async def test_messages_that_start_an_actor_keep_their_order_and_a_pid_travels(accounts: Cluster) -> None:
    a, b = await accounts.start("a", "b")
    await spread(accounts, "a", "b")
    for n in range(10):
        pid = b.sharded("account").pid(f"o{n}")
        for m in range(100):
            pid.tell(m)
        assert await pid.ask("seen") == list(range(100))
        who = await a.sharded("account").pid(f"o{n}").ask("who")
        assert who == pid
        assert (await who.ask("seen")) == list(range(100))


async def test_an_actor_that_nobody_writes_to_ends_and_starts_again(accounts: Cluster) -> None:
    accounts.settings["sharding.passivate_after"] = 0.2
    a, b = await accounts.start("a", "b")
    pids = [b.sharded("account").pid(str(n)) for n in range(20)]
    await asyncio.gather(*(pid.ask(1) for pid in pids))
    await eventually(lambda: len(Account.ended) == 20)
    assert a._node.sharding.region.count + b._node.sharding.region.count == 0
    assert await asyncio.gather(*(pid.ask("seen") for pid in pids)) == [[]] * 20


async def test_an_actor_may_end_itself_and_what_came_meanwhile_is_not_lost(accounts: Cluster) -> None:
    a, b = await accounts.start("a", "b")
    await spread(accounts, "a", "b")
    for n in range(20):
        pid = (a, b)[n % 2].sharded("account").pid(f"r{n}")
        for m in range(10):
            pid.tell(m)
        rest = pid.ask("rest")
        for m in range(10, 20):
            pid.tell(m)
        assert await rest == "resting"
        await pid.ask("seen")
        handled = [m for actor_id, m in Account.handled if actor_id == pid.id]
        assert handled == list(range(20)), "each once and in order, by this life or the one before"
    assert not a.dead_letters.total
    assert not b.dead_letters.total


async def test_passivating_is_for_sharded_actors(accounts: Cluster) -> None:
    [a] = await accounts.start("a")
    pid = await a.register(Account, "plain")
    with pytest.raises(cf.ConfigError, match=r"not sharded.*context\.stop"):
        await pid.ask("rest")


async def test_a_child_lives_where_its_parent_lives(accounts: Cluster) -> None:
    accounts.settings["placement.start_timeout"] = 0.3
    a, b = await accounts.start("a", "b")
    await spread(accounts, "a", "b")
    for n in range(4):
        await a.sharded("account").pid(f"c{n}").ask({"child": "kid"})
        nodes = [await b.pid(f"account#c{n}{end}").ask("node") for end in ("", "/kid")]
        assert nodes[0] == nodes[1]
    with pytest.raises(cf.ActorNotFoundError, match="no child"):
        await b.pid("account#c1/nobody").ask("node", timeout=9)


class Broken(cf.Actor):
    fails = True

    def receive(self, message: Any, context: Any) -> Any:
        return message


class BrokenInit(Broken):
    def __init__(self) -> None:
        if Broken.fails:
            raise ValueError("no disk in __init__")


class BrokenStart(Broken):
    async def pre_start(self) -> None:
        await asyncio.sleep(0.05)
        if Broken.fails:
            raise ValueError("no disk in pre_start")


@pytest.mark.parametrize("kind", [BrokenInit, BrokenStart])
async def test_a_start_that_fails_is_told_to_everybody_who_waited_for_it(
    cluster: Cluster, kind: type
) -> None:
    cluster.settings |= QUICK
    Broken.fails = True
    cluster.types.actor("broken", sharded=True)(kind)
    a, b = await cluster.start("a", "b")
    for system in (a, b):
        pid = system.sharded("broken").pid("x")
        pid.tell("lost")
        for result in await asyncio.gather(*(pid.ask(n) for n in range(3)), return_exceptions=True):
            assert isinstance(result, cf.RemoteActorError)
            assert "no disk" in str(result)
    letters = [*a.dead_letters, *b.dead_letters]
    assert [(letter.target, letter.reason) for letter in letters] == [("broken#x", "start-failed")] * 2
    Broken.fails = False
    assert await b.sharded("broken").pid("x").ask("again") == "again"


async def test_what_is_wrong_is_said_where_the_user_stands(accounts: Cluster) -> None:
    accounts.settings["placement.start_timeout"] = 0.3
    accounts.types.actor("plain")(type("Plain", (Account,), {}))
    a, b = await accounts.start("a", "b")
    with pytest.raises(cf.ConfigError, match=r"system\.sharded"):
        await a.register(Account, "account#1")
    with pytest.raises(cf.ConfigError, match=r"system\.sharded"):
        await a.create_actor_on_node("plain", "account#1", "b")
    with pytest.raises(cf.ConfigError, match="not sharded"):
        a.sharded("plain")
    with pytest.raises(cf.ConfigError, match="passivate"):
        await a.stop_actor("account#1")
    with pytest.raises(cf.NodeUnavailableError, match="no living node hosts sharded type 'nothing'"):
        await b.sharded("nothing").pid("1").ask(1)


async def test_a_node_with_another_number_of_shards_is_refused(accounts: Cluster) -> None:
    await accounts.start("a")
    other = accounts.make("b", **{"sharding.shard_count": 32})
    with pytest.raises(cf.ConfigError, match=r"shard_count=32.*16 shards.*shard_count=16"):
        await other.start()
    [silent] = await accounts.start("c", **{"sharding.shard_count": None})
    assert await silent.sharded("account").pid("1").ask("seen") == []


async def test_shardedclusteractorsystem_is_found_by_its_name(accounts: Cluster) -> None:
    system = cf.ShardedClusterActorSystem(accounts.config("a"), 8, types=accounts.types)
    async with system:
        assert await system.sharded("account").pid("1").ask("node") == "a"
        await eventually(lambda: len(system.sharded("account").shards()) == 8)
    with pytest.raises(cf.ConfigError, match="shard_count"):
        cf.ShardedClusterActorSystem(accounts.config("a"), 0)


async def test_a_type_that_is_registered_late_is_hosted_too(cluster: Cluster) -> None:
    cluster.settings |= QUICK
    _, b = await cluster.start("a", "b")
    pid = b.sharded("late").pid("1")
    waiting = asyncio.ensure_future(pid.ask("node", timeout=10))
    cluster.types.actor("late", sharded=True)(type("Late", (Account,), {}))
    assert await waiting in ("a", "b")


async def test_types_are_started_where_their_roles_are(cluster: Cluster) -> None:
    cluster.settings |= QUICK | MORTAL
    cluster.types.actor("model", sharded=True, roles=("gpu",))(type("Model", (Account,), {}))
    cluster.types.actor("job", roles=("gpu", "zone-a"))(type("Job", (Account,), {}))
    [a] = await cluster.start("a")
    with pytest.raises(cf.NodeUnavailableError, match=r"job.*roles"):
        await a.create_actor("job", "j0")
    [b] = await cluster.start("b", roles=("gpu",))
    await cluster.start("c", roles=("gpu", "zone-a"))
    assert {await a.sharded("model").pid(str(n)).ask("node") for n in range(10)} <= {"b", "c"}
    for n in range(5):
        assert await (await a.create_actor("job", f"j{n}")).ask("node") == "c"
    with pytest.raises(cf.UnknownActorTypeError, match="roles"):
        await a.create_actor_on_node("job", "x", "b")
    with pytest.raises(cf.ConfigError, match="roles"):
        await b.register("job", "x")
    [d] = await cluster.start("d", roles=("gpu", "zone-a"))
    await cluster.kill("c")
    for n in range(5):
        assert await eventually(lambda: node_of(d, f"j{n}"), 20) == "d"  # noqa: B023


async def node_of(system: cf.ClusterActorSystem, actor_id: str) -> Any:
    try:
        return await system.pid(actor_id).ask("node", timeout=2)
    except (cf.CajunError, TimeoutError):
        return None


async def test_new_actors_go_to_the_less_loaded_of_two(accounts: Cluster) -> None:
    accounts.types.actor("plain")(type("Plain", (Account,), {}))
    a, b, c = await accounts.start("a", "b", "c")
    pids = await asyncio.gather(*(a.create_actor("plain", f"p{n}") for n in range(60)))
    nodes = [await pid.ask("node") for pid in pids]
    assert all(nodes.count(name) >= 8 for name in "abc")
    with pytest.raises(cf.ActorAlreadyExistsError):
        await b.create_actor("plain", "p0")
    assert c
