"""Durable actors in a cluster: what counts once, through failures, moves and owners that come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.actors.supervision import Directive
from cajun_fast.errors import PersistenceError, PersistenceUnavailableError, StaleOwnerError
from cajun_fast.persistence import Commit, Epoch, Persistence
from cajun_fast.persistence.memory import MemoryPersistence, Row
from cajun_fast.persistence.sqlite import SqlitePersistence
from tests.cluster.conftest import MORTAL, Cluster, eventually


class Watched(MemoryPersistence):
    """One that a test can stop, look into, and have commit without anybody hearing of it."""

    def __init__(self, rows: dict[str, Row]) -> None:
        super().__init__(rows=rows)
        self.commits: list[Commit] = []
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.deaf = False

    async def commit(self, commits: Sequence[Commit]) -> list[PersistenceError | None]:
        await self.gate.wait()
        if self.fails:
            raise PersistenceUnavailableError("the test says so")
        outcomes = await super().commit(commits)
        self.commits += commits
        if self.deaf:
            await asyncio.Event().wait()
        return outcomes


class Account(cf.Actor):
    durable = True

    def __init__(self) -> None:
        self.balance = 0
        self.seen: list[int] = []
        self.volatile = 0

    def get_state(self) -> Any:
        return {"balance": self.balance, "seen": self.seen}

    def set_state(self, state: Any) -> None:
        self.balance, self.seen = state["balance"], list(state["seen"])

    def receive(self, message: Any, context: cf.Context) -> Any:
        self.volatile += 1
        match message:
            case int(amount):
                self.balance += amount
                self.seen.append(amount)
                return self.balance
            case "get":
                return self.balance
            case "seen":
                return self.seen
            case "half":
                self.balance += 1000
                raise ValueError("half done")
            case "odd":
                self.balance = object()  # type: ignore[assignment]
            case ["pay", str(to), int(amount)]:
                self.balance -= amount
                context.system.pid(to).tell(amount)
                context.system.pid(to).tell(0)
            case ["pay and fail", str(to)]:
                context.system.pid(to).tell(1)
                raise ValueError("after telling")
            case "volatile":
                return self.volatile
        return None


class Slow(Account):
    async def receive(self, message: Any, context: cf.Context) -> Any:
        await asyncio.sleep(0)
        return super().receive(message, context)


class World:
    """Members that share one persistence."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rows: dict[str, Row] = {}
        self.stores: dict[str, Watched] = {}
        cluster.settings |= MORTAL
        cluster.settings["actors.stop_timeout"] = 0.3  # a store that says nothing holds up a stop for so long
        for name, kind in (("account", Account), ("slow", Slow)):
            cluster.types.actor(name)(kind)

    async def start(self, *names: str) -> list[cf.ClusterActorSystem]:
        made = []
        for name in names:
            self.stores[name] = Watched(self.rows)
            system = cf.ClusterFactory.create_cluster_system(
                self.cluster.config(name), types=self.cluster.types, persistence=self.stores[name]
            )
            await system.start()
            self.cluster.members[name] = system
            made.append(system)
        await self.cluster.settle()
        return made


@pytest.fixture
def store_url(tmp_path: Any) -> str:
    return f"memory://{tmp_path.name}"


@pytest.fixture
def world(cluster: Cluster) -> World:
    return World(cluster)


async def heard(system: cf.ClusterActorSystem, actor_id: str, message: Any, within: float = 15.0) -> Any:
    """The answer, once there is one."""
    async with asyncio.timeout(within):
        while True:
            try:
                return await system.pid(actor_id).ask(message, timeout=2.0)
            except (cf.NodeUnavailableError, cf.ActorNotFoundError, TimeoutError):
                await asyncio.sleep(0.05)


# ---- what counts


@pytest.mark.parametrize("kind", ["account", "slow"])
async def test_asks_and_tells_from_near_and_far_are_counted_once_each(world: World, kind: str) -> None:
    a, b = await world.start("a", "b")
    near = await a.register(kind, "x")
    far = b.pid("x")
    assert await far.ask(1) == 1
    for _ in range(500):
        far.tell(1)
        near.tell(1)
    await far.send(1)
    assert await far.ask("get") >= 502
    await eventually(lambda: not a.exchange.ways.active and not b.exchange.ways.active)
    assert await near.ask("get") == 1002
    if kind == "account":
        assert world.rows["x"].version < 500  # many messages a commit


async def test_an_answer_comes_after_the_commit_and_not_before(world: World) -> None:
    a, b = await world.start("a", "b")
    await a.register("account", "x")
    await b.pid("x").ask(1)
    world.stores["a"].gate.clear()
    answer = asyncio.ensure_future(b.pid("x").ask(2))
    sent = asyncio.ensure_future(b.pid("x").send(3))
    await eventually(lambda: a._node.actors.cell("x").instance.balance == 6)
    assert not answer.done()
    assert not sent.done()
    world.stores["a"].gate.set()
    assert await answer == 3
    await sent


async def test_what_changes_nothing_needs_no_commit(world: World) -> None:
    (a,) = await world.start("a")
    pid = await a.register("account", "x")
    await pid.ask(1)
    before = len(world.stores["a"].commits)
    for _ in range(10):
        assert await pid.ask("get") == 1
    assert len(world.stores["a"].commits) == before


async def test_but_it_waits_for_what_was_changed_before_it(world: World) -> None:
    (a,) = await world.start("a")
    pid = await a.register("account", "x")
    world.stores["a"].gate.clear()
    pid.tell(7)
    asked = asyncio.ensure_future(pid.ask("get"))
    await eventually(lambda: a._node.actors.cell("x").handled == 2)
    assert not asked.done()
    world.stores["a"].gate.set()
    assert await asked == 7


async def test_other_actors_know_nothing_of_it(world: World) -> None:
    a, b = await world.start("a", "b")

    async def echo(message: Any, context: cf.Context) -> Any:
        return message

    await a.register(echo, "e")
    assert await b.pid("e").ask(1) == 1
    assert b.exchange.lane("e").way is None
    assert a.exchange.gates is None


# ---- failures of handlers


@pytest.mark.parametrize("kind", ["account", "slow"])
async def test_a_handler_that_raises_leaves_nothing_behind(world: World, kind: str) -> None:
    a, b = await world.start("a", "b")
    await a.register(kind, "x")
    pid = b.pid("x")
    await pid.ask(5)
    for _ in range(3):
        with pytest.raises(cf.RemoteActorError, match="half done"):
            await pid.ask("half")
    assert await pid.ask("get") == 5
    assert await pid.ask(1) == 6
    assert await pid.ask("volatile") >= 6  # the instance went on: only its state went back


async def test_a_restart_begins_with_the_state_before_the_failure(world: World) -> None:
    (a,) = await world.start("a")
    pid = await a.register("account", "x", supervision=Directive.RESTART)
    await pid.ask(5)
    with pytest.raises(cf.RemoteActorError):
        await pid.ask("half")
    assert await pid.ask("get") == 5
    assert await pid.ask("volatile") == 2  # a fresh instance


async def test_what_a_failing_handler_told_is_not_sent(world: World) -> None:
    a, b = await world.start("a", "b")
    await a.register("account", "x")
    await b.register("account", "y")
    with pytest.raises(cf.RemoteActorError, match="after telling"):
        await b.pid("x").ask(["pay and fail", "y"])
    await a.pid("x").ask(["pay", "y", 3])
    await eventually(lambda: b._node.actors.cell("y").instance.seen == [3, 0])


async def test_a_state_that_cannot_be_kept_fails_its_message_and_says_so(world: World) -> None:
    (a,) = await world.start("a")
    pid = await a.register("account", "x")
    await pid.ask(5)
    with pytest.raises(cf.SerializationError, match="get_state must give plain data"):
        await pid.ask("odd")
    assert await pid.ask("get") == 5
    assert a.dead_letters.counts["state-not-encodable"] == 1


# ---- another owner


async def test_the_state_comes_back_on_another_node_after_a_crash(world: World) -> None:
    _, b, c = await world.start("a", "b", "c")
    for n in range(12):
        await c.create_actor_on_node("account", f"x{n}", "a")
        await c.pid(f"x{n}").ask(n)
    await world.cluster.kill("a")
    for n in range(12):
        assert await heard(c, f"x{n}", "get") == n
        assert await heard(b, f"x{n}", 1) == n + 1


async def test_messages_on_their_way_at_a_crash_are_handled_once_and_answered(world: World) -> None:
    _, _, c = await world.start("a", "b", "c")
    await c.create_actor_on_node("account", "x", "a")
    pid = c.pid("x")
    await pid.ask(0)
    asks = []
    for n in range(1, 301):
        asks.append(asyncio.ensure_future(pid.ask(1, timeout=30)))
        if n == 150:
            await asyncio.sleep(0)
            await world.cluster.kill("a")
        await asyncio.sleep(0)
    assert sorted(await asyncio.gather(*asks)) == list(range(1, 301))


async def test_a_commit_whose_answer_was_lost_is_answered_by_the_next_owner(world: World) -> None:
    _, _, c = await world.start("a", "b", "c")
    await c.create_actor_on_node("account", "x", "a")
    pid = c.pid("x")
    assert await pid.ask(1) == 1
    world.stores["a"].deaf = True
    answers = [asyncio.ensure_future(pid.ask(n, timeout=30)) for n in (10, 100)]
    failed = asyncio.ensure_future(pid.ask("half", timeout=30))
    sent = asyncio.ensure_future(pid.send(1000))
    await eventually(lambda: world.rows["x"].version == 2)
    await world.cluster.kill("a")
    assert await asyncio.gather(*answers) == [11, 111]
    with pytest.raises(cf.RemoteActorError, match="half done"):
        await failed
    await sent
    assert await heard(c, "x", "seen") == [1, 10, 100, 1000]


async def test_an_owner_that_was_superseded_commits_nothing_and_its_messages_count_with_the_next(
    world: World,
) -> None:
    a, b, c = await world.start("a", "b", "c")
    await c.create_actor_on_node("account", "x", "a")
    pid = c.pid("x")
    assert await pid.ask(1) == 1
    world.stores["a"].gate.clear()
    near = asyncio.ensure_future(a.pid("x").ask(10, timeout=30))
    far = asyncio.ensure_future(pid.ask(100, timeout=30))
    await eventually(lambda: a._node.actors.cell("x").instance.balance == 111)
    row = world.rows["x"]
    await take_over(world, a, b, "x")
    world.stores["a"].gate.set()
    assert {await near, await far} in ({11, 111}, {101, 111})
    assert await heard(c, "x", "seen") in ([1, 10, 100], [1, 100, 10])
    assert a._node.actors.cell("x") is None
    assert row.epoch.number > 0


async def take_over(world: World, a: cf.ClusterActorSystem, b: cf.ClusterActorSystem, actor_id: str) -> None:
    """As a leader would have it after ``a`` was thought dead: b owns the actor, and a has not heard of it yet."""
    standing = await b._node.directory.read(actor_id, fresh=True)
    assert standing is not None
    moved, a._node.locator.on_moved = a._node.locator.on_moved, lambda *_: None
    await b._node.hosting.adopt(standing, world.cluster.types.lookup("account").target, ())
    a._node.locator.on_moved = moved


async def test_a_stop_keeps_the_state_and_deleting_it_is_another_thing(world: World) -> None:
    a, b = await world.start("a", "b")
    pid = await a.register("account", "x")
    for _ in range(100):
        pid.tell(1)
    assert await pid.ask("get") == 100
    for _ in range(100):
        pid.tell(1)
    await asyncio.sleep(0)
    await a.stop_actor("x")
    with pytest.raises(cf.ActorNotFoundError):
        await b.pid("x").ask("get")
    await b.register("account", "x")
    kept = await a.pid("x").ask("get")
    assert 100 <= kept <= 200
    with pytest.raises(cf.ActorAlreadyExistsError):
        await a.delete_actor_state("x")
    await a.stop_actor("x")
    assert await a.delete_actor_state("x") is True
    assert await a.delete_actor_state("x") is False
    await a.register("account", "x")
    assert await b.pid("x").ask("get") == 0
    assert await b.pid("x").ask(1) == 1


async def test_messages_that_a_stop_leaves_in_the_mailbox_are_told_as_not_handled(world: World) -> None:
    a, b = await world.start("a", "b")
    await a.register("slow", "x")
    await b.pid("x").ask(1)
    asks = [asyncio.ensure_future(system.pid("x").ask(1)) for _ in range(100) for system in (a, b)]
    await asyncio.sleep(0.01)
    await a.stop_actor("x")
    results = await asyncio.gather(*asks, return_exceptions=True)
    answers = [each for each in results if isinstance(each, int)]
    errors = {type(each) for each in results if not isinstance(each, int)}
    assert errors <= {cf.ActorNotFoundError}
    await a.register("account", "x")
    assert await b.pid("x").ask("get") == 1 + len(answers)


# ---- the outbox


async def test_what_was_told_is_sent_by_the_next_owner_and_counted_once(world: World) -> None:
    _, b, c = await world.start("a", "b", "c")
    await b.register("account", "y")
    await c.create_actor_on_node("account", "x", "a")
    assert await c.pid("x").ask(1000) == 1000
    world.stores["a"].deaf = True
    c.pid("x").tell(["pay", "y", 30])
    c.pid("x").tell(["pay", "y", 7])
    await eventually(lambda: len(world.rows["x"].outbox) == 4)
    assert await b.pid("y").ask("get") == 0
    await world.cluster.kill("a")
    assert await heard(c, "x", "get") == 963
    await eventually(lambda: b._node.actors.cell("y").instance.seen == [30, 0, 7, 0])
    assert await heard(c, "y", "get") == 37


async def test_an_outbox_outlives_the_death_of_its_target_and_of_its_owner(world: World) -> None:
    _, _, c, _ = await world.start("a", "b", "c", "d")
    await c.create_actor_on_node("account", "x", "a")
    await c.create_actor_on_node("account", "y", "b")
    await c.pid("x").ask(1)
    world.stores["b"].gate.clear()
    for n in range(1, 51):
        c.pid("x").tell(["pay", "y", n])
    await eventually(lambda: len(world.rows["x"].outbox) == 100)
    await world.cluster.kill("a")
    await world.cluster.kill("b")
    expected = [each for n in range(1, 51) for each in (n, 0)]

    async def all_there() -> bool:
        return bool(await heard(c, "y", "seen") == expected)

    await eventually(all_there, 20)
    assert await heard(c, "x", "get") == 1 - sum(range(51))
    assert await heard(c, "x", 0) == 1 - sum(range(51))


async def test_a_volatile_target_gets_it_in_order(world: World) -> None:
    a, b = await world.start("a", "b")
    got: list[Any] = []

    async def sink(message: Any, context: cf.Context) -> None:
        got.append((message, context.sender.id))

    await b.register(sink, "far")
    await a.register(sink, "near")
    pid = await a.register("account", "x")
    for n in range(1, 6):
        pid.tell(["pay", "far", n])
        await pid.ask(["pay", "near", n])
    await eventually(lambda: len(got) == 20)
    assert all(sender == "x" for _, sender in got)
    await pid.ask(1)
    await eventually(lambda: not world.rows["x"].outbox or a._node.actors.cell("x").gate.is_clean)


# ---- the store


async def test_without_persistence_a_durable_actor_is_refused_with_the_remedy(cluster: Cluster) -> None:
    cluster.types.actor("account")(Account)
    (a,) = await cluster.start("a")
    with pytest.raises(cf.ConfigError, match="--persistence"):
        await a.register("account", "x")
    with pytest.raises(cf.ActorNotFoundError):
        await a.pid("x").ask("get")


async def test_an_outage_of_the_store_delays_and_loses_nothing(world: World) -> None:
    a, b = await world.start("a", "b")
    await a.register("account", "x")
    pid = b.pid("x")
    await pid.ask(1)
    world.stores["a"].fails = True
    asks = [asyncio.ensure_future(pid.ask(1, timeout=20)) for _ in range(50)]
    await asyncio.sleep(0.3)
    assert not any(each.done() for each in asks)
    world.stores["a"].fails = False
    assert sorted(await asyncio.gather(*asks)) == list(range(2, 52))


async def test_more_than_may_wait_for_a_commit_is_not_taken(world: World) -> None:
    a, b = await world.start("a", "b")
    await a.register("account", "x", mailbox_capacity=100_000)
    pid = b.pid("x")
    await pid.ask(0)
    world.stores["a"].gate.clear()
    told = 0
    with contextlib.suppress(cf.BackpressureError):
        while told < 100_000:
            pid.tell(1)
            told += 1
    assert told < 50_000
    world.stores["a"].gate.set()
    await asyncio.wait_for(pid.ready(), 20)
    assert await pid.ask("get", timeout=20) == told


async def test_a_node_with_another_metadata_store_begins_with_the_state_all_the_same(
    tmp_path: Any,
) -> None:
    def config(store: str) -> cf.ClusterConfig:
        builder = cf.ClusterConfig.Builder("a", store).with_messaging_port(0)
        return builder.with_persistence(f"sqlite:///{tmp_path}/state.db?synchronous=normal").build()

    for turn in range(3):
        async with cf.ClusterFactory.create_cluster_system(config(f"memory://{tmp_path.name}{turn}")) as a:
            for _ in range(3 - turn):  # later lives have lower revisions
                await a.register(Account)
            pid = await a.register(Account, "x")
            assert await pid.ask(1) == turn + 1


# ---- forms of the state


async def test_a_state_of_an_earlier_version_is_migrated(world: World) -> None:
    (a,) = await world.start("a")
    pid = await a.register("account", "x")
    await pid.ask(5)
    await a.stop_actor("x")

    class Newer(Account):
        state_version = 2

        def migrate_state(self, state: Any, version: int) -> Any:
            assert version == 1
            return {**state, "balance": state["balance"] * 100}

    pid = await a.register(Newer, "x")
    assert await pid.ask(1) == 501
    assert world.rows["x"].schema == 2
    await a.stop_actor("x")
    with pytest.raises(cf.ConfigError, match="newer code"):
        await a.register("account", "x")


class Journaled(cf.Actor):
    durable = True
    journaled = True
    snapshot_every = 5

    def __init__(self) -> None:
        self.entries: list[int] = []

    def get_state(self) -> Any:
        return self.entries

    def set_state(self, state: Any) -> None:
        self.entries = list(state)

    def apply(self, event: Any) -> None:
        self.entries.append(event)

    def receive(self, message: Any, context: cf.Context) -> Any:
        if message == "get":
            return list(self.entries)
        for event in message:
            if event == "fail":
                raise ValueError("no")
            self.persist(event)
        return len(self.entries)


async def test_a_journaled_actor_keeps_events_and_now_and_then_its_state(world: World) -> None:
    world.cluster.types.actor("journaled")(Journaled)
    _, _, c = await world.start("a", "b", "c")
    await c.create_actor_on_node("journaled", "j", "a")
    pid = c.pid("j")
    for n in range(1, 8):
        assert await pid.ask([n]) == n
    row = world.rows["j"]
    assert row.state is not None
    assert 0 < len(row.events) < 7
    with pytest.raises(cf.RemoteActorError):
        await pid.ask([100, 101, "fail"])
    assert await pid.ask([8, 9]) == 9
    await world.cluster.kill("a")
    assert await heard(c, "j", "get") == list(range(1, 10))
    assert await heard(c, "j", [10]) == 10
    assert await heard(c, "j", "get") == list(range(1, 11))


# ---- hooks for those who move actors


async def test_letting_go_leaves_everything_in_the_store_for_the_next_owner(world: World) -> None:
    a, b, c = await world.start("a", "b", "c")
    await c.create_actor_on_node("account", "x", "a")
    asks = [asyncio.ensure_future(c.pid("x").ask(1, timeout=30)) for _ in range(200)]
    await asyncio.sleep(0.02)
    cell = a._node.actors.cell("x")
    cell.freeze()
    await a._node.durable.let_go("x")
    await take_over(world, a, b, "x")
    a._node.hosting.lose("x", "moved")
    assert sorted(await asyncio.gather(*asks)) == list(range(1, 201))
    assert await heard(c, "x", "get") == 200


async def test_stale_owners_are_named(world: World) -> None:
    store: Persistence = Watched(world.rows)
    async with store:
        await store.restore("x", Epoch("r", 2), "b")
        with pytest.raises(StaleOwnerError) as caught:
            await store.restore("x", Epoch("r", 1), "b")
    assert caught.value.actor_id == "x"


async def test_sqlite_says_what_is_wrong(tmp_path: Any) -> None:
    other = tmp_path / "other.db"
    other.write_text("this is no database, and long enough to be looked at as one" * 100)
    with pytest.raises(cf.ConfigError, match="name another file"):
        await SqlitePersistence(other).connect()
    with pytest.raises(cf.ConfigError, match="does not exist"):
        await SqlitePersistence(tmp_path / "none" / "x.db").connect()
    with pytest.raises(cf.ConfigError, match="synchronous"):
        SqlitePersistence(tmp_path / "x.db", synchronous="sometimes")


async def test_a_migration_takes_no_state_along_and_loses_nothing(world: World) -> None:
    a, b, c = await world.start("a", "b", "c")
    await c.create_actor_on_node("account", "x", "a")
    await b.register("account", "y")
    stop = asyncio.Event()

    async def ask_on(system: cf.ClusterActorSystem) -> int:
        count = 0
        while not stop.is_set():
            await system.pid("x").ask(1, timeout=30)
            system.pid("x").tell(1)
            system.pid("x").tell(["pay", "y", 0])
            count += 1
        return count

    asking = [asyncio.ensure_future(ask_on(system)) for system in (a, b, c)]
    for target in ("b", "a", "c", "a"):
        await asyncio.sleep(0.1)
        result = await c.manager.migrate_actor("x", target)
        assert result.outcome.value == "moved", result
    stop.set()
    total = sum(await asyncio.gather(*asking))
    await eventually(lambda: not any(each.exchange.ways.active for each in (a, b, c)))
    assert await heard(c, "x", "get") == 2 * total
    assert len(await heard(c, "y", "seen")) == 2 * total
