"""A hand-off fails at each of its steps, on either side: in the end the actor has one owner, and it answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.cluster.movement.destination import Destination
from cajun_fast.errors import CajunError
from tests.cluster.conftest import MORTAL, Cluster, eventually
from tests.cluster.worlds import FaultyStore, memory
from tests.movement.worlds import Ledger, Slow, check_order


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """One kind of store is enough here."""
    return f"memory://{tmp_path.name}"


class Broken(Ledger):
    """Fails where it is told to."""

    fails: set[str] = set()  # noqa: RUF012

    def get_state(self) -> Any:
        if "get_state" in self.fails:
            raise OSError("no state today")
        return object() if "encode" in self.fails else Ledger.get_state(self)

    def set_state(self, state: Any) -> None:
        if "set_state" in self.fails:
            raise OSError("no room for it")
        Ledger.set_state(self, state)

    def pre_start(self) -> None:
        if "pre_start" in self.fails:
            raise OSError("no disk here")
        Ledger.pre_start(self)


async def stays(cluster: Cluster, why: str) -> None:
    """Whatever was tried, it lives on a with what it knows, and moves once nothing fails any more."""
    a, b = cluster.members["a"], cluster.members["b"]
    result = await b.manager.migrate_actor("x", "b")
    assert result.outcome is cf.Outcome.STAYED, result
    assert why in result.reason
    assert await b.pid("x").ask(["note", "b", 1]) == 1
    assert await a.pid("x").ask("where") == "a"
    Broken.fails.clear()
    assert (await a.manager.migrate_actor("x", "b")).moved
    assert await a.pid("x").ask("where") == "b"
    check_order(await a.pid("x").ask("seen"), {"b": 2})
    assert len(b._node.mover.destination) == 0


@pytest.mark.parametrize(
    ("step", "why"),
    [("get_state", "no state today"), ("encode", "its state cannot"), ("set_state", "no room")],
)
async def test_an_actor_that_cannot_be_packed_stays(cluster: Cluster, step: str, why: str) -> None:
    cluster.types.actor("broken")(Broken)
    _, b = await cluster.start("a", "b")
    Broken.fails.clear()
    await cluster.members["a"].register(Broken, "x")
    await b.pid("x").ask(["note", "b", 0])
    Broken.fails.add(step)
    await stays(cluster, why)


@pytest.mark.parametrize("op", ["reserve", "load", "ready"])
async def test_a_target_that_refuses_at_any_step_changes_nothing(
    cluster: Cluster, op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, b = await cluster.start("a", "b")
    await cluster.members["a"].register(Ledger, "x")
    await b.pid("x").ask(["note", "b", 0])
    real, left = getattr(Destination, op), [1]

    def refuse(self: Destination, *args: Any) -> Any:
        if left[0]:
            left[0] = 0
            raise CajunError(f"planned refusal of {op}")
        return real(self, *args)

    if op == "ready":  # asked only when the seat has changed: it does, just before the commit
        loaded = Destination.load

        async def load(self: Destination, *args: Any) -> Any:
            answer = await loaded(self, *args)
            await self._world.parts.membership.update(actors=left[0] + 7)
            return answer

        monkeypatch.setattr(Destination, "load", load)
    monkeypatch.setattr(Destination, op, refuse)
    await stays(cluster, f"planned refusal of {op}")


async def test_a_start_that_fails_frees_the_id_and_tells_whoever_waits(cluster: Cluster) -> None:
    cluster.types.actor("broken")(Broken)
    a, b = await cluster.start("a", "b")
    Broken.fails.clear()
    await a.register(Broken, "x")
    Broken.fails.add("pre_start")
    result = await a.manager.migrate_actor("x", "b")
    assert "no disk here" in result.reason
    with pytest.raises(cf.ActorNotFoundError):
        await a.pid("x").ask("where")
    Broken.fails.clear()
    Ledger.homes.clear()
    await asyncio.sleep(0.15)  # that it is not there is remembered for a moment
    await b.register(Broken, "x")
    assert await a.pid("x").ask("where") == "b"


async def test_a_handler_that_does_not_end_keeps_its_actor_where_it_is(cluster: Cluster) -> None:
    class Long(Slow):
        async def receive(self, message: Any, context: Any) -> Any:
            if message == "long":
                await gate.wait()
                return "done"
            return await Slow.receive(self, message, context)

    gate = asyncio.Event()
    cluster.types.actor("long")(Long)
    cluster.settings["movement.handler_timeout"] = 0.2
    a, b = await cluster.start("a", "b")
    await a.register(Long, "x")
    long = asyncio.ensure_future(b.pid("x").ask("long", timeout=20))
    await eventually(lambda: a._node.actors.cell("x").state == "suspended")
    later = asyncio.ensure_future(b.pid("x").ask("where", timeout=20))
    result = await b.manager.migrate_actor("x", "b")
    assert result.outcome is cf.Outcome.STAYED
    assert "has not ended within 0.2 s" in result.reason
    gate.set()
    assert await long == "done"
    assert await later == "a"


@pytest.mark.parametrize("fault", ["before", "after", 0.3])
async def test_a_store_that_fails_in_the_commit_leaves_one_owner(fault: str | float) -> None:
    """Before: not written. After: written, and the answer is lost. Both end as a move, once the store answers."""
    cluster = Cluster(f"memory://faulty-{fault}")
    cluster.types.actor("ledger")(Ledger)
    Ledger.homes.clear()
    stores = {name: FaultyStore(memory(f"faulty-{fault}")) for name in "ab"}
    for name in "ab":
        cluster.members[name] = cluster.make(name, stores[name])
        await cluster.members[name].start()
    await cluster.settle()
    a, b = cluster.members["a"], cluster.members["b"]
    try:
        await a.register(Ledger, "x")
        await b.pid("x").ask(["note", "b", 0])
        real = a._node.registrar.hand_over

        async def hand_over(*args: Any) -> Any:
            stores["a"].plan["transact"] = [fault, fault]
            return await real(*args)

        a._node.registrar.hand_over = hand_over  # type: ignore[method-assign]
        asking = asyncio.ensure_future(b.pid("x").ask(["note", "b", 1], timeout=20))
        result = await b.manager.migrate_actor("x", "b")
        assert result.moved, result
        await asking
        check_order(await a.pid("x").ask("seen"), {"b": 2})
        assert len(Ledger.homes["x"]) == 1
    finally:
        await cluster.stop()


def move_that_hangs_after_its_commit(source: Any) -> asyncio.Task[Any]:
    """Of actor x to node b: its old copy never comes to its end, so the new owner hears nothing more."""
    forever = asyncio.Event()

    async def hang(cell: Any) -> None:
        Ledger.homes["x"].clear()
        await forever.wait()

    source._node.mover.world.end_copy = hang
    return asyncio.ensure_future(source.manager.migrate_actor("x", "b"))


async def test_an_owner_that_is_killed_after_the_commit_has_handed_everything_over(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new owner hears nothing more from it: it sees the commit, and then that its node is gone. Until then, which
    is later than any start takes, whoever sends waits."""
    cluster.settings |= {**MORTAL, "placement.start_timeout": 0.2}
    a, b, c = await cluster.start("a", "b", "c")
    await a.register(Ledger, "x")
    for n in range(5):
        await c.pid("x").ask(["note", "c", n])
    moving = move_that_hangs_after_its_commit(a)
    await eventually(lambda: len(b._node.mover.destination) and "x" not in a._node.hosting.owned)
    moving.cancel()
    asking = asyncio.ensure_future(c.pid("x").ask("where", timeout=20))
    await asyncio.sleep(0.6)
    assert not asking.done()
    await cluster.kill("a")
    assert await asking == "b"
    check_order(await c.pid("x").ask("seen"), {"c": 5})
    page = await c.manager.get_cluster_actors()
    assert [(each.node, each.epoch) for each in page.actors] == [("b", 2)]


async def test_what_is_on_its_way_to_a_node_that_loses_its_seat_never_starts_there(cluster: Cluster) -> None:
    """It was that node's by the directory and had not started; then it is somebody else's, and the loss of the
    node it came from, later, starts nothing."""
    cluster.settings |= MORTAL
    a, b, c = await cluster.start("a", "b", "c")
    await a.register(Ledger, "x")
    for n in range(5):
        await c.pid("x").ask(["note", "c", n])
    moving = move_that_hangs_after_its_commit(a)
    arrivals = b._node.mover.destination
    await eventually(lambda: [each for each in arrivals._incoming.values() if each.standing is not None])
    await c.manager.cordon_node("a")
    moving.cancel()
    b._node.membership._fence("as planted")
    assert len(arrivals) == 0
    await eventually(lambda: b.incarnation == 2 and not b.is_fenced)
    assert await c.pid("x").ask("where", timeout=20) in "bc"
    await cluster.kill("a")
    await eventually(lambda: "a" not in b.known_nodes and "a" not in c.known_nodes)
    home = await c.pid("x").ask("where", timeout=20)
    page = await c.manager.get_cluster_actors()
    assert [(each.node, each.epoch) for each in page.actors] == [(home, 3)]
    assert Ledger.homes["x"] == [home]


async def test_a_move_that_makes_no_sense_is_refused_at_once_by_a_node_that_stands_still(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await cluster.start("a", "b")
    await a.register(Ledger, "x")

    async def seated() -> bool:
        raise AssertionError("nobody needs to know")

    for system in (a, b):
        monkeypatch.setattr(system._node.mover.world, "seated", seated)
    with pytest.raises(cf.ActorNotFoundError):
        await a._node.mover.move("nobody", "b")
    with pytest.raises(cf.ConfigError, match="never moves"):
        await a._node.mover.move("cajun:host@a", "b")
    arrivals = a._node.mover.destination
    with pytest.raises(cf.ConfigError, match="lives on node 'a' already"):
        await arrivals.reserve(b._node.owner, "x", ["ledger"], 1)
    with pytest.raises(cf.UnknownActorTypeError):
        await arrivals.reserve(b._node.owner, "y", ["nonsense"], 1)
    assert len(arrivals) == 0
    monkeypatch.undo()
