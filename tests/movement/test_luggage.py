"""What an actor takes along: children with all of theirs, timers, whom it watches and who watches it, a durable state
with its outbox.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.cluster.movement.departure import Event
from cajun_fast.cluster.movement.source import HandOff
from tests.cluster.conftest import Cluster, eventually
from tests.cluster.test_durable import Account, World, heard
from tests.movement.worlds import Ledger


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    """One kind of store is enough here."""
    return f"memory://{tmp_path.name}"


class Family(Ledger):
    """Passes notes on to the children that it is told to have, which may have some of their own."""

    async def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case ["have", str(name), *rest]:
                path = f"{context.self.id}/{name}"
                if path not in self.known:
                    self.known.append(path)
                    await context.spawn(Family, name)
                if rest:
                    await context.system.pid(path).ask(["have", *rest])
                return path
            case "family":
                return self.known
        return Ledger.receive(self, message, context)

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.known: list[str] = []

    def get_state(self) -> Any:
        return [Ledger.get_state(self), self.known]

    def set_state(self, state: Any) -> None:
        Ledger.set_state(self, state[0])
        self.known = state[1]


async def test_children_go_along_with_their_states_and_mailboxes(cluster: Cluster) -> None:
    cluster.types.actor("family")(Family)
    systems = await cluster.start("a", "b", "c")
    await systems[0].register(Family, "x")
    ids = ["x", "x/left", "x/right", "x/right/deep"]
    assert await systems[1].pid("x").ask(["have", "left"]) == "x/left"
    assert await systems[1].pid("x").ask(["have", "right", "deep"]) == "x/right"
    counts = dict.fromkeys(ids, 0)
    going = True

    async def send(actor_id: str) -> None:
        while going:
            systems[1].pid(actor_id).tell(["note", "b", counts[actor_id]])
            counts[actor_id] += 1
            await asyncio.sleep(0.001)

    sending = [asyncio.create_task(send(each)) for each in ids]
    for n in range(6):
        result = await systems[2].manager.migrate_actor("x", "bca"[n % 3])
        assert result.moved, result
        for each in ids:
            assert await systems[2].pid(each).ask("where", timeout=5) == "bca"[n % 3]
    going = False
    await asyncio.gather(*sending)
    for each in ids:
        assert await systems[1].pid(each).ask("seen", timeout=5) == [["b", n] for n in range(counts[each])]
        assert len(Ledger.homes[each]) == 1
    assert await systems[1].pid("x/right").ask("family") == ["x/right/deep"]


class Clock(cf.Actor):
    """Notes when its timers ring: one that comes again and again, and one that comes once."""

    def __init__(self) -> None:
        self.rung: list[Any] = []

    def get_state(self) -> Any:
        return self.rung

    def set_state(self, state: Any) -> None:
        self.rung = state

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case "set":
                context.schedule(0.1, "tick", interval=0.1)
                context.schedule(0.6, "once")
                context.self.tell("later", delay=0.5)
                return None
            case "rung":
                return self.rung
        self.rung.append([message, time.monotonic(), context.node_id])
        return None


async def test_timers_go_along_with_the_time_that_is_left_of_them(cluster: Cluster) -> None:
    cluster.types.actor("clock")(Clock)
    a, b = await cluster.start("a", "b")
    await a.register(Clock, "x")
    began = time.monotonic()
    await b.pid("x").ask("set")
    for target in ("b", "a", "b"):
        assert (await a.manager.migrate_actor("x", target)).moved
        await asyncio.sleep(0.05)

    async def rung() -> list[Any]:
        found: list[Any] = await a.pid("x").ask("rung")
        return found

    async def all_rang() -> bool:
        return {each[0] for each in await rung()} == {"tick", "once", "later"}

    await eventually(all_rang)
    (once,) = [each for each in await rung() if each[0] == "once"]
    (later,) = [each for each in await rung() if each[0] == "later"]
    assert once[1] - began >= 0.6
    assert later[1] - began >= 0.5
    assert once[2] == later[2] == "b"
    before = sum(each[0] == "tick" for each in await rung())

    async def goes_on() -> bool:
        return sum(each[0] == "tick" for each in await rung()) > before + 2

    await eventually(goes_on)
    took = time.monotonic() - began
    ticks = [each[1] for each in await rung() if each[0] == "tick"]
    assert len(ticks) <= took / 0.1 + 1, "one timer, and not one on each node that it was on"


class Watcher(cf.Actor):
    def __init__(self) -> None:
        self.ended: list[Any] = []

    def get_state(self) -> Any:
        return self.ended

    def set_state(self, state: Any) -> None:
        self.ended = state

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case ["watch", str(target)]:
                context.watch(context.system.pid(target))
            case cf.Terminated():
                assert message.reason == "stopped"
                self.ended.append(message.actor_id)
        return self.ended


async def test_watches_hold_through_the_moves_of_either_side(cluster: Cluster) -> None:
    cluster.types.actor("watcher")(Watcher)
    a, b, c = await cluster.start("a", "b", "c")
    await a.register(Watcher, "w")
    await b.register(Ledger, "x")
    await b.register(Ledger, "y")
    for target in ("x", "y"):
        assert await c.pid("w").ask(["watch", target]) == []
    assert (await c.manager.migrate_actor("x", "c")).moved  # the watched one
    assert (await c.manager.migrate_actor("w", "b")).moved  # the watcher
    assert (await c.manager.migrate_actor("x", "a")).moved
    assert (await c.manager.migrate_actor("w", "c")).moved
    assert await a.pid("w").ask("ended") == [], "a move is no end"
    await b.stop_actor("x")

    async def told() -> bool:
        return bool(await a.pid("w").ask("ended") == ["x"])

    await eventually(told)
    assert (await c.manager.migrate_actor("w", "a")).moved
    await b.stop_actor("y")

    async def both_told() -> bool:
        return bool(await a.pid("w").ask("ended") == ["x", "y"])

    await eventually(both_told)


class Fragile(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> None:
        raise ValueError("as asked")


class Keen(Watcher):
    """Keeps the reasons too."""

    def receive(self, message: Any, context: cf.Context) -> Any:
        if isinstance(message, cf.Terminated):
            self.ended.append([message.actor_id, message.reason])
            return None
        return super().receive(message, context)


@pytest.mark.parametrize("target_home", ["a", "b", "c"])
@pytest.mark.parametrize("when", ["before", "packed", "closed"])
async def test_who_ends_while_its_watcher_moves_is_told_once_and_rightly(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, target_home: str, when: str
) -> None:
    """Before its luggage is packed, between that and the commit, and once the old home watches no more."""
    cluster.settings |= {"membership.lease_ttl": 30.0, "membership.suspicion_timeout": 20.0}
    cluster.types.actor("keen")(Keen)
    cluster.types.actor("session", sharded=True)(Session)
    a, b, c = await cluster.start("a", "b", "c")
    await a.register(Keen, "w")
    host = cluster.members[target_home]
    await host.register(Ledger, "stopping")
    await host.register(Fragile, "failing", supervision=cf.Supervision(rules=cf.Directive.STOP))
    await host.register(Ledger, "staying")
    sharded = [f"session#{n}" for n in range(3)]
    for target in ("stopping", "failing", "staying", *sharded):
        await a.pid("w").ask(["watch", target])
    deaths = a._node.deaths
    await eventually(lambda: not deaths._following and not deaths.shards._following)

    async def end() -> None:
        await c.stop_actor("stopping")
        with pytest.raises(cf.RemoteActorError):
            await c.pid("failing").ask("fail")
        await eventually(lambda: not {"stopping", "failing"} & set(host.actor_ids()))
        await asyncio.sleep(0.05)  # so that the word of it is there, if it comes

    name = {"before": "_pack", "packed": "_commit", "closed": "_start"}[when]
    step = getattr(HandOff, name)

    async def meanwhile(self: HandOff) -> Any:
        await end()
        return await step(self)

    monkeypatch.setattr(HandOff, name, meanwhile)
    result = await c.manager.migrate_actor("w", "b")
    assert result.moved, result

    async def told(count: int) -> Any:
        ended = await c.pid("w").ask("told", timeout=10)
        return ended if len(ended) >= count else None

    ended = await eventually(lambda: told(2))
    reasons = {"stopped", "failed"} if when != "closed" or target_home != "a" else {"stopped"}
    assert sorted(each[0] for each in ended) == ["failing", "stopping"]
    assert dict(ended)["stopping"] == "stopped"
    assert dict(ended)["failing"] in reasons
    there = b._node.deaths
    await eventually(lambda: not there._following and not there.shards._following)
    for target in sharded:
        await c.pid(target).ask("stop")
    await c.stop_actor("staying")
    ended = await eventually(lambda: told(6))
    expected = {"stopping", "failing", "staying", *sharded}
    assert {each[0] for each in ended} == expected
    assert [reason for actor_id, reason in ended if actor_id not in ("failing",)] == ["stopped"] * 5


class Session(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> None:
        context.stop()


async def test_who_stays_after_all_is_told_what_was_held_back(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.settings |= {"membership.lease_ttl": 30.0, "membership.suspicion_timeout": 20.0}
    cluster.types.actor("keen")(Keen)
    a, b = await cluster.start("a", "b")
    await a.register(Keen, "w")
    await b.register(Ledger, "x")
    await b.pid("w").ask(["watch", "x"])
    await eventually(lambda: b._node.deaths._watched_by)

    async def refuses(self: HandOff) -> Any:
        await b.stop_actor("x")
        await eventually(lambda: a._node.deaths._held)
        return Event.FAILED, "as asked"

    monkeypatch.setattr(HandOff, "_commit", refuses)
    assert not (await b.manager.migrate_actor("w", "b")).moved

    async def told() -> Any:
        return await b.pid("w").ask("told", timeout=10)

    assert await eventually(told) == [["x", "stopped"]]
    assert not a._node.deaths._held


@pytest.fixture
def world(cluster: Cluster) -> World:
    cluster.types = type(cluster.types)()
    return World(cluster)


async def test_a_durable_actor_moves_while_its_outbox_cannot_be_delivered(world: World) -> None:
    """What it told before the move stands in its outbox: the node that it has come to sends it, once."""
    a, b, c = await world.start("a", "b", "c")
    await c.create_actor_on_node("account", "x", "a")
    await c.create_actor_on_node("account", "y", "c")
    assert await b.pid("x").ask(100) == 100
    world.stores["c"].gate.clear()  # y commits nothing: it acknowledges nothing of what x tells it
    for n in range(1, 21):
        await b.pid("x").ask(["pay", "y", n])
    assert len(world.rows["x"].outbox) == 40
    for target in ("b", "a", "b"):
        result = await c.manager.migrate_actor("x", target)
        assert result.moved, result
    assert a._node.actors.cell("x") is None
    world.stores["c"].gate.set()
    expected = [each for n in range(1, 21) for each in (n, 0)]

    async def all_there() -> bool:
        return bool(await heard(b, "y", "seen") == expected)

    await eventually(all_there, 20)
    assert await heard(c, "x", "get") == 100 - sum(range(21))
    await eventually(lambda: not any(each.exchange.ways.active for each in (a, b, c)), 20)
    assert await heard(b, "y", "seen") == expected
    assert isinstance(b._node.actors.cell("x").instance, Account)
