"""Durable actors of sharded types: they start by their first message, end when idle, move with their shard, and each
message counts once through all of it.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.errors import StaleOwnerError
from cajun_fast.persistence import Commit
from tests.cluster.conftest import MORTAL, Cluster, eventually
from tests.cluster.test_durable import Watched, World, heard
from tests.cluster.test_processes import Nodes, nodes

__all__ = ["nodes"]  # a fixture


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}"


class Purse(cf.Actor):
    """Keeps what it was sent, in order; ``pay`` tells another one."""

    durable = True

    def __init__(self) -> None:
        self.seen: list[int] = []

    def get_state(self) -> Any:
        return self.seen

    def set_state(self, state: Any) -> None:
        self.seen = list(state)

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case int(number):
                self.seen.append(number)
                return len(self.seen)
            case ["pay", str(to), int(number)]:
                self.seen.append(number)
                context.system.pid(to).tell(number)
                return len(self.seen)
            case "seen":
                return self.seen
            case "away":
                context.passivate()
        return None


@pytest.fixture
def world(cluster: Cluster) -> World:
    made = World(cluster)
    cluster.settings |= MORTAL | {"sharding.shard_count": 8, "sharding.rebalance_delay": 0.1}
    cluster.types.actor("purse", sharded=True)(Purse)
    return made


async def owner_of(world: World, actor_id: str) -> str:
    """The node that has the actor's shard, once one has."""
    (any_member, *_) = world.cluster.members.values()

    def owner() -> str | None:
        record = any_member._node.sharding.table.of_actor(actor_id)
        return None if record is None else record.owner.node

    return str(await eventually(owner))


async def test_each_life_between_two_passivations_goes_on_with_the_state(world: World) -> None:
    a, b = await world.start("a", "b")
    numbers = itertools.count(1)
    for system in (a, b, a, b):
        for _ in range(3):
            number = next(numbers)
            assert await system.pid("purse#x").ask(number) == number
        system.pid("purse#x").tell("away")
        await eventually(lambda: a._node.sharding.region.count + b._node.sharding.region.count == 0)
    assert await b.pid("purse#x").ask("seen") == list(range(1, 13))


async def test_messages_around_a_passivation_count_once_and_in_order(world: World) -> None:
    a, b = await world.start("a", "b")
    asks = []
    for n in range(1, 301):
        asks.append(asyncio.ensure_future(b.pid("purse#x").ask(n, timeout=30)))
        if n % 40 == 0:
            a.pid("purse#x").tell("away")
            await asyncio.sleep(0.005)
    assert await asyncio.gather(*asks) == list(range(1, 301))
    assert await a.pid("purse#x").ask("seen") == list(range(1, 301))
    passivated = a._node.sharding.region.passivated + b._node.sharding.region.passivated
    assert passivated > 0


async def test_what_each_life_has_told_arrives_once_although_the_next_one_begins_under_the_same_epoch(
    world: World,
) -> None:
    a, b = await world.start("a", "b")
    for n in range(1, 21):
        await a.pid("purse#from").ask(["pay", "purse#to", n])
        if n % 4 == 0:
            b.pid("purse#from").tell("away")
    await eventually(lambda: not a.exchange.ways.active and not b.exchange.ways.active)
    assert await b.pid("purse#to").ask("seen") == list(range(1, 21))
    assert await b.pid("purse#from").ask("seen") == list(range(1, 21))


async def test_a_shard_that_moves_under_load_takes_its_durable_actors_along(world: World) -> None:
    (a,) = await world.start("a")
    ids = [f"purse#{n}" for n in range(24)]
    counts = dict.fromkeys(ids, 0)
    going = True

    async def send(actor_id: str) -> None:
        pid = a.pid(actor_id)
        while going:
            counts[actor_id] += 1
            if counts[actor_id] % 5:
                pid.tell(["pay", "purse#all", 1])
            else:
                assert await pid.ask(["pay", "purse#all", 1], timeout=30) == counts[actor_id]
                await asyncio.sleep(0.002)

    sending = [asyncio.create_task(send(each)) for each in ids]
    await eventually(lambda: min(counts.values()) > 10)
    (b,) = await world.start("b")
    await eventually(lambda: b._node.sharding.shards_of("b") == 4)
    await eventually(lambda: b._node.sharding.region.started)  # there is load there too
    going = False
    await asyncio.gather(*sending)
    await eventually(lambda: not a.exchange.ways.active and not b.exchange.ways.active, 30)
    for each in ids:
        assert len(await b.pid(each).ask("seen")) == counts[each]
    assert len(await b.pid("purse#all").ask("seen")) == sum(counts.values())


async def test_an_owner_that_was_superseded_commits_nothing_and_its_messages_count_with_the_next(
    world: World,
) -> None:
    systems = {system.system_id: system for system in await world.start("a", "b", "c")}
    name = await owner_of(world, "purse#x")
    other = next(system for node, system in systems.items() if node != name)
    pid = other.pid("purse#x")
    assert await pid.ask(1) == 1
    epoch = world.rows["purse#x"].epoch
    store = world.stores[name]
    store.gate.clear()
    late = asyncio.ensure_future(pid.ask(2, timeout=30))
    cell = systems[name]._node.actors.cell("purse#x")
    await eventually(lambda: cell.instance.seen == [1, 2])
    refused = Refusals(store)
    await world.cluster.kill(name)  # as far as the others can tell; its commit is still under way
    assert await late == 2
    store.gate.set()
    assert await heard(other, "purse#x", "seen") == [1, 2]
    assert world.rows["purse#x"].epoch.number > epoch.number
    await store.connect()
    (outcome,) = await store.commit([Commit(actor_id="purse#x", epoch=epoch, version=1, state=b"\x90")])
    assert isinstance(outcome, StaleOwnerError)
    assert await heard(other, "purse#x", 3) == 3
    assert await heard(other, "purse#x", "seen") == [1, 2, 3]
    assert all(isinstance(each, StaleOwnerError) for each in refused.outcomes)


class Refusals:
    """What a store answers to commits from now on."""

    def __init__(self, store: Watched) -> None:
        self.outcomes: list[Any] = []
        commit = store.commit

        async def watched(commits: Any) -> Any:
            outcomes = await commit(commits)
            self.outcomes += outcomes
            return outcomes

        store.commit = watched  # type: ignore[method-assign]


@pytest.mark.processes
async def test_an_owner_that_is_paused_in_the_middle_of_a_change_wakes_up_and_its_commit_is_refused(
    nodes: Nodes,
) -> None:
    nodes.module = "hosted_vaults"
    nodes.environ = {
        "VAULT_FOLDER": str(nodes.folder),
        "CAJUN_PERSISTENCE": f"sqlite:///{nodes.folder}/state.db",
        "CAJUN_SHARDING_SHARD_COUNT": "8",
        "CAJUN_SHARDING_REBALANCE_DELAY": "600",
    }
    await nodes.start("a", "b", "c")
    async with nodes.client() as system:
        pid = system.sharded("vault").pid("x")
        for number in (1, 2, 3):
            assert (await pid.ask(number, timeout=20))[-1] == number
            await asyncio.sleep(0.3 if number == 2 else 0)  # idle for longer than it may be: two lives
        held = asyncio.ensure_future(pid.ask(["held", 4], timeout=30))
        marker = nodes.folder / "held"
        await eventually(lambda: marker.exists() and marker.read_text(), 20)
        owner = marker.read_text()
        later = asyncio.ensure_future(pid.ask(5, timeout=30))
        await nodes.signal(owner, signal.SIGSTOP)
        assert await held == [1, 2, 3, 4], "the next owner has the state, and the message"
        assert await later == [1, 2, 3, 4, 5]
        place = await pid.ask("where", timeout=10)
        assert place != owner
        (nodes.folder / "go").touch()
        await nodes.signal(owner, signal.SIGCONT)  # its handler ends now, with [1, 2, 3, 4] in its hands
        log = nodes.folder / f"{owner}.log"
        await eventually(lambda: "its commit was refused" in log.read_text(), 20)
        for number in (6, 7):
            assert (await pid.ask(number, timeout=20))[-1] == number
        assert await pid.ask("seen", timeout=10) == [1, 2, 3, 4, 5, 6, 7]
        await eventually(lambda: owner in system.known_nodes, 20)
        assert await pid.ask("where", timeout=10) == place, "and it is nowhere else"
    assert await nodes.stop() == [0, 0, 0]
