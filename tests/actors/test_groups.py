"""Publish and subscribe on one node."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

import cajun_fast as cf
from tests.cluster.conftest import eventually


class Member(cf.Actor):
    """Subscribes as it is told; keeps what it gets."""

    def __init__(self, *topics: str) -> None:
        self.topics = topics
        self.got: list[Any] = []

    async def pre_start(self) -> None:
        for topic in self.topics:
            await self.context.subscribe(topic)

    def receive(self, message: Any, context: Any) -> Any:
        match message:
            case ["subscribe", topic]:
                context.subscribe(topic)
            case ["unsubscribe", topic]:
                context.unsubscribe(topic)
            case "got":
                return self.got
            case _:
                self.got.append([message, context.sender.id if context.sender else None])
        return None


class Publisher(cf.Actor):
    def receive(self, message: Any, context: Any) -> None:
        topic, each = message
        context.system.group(topic).publish(each)


async def test_every_subscriber_gets_it_in_order_with_its_publisher() -> None:
    async with cf.ActorSystem("n") as system:
        members = [await system.spawn(Member, f"m{n}", "t") for n in range(3)]
        publisher = await system.spawn(Publisher, "p")
        system.group("t").publish("from outside")
        for n in range(100):
            publisher.tell(["t", n])
        for member in members:
            await eventually(lambda: _count(member, 101))  # noqa: B023
            assert await member.ask("got") == [["from outside", None], *([n, "p"] for n in range(100))]
        assert await system.group("t").send("last") == 3
        assert await system.group("nobody").send("x") == 0


async def _count(member: cf.Pid, count: int) -> bool:
    return len(await member.ask("got")) == count


async def test_who_left_or_ended_gets_nothing_and_leaves_nothing() -> None:
    async with cf.ActorSystem("n") as system:
        a, _ = await system.spawn(Member, "a", "t", "u"), await system.spawn(Member, "b", "t")
        await a.ask(["subscribe", "t"])
        assert await system.group("t").send(1) == 2
        await a.ask(["unsubscribe", "t"])
        await a.ask(["unsubscribe", "t"])
        await system.stop_actor("b")
        assert await system.group("t").send(2) == 0
        assert await system.group("u").send(3) == 1
        await system.stop_actor("a")
        assert list(system.groups.topics) == []
        assert not system.groups._topics
        assert not system.dead_letters.counts


async def test_a_slow_subscriber_holds_up_nobody_and_what_it_has_no_room_for_is_told() -> None:
    go = asyncio.Event()

    class Slow(Member):
        async def receive(self, message: Any, context: Any) -> Any:  # type: ignore[override]
            await go.wait()
            return super().receive(message, context)

    from cajun_fast.actors.settings import ActorSettings

    async with cf.ActorSystem("n", settings=ActorSettings(waiting_limit=3)) as system:
        slow = await system.spawn(Slow, "slow", "t", mailbox_capacity=2)
        quick = await system.spawn(Member, "quick", "t")
        group = system.group("t")
        for n in range(10):
            group.publish(n)
        await eventually(lambda: _count(quick, 10))
        for n in range(10, 20):
            with contextlib.suppress(cf.BackpressureError):
                await group.send(n, timeout=0.05)
        with pytest.raises(cf.BackpressureError):
            await group.send(20, timeout=0.05)
        go.set()
        await eventually(lambda: _count(quick, 21))
        got = [each for each, _ in await slow.ask("got")]
        assert got == sorted(set(got))
        assert got[:5] == [0, 1, 2, 3, 4]
        assert system.dead_letters.counts["no-room"] == 21 - len(got)


@pytest.mark.parametrize("topic", ["", "x" * 256, 7])
async def test_a_bad_topic_is_refused_before_anything_changed(topic: Any) -> None:
    async with cf.ActorSystem("n") as system:
        with pytest.raises(cf.ConfigError, match="topic"):
            system.group(topic)
        a = await system.spawn(Member, "a")
        if isinstance(topic, str):
            with pytest.raises(cf.ConfigError, match="topic"):
                await a.ask(["subscribe", topic])
        assert not system.groups._topics
