"""An actor is told once when another one ends, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cajun_fast as cf
from tests.cluster.conftest import eventually


class Watcher(cf.Actor):
    """Watches and unwatches on demand; keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[cf.Terminated] = []

    def receive(self, message: Any, context: Any) -> Any:
        match message:
            case ["watch", target]:
                context.watch(context.system.pid(target))
            case ["unwatch", target]:
                context.unwatch(context.system.pid(target))
            case cf.Terminated():
                self.told.append(message)
            case "told":
                return [(each.actor_id, each.reason) for each in self.told]
        return None


class Fragile(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        if message == "stop":
            context.stop()
        elif message == "fail":
            raise ValueError("as asked")
        return message


STOP = cf.Supervision(rules=cf.Directive.STOP)


async def told(watcher: cf.Pid, count: int = 1) -> Any:
    async def enough() -> Any:
        found = await watcher.ask("told")
        return found if len(found) >= count else None

    return await eventually(enough)


async def test_a_watcher_is_told_once_and_why() -> None:
    async with cf.ActorSystem("n") as system:
        watcher, other = await system.spawn(Watcher), await system.spawn(Watcher)
        stopping = await system.spawn(Fragile, "stopping")
        failing = await system.spawn(Fragile, "failing", supervision=STOP)
        for each in (watcher, other):
            for target in ("stopping", "failing", "stopping", "failing", "nobody"):
                await each.ask(["watch", target])
        assert await told(watcher) == [("nobody", "not-found")]
        stopping.tell("stop")
        await told(watcher, 2)
        with pytest.raises(cf.RemoteActorError, match="as asked"):
            await failing.ask("fail")
        expected = [("nobody", "not-found"), ("stopping", "stopped"), ("failing", "failed")]
        assert await told(watcher, 3) == await told(other, 3) == expected
        await system.spawn(Fragile, "stopping")
        await system.stop_actor("stopping")
        assert await watcher.ask("told") == expected, "a watch ends with what it told"


async def test_who_does_not_watch_any_more_is_not_told_and_nothing_is_left() -> None:
    async with cf.ActorSystem("n") as system:
        watcher, other = await system.spawn(Watcher, "w"), await system.spawn(Watcher, "o")
        await system.spawn(Fragile, "x")
        for each in (watcher, other):
            await each.ask(["watch", "x"])
        await watcher.ask(["unwatch", "x"])
        await watcher.ask(["unwatch", "x"])
        await system.stop_actor("o")
        assert not system.deaths.is_watched("x")
        await system.stop_actor("x")
        await asyncio.sleep(0.05)
        assert await watcher.ask("told") == []
        assert not system.deaths._targets
        assert not system.deaths._watchers
        assert not system.dead_letters.counts


async def test_a_full_mailbox_does_not_lose_it() -> None:
    go = asyncio.Event()
    seen: list[Any] = []

    class Slow(cf.Actor):
        async def receive(self, message: Any, context: Any) -> None:
            if message == "watch":
                context.watch(context.system.pid("x"))
                await go.wait()
            seen.append(message)

    async with cf.ActorSystem("n") as system:
        await system.spawn(Fragile, "x")
        slow = await system.spawn(Slow, None, mailbox_capacity=2)
        slow.tell("watch")
        await eventually(lambda: system.deaths.is_watched("x"))
        slow.tell(1)
        slow.tell(2)
        await system.stop_actor("x")
        go.set()
        await eventually(lambda: len(seen) == 4)
        assert seen == ["watch", 1, 2, cf.Terminated("x", "stopped")]


async def test_children_are_watched_like_others() -> None:
    class Parent(Watcher):
        def pre_start(self) -> None:
            context = self.context
            context.watch(context.spawn(Fragile, "child"))

    async with cf.ActorSystem("n") as system:
        parent = await system.spawn(Parent, "p")
        system.pid("p/child").tell("stop")
        assert await told(parent) == [("p/child", "stopped")]
