"""The view of who lives: no gap, no guess."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from cajun_fast.cluster.members import MemberHooks, Members
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.config import NodeAddress
from cajun_fast.metadata import KeySpace
from tests.cluster.worlds import FaultyStore, memory, turned

KEYS = KeySpace("test")


def record(node: str, incarnation: int = 1, port: int = 1) -> NodeRecord:
    return NodeRecord(node=node, incarnation=incarnation, address=NodeAddress("h", port))


class View:
    def __init__(self, store: FaultyStore) -> None:
        self.store = store
        self.events: list[str] = []
        self.heard: set[str] = set()
        hooks = MemberHooks(
            on_join=lambda new: self.events.append(f"+{new.node}{new.incarnation}"),
            on_change=lambda old, new: self.events.append(f"~{new.node}{new.address.port}"),
            on_leave=lambda old: self.events.append(f"-{old.node}{old.incarnation}"),
            heard=lambda each: each.node in self.heard,
        )
        backoff = Backoff(random.Random(1), 0.05, 1.0)
        self.members = Members(store, KEYS, "me", backoff=backoff, grace=4.0, hooks=hooks)

    async def put(self, each: NodeRecord) -> None:
        await self.store.inner.put(KEYS.node(each.node), each.encode())

    async def drop(self, node: str) -> None:
        await self.store.inner.delete(KEYS.node(node))

    async def take(self) -> list[str]:
        await asyncio.sleep(0.1)
        events, self.events[:] = list(self.events), []
        return events


@asynccontextmanager
async def view(*before: NodeRecord) -> AsyncIterator[View]:
    store = FaultyStore(memory())
    await store.connect()
    made = View(store)
    for each in before:
        await made.put(each)
    await made.members.start()
    try:
        yield made
    finally:
        await made.members.stop()
        await store.close()


def test_it_is_complete_when_start_returns_and_follows_from_there() -> None:
    async def story() -> None:
        async with view(record("a"), record("b")) as v:
            assert set(v.members.nodes) == {"a", "b"}
            await v.put(record("c"))
            await v.put(replace(record("c"), leaving=True))
            await v.drop("c")
            await v.put(record("b", port=2))
            assert await v.take() == ["+a1", "+b1", "+c1", "~c1", "-c1", "~b2"]

    turned(story)


def test_this_node_is_in_the_view_but_never_reported() -> None:
    async def story() -> None:
        async with view(record("me")) as v:
            await v.drop("me")
            await v.put(record("me", 2))
            assert await v.take() == []
            assert v.members.lives(Owner("me", 2))

    turned(story)


def test_a_newer_incarnation_ends_the_older_one_and_an_older_one_is_not_believed() -> None:
    async def story() -> None:
        async with view(record("a", 2)) as v:
            await v.put(record("a", 3))
            await v.put(record("a", 1))
            assert await v.take() == ["+a2", "-a2", "+a3"]
            assert v.members.lives(Owner("a", 3))
            assert not v.members.lives(Owner("a", 2))

    turned(story)


def test_changes_during_an_outage_are_made_up_for_and_its_silence_evicts_nobody() -> None:
    async def story() -> None:
        async with view(record("a"), record("b")) as v:
            await v.take()
            v.store.fall()
            await asyncio.sleep(30)
            assert await v.take() == []
            assert not v.members.in_sync
            assert set(v.members.nodes) == {"a", "b"}
            await v.drop("a")
            await v.put(record("c"))
            assert await v.take() == []
            v.store.rise()
            await asyncio.sleep(2)
            assert sorted(await v.take()) == ["+c1", "-a1"]
            assert v.members.in_sync

    turned(story)


def test_a_node_without_a_record_stays_while_it_is_heard_from() -> None:
    async def story() -> None:
        async with view(record("a"), record("b")) as v:
            await v.take()
            v.heard = {"a", "b"}
            await v.drop("a")
            await v.drop("b")
            assert await v.take() == []
            assert [each.node for each in v.members.hosts()] == []
            await v.put(record("a"))  # it took its lease anew
            await asyncio.sleep(2)
            assert await v.take() == []
            v.heard = {"a"}
            await asyncio.sleep(0.5)
            assert await v.take() == ["-b1"]
            await asyncio.sleep(20)
            assert await v.take() == []
            await v.drop("a")
            await asyncio.sleep(3.5)
            assert await v.take() == []
            await asyncio.sleep(1)
            assert await v.take() == ["-a1"], "heard from or not, it has no seat"

    turned(story)


def test_one_that_leaves_in_order_is_gone_although_it_is_heard_from() -> None:
    async def story() -> None:
        async with view(record("a")) as v:
            v.heard = {"a"}
            await v.put(replace(record("a"), leaving=True))
            assert await v.take() == ["+a1", "~a1"]
            assert v.members.hosts() == []
            await v.drop("a")
            assert await v.take() == ["-a1"]

    turned(story)


def test_a_record_that_cannot_be_read_is_left_out() -> None:
    async def story() -> None:
        async with view(record("a")) as v:
            await v.store.put(KEYS.node("x"), b"\xc1")
            await v.store.put(KEYS.node("y"), b"")
            await v.put(record("b"))
            assert await v.take() == ["+a1", "+b1"]

    turned(story)


def test_clients_and_cordoned_nodes_get_no_actors() -> None:
    async def story() -> None:
        nodes = (record("a"), replace(record("b"), client=True), replace(record("c"), cordoned=True))
        async with view(*nodes) as v:
            assert [each.node for each in v.members.hosts()] == ["a"]

    turned(story)
