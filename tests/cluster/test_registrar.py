"""Claims in batches: who wins, who fails, and what is left behind when the store fails in the middle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cajun_fast.cluster.directory import Directory
from cajun_fast.cluster.records import ActorRecord, Owner
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    CajunError,
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
    NotRunningError,
)
from cajun_fast.metadata import Compare, KeySpace
from tests.cluster.worlds import FaultyStore, memory, turned

KEYS = KeySpace("test")


class World:
    def __init__(self, store: FaultyStore, **settings: Any) -> None:
        self.store = store
        self.directory = Directory(store, KEYS)
        self.registrar = Registrar(
            store, KEYS, self.directory, Backoff(random.Random(1), 0.02, 1.0), **settings
        )
        self.serial = 0

    def record(self, node: str = "n", incarnation: int = 1) -> ActorRecord:
        self.serial += 1
        return ActorRecord(owner=Owner(node, incarnation), claim=self.serial)

    async def owner(self, actor_id: str) -> str | None:
        standing = await self.directory.read(actor_id, fresh=True)
        return None if standing is None else standing.record.owner.node

    def transactions(self) -> list[int]:
        return [len(detail) for name, detail in self.store.calls if name == "transact"]


@asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    store = FaultyStore(memory())
    await store.connect()
    made = World(store, **settings)
    made.registrar.start()
    try:
        yield made
    finally:
        store.rise()
        await made.registrar.stop()
        await made.directory.stop()
        await store.close()


def test_claims_leave_in_batches_by_size_and_by_age() -> None:
    async def story() -> None:
        async with world() as w:
            await asyncio.gather(*(w.registrar.claim(f"a{n}", w.record()) for n in range(120)))
            assert w.transactions() == [50, 50, 20]
            before = asyncio.get_running_loop().time()
            await w.registrar.claim("single", w.record())
            assert asyncio.get_running_loop().time() - before <= 0.0021
            assert [await w.owner(f"a{n}") for n in range(120)] == ["n"] * 120

    turned(story)


def test_an_id_has_one_owner_and_only_the_late_claim_of_a_batch_fails() -> None:
    async def story() -> None:
        async with world() as w:
            await w.registrar.claim("taken", w.record("first"))
            names = [f"a{n}" for n in range(10)] + ["taken"] + [f"b{n}" for n in range(10)]
            results = await asyncio.gather(
                *(w.registrar.claim(name, w.record()) for name in names), return_exceptions=True
            )
            errors = {
                name: result
                for name, result in zip(names, results, strict=True)
                if isinstance(result, Exception)
            }
            assert set(errors) == {"taken"}
            assert isinstance(errors["taken"], ActorAlreadyExistsError)
            assert errors["taken"].node == "first"
            assert await w.owner("taken") == "first"
            assert await w.owner("b9") == "n"

    turned(story)


def test_two_nodes_that_claim_at_once_get_one_owner() -> None:
    async def story() -> None:
        async with world() as one, world() as two:
            results = await asyncio.gather(
                *(one.registrar.claim(f"a{n}", one.record("one")) for n in range(60)),
                *(two.registrar.claim(f"a{n}", two.record("two")) for n in range(60)),
                return_exceptions=True,
            )
            for n in range(60):
                won = [
                    result for result in (results[n], results[60 + n]) if not isinstance(result, Exception)
                ]
                assert len(won) == 1
                assert await one.owner(f"a{n}") == won[0].record.owner.node  # type: ignore[union-attr]

    turned(story)


def test_a_value_that_the_store_refuses_fails_alone() -> None:
    async def story() -> None:
        async with world() as w:
            poison = ActorRecord(owner=Owner("n", 1), claim=7, type="t", arguments=bytes(2 << 20))
            claims = [w.registrar.claim(f"a{n}", w.record()) for n in range(20)]
            claims.insert(9, w.registrar.claim("poison", poison))
            results = await asyncio.gather(*claims, return_exceptions=True)
            assert isinstance(results[9], MetadataStoreError)
            assert "poison" in str(results[9])
            assert sum(isinstance(result, Exception) for result in results) == 1

    turned(story)


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_lost_answer_is_settled_by_the_next_attempt(fault: str) -> None:
    async def story() -> None:
        async with world() as w:
            w.store.plan["transact"] = [fault, fault]
            standing = await w.registrar.claim("a", w.record())
            entry = await w.store.get(KEYS.actor("a"))
            assert entry is not None
            assert entry.revision == standing.revision
            w.store.plan["transact"] = [fault]
            assert await w.registrar.release(standing)
            assert await w.owner("a") is None

    turned(story)


def test_a_claim_is_not_mistaken_for_another_of_the_same_node() -> None:
    async def story() -> None:
        async with world() as w:
            await w.registrar.claim("a", w.record())
            with pytest.raises(ActorAlreadyExistsError):
                await w.registrar.claim("a", w.record())

    turned(story)


def test_an_outage_is_waited_out_until_the_callers_deadline() -> None:
    async def story() -> None:
        async with world(timeout=5.0) as w:
            w.store.fall()
            waiting = asyncio.ensure_future(w.registrar.claim("a", w.record()))
            await asyncio.sleep(3)
            w.store.rise()
            await waiting
            assert await w.owner("a") == "n"
            w.store.fall()
            with pytest.raises(MetadataStoreUnavailableError, match=r"'b'.*5 s") as caught:
                await w.registrar.claim("b", w.record())
            assert caught.value.__cause__ is not None
            attempts = len(w.transactions())
            assert attempts < 40, "it hammers a store that is down"

    turned(story)


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_claim_given_up_by_its_caller_does_not_stand_afterwards(fault: str) -> None:
    async def story() -> None:
        async with world(timeout=1.0) as w:
            w.store.plan["transact"] = [fault]
            waiting = asyncio.ensure_future(w.registrar.claim("a", w.record()))
            await asyncio.sleep(0.003)  # the first attempt has failed
            w.store.fall()
            with pytest.raises(MetadataStoreUnavailableError):
                await waiting
            w.store.rise()
            await asyncio.sleep(5)
            assert await w.owner("a") is None
            assert len(w.registrar) == 0
            await w.registrar.claim("a", w.record("other"))

    turned(story)


@pytest.mark.parametrize("fault", ["before", "after", 0.5, "settled"])
def test_a_claim_that_took_the_place_of_a_record_and_is_given_up_puts_it_back(fault: str | float) -> None:
    """The actor of a lost node must not vanish because its adopter's caller lost patience."""

    async def story() -> None:
        async with world(timeout=1.0) as w:
            lost = await w.registrar.claim("a", w.record("lost"))
            if fault != "settled":
                w.store.plan["transact"] = [fault]
            claim = w.registrar.claim("a", w.record(), lost.revision, instead_of=lost.record)
            waiting = asyncio.ensure_future(claim)
            if fault == "settled":
                await asyncio.sleep(0)
                future = w.registrar._under_way[KEYS.actor("a")].future
                future.add_done_callback(lambda _: waiting.cancel())
            else:
                await asyncio.sleep(0.003)  # the first attempt is under way, or has failed
                waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(5)
            assert await w.owner("a") == "lost"
            assert len(w.registrar) == 0
            standing = await w.directory.read("a", fresh=True)
            assert standing is not None
            assert standing.record == lost.record

    turned(story)


def test_a_claim_cancelled_while_its_transaction_is_under_way_is_taken_back() -> None:
    async def story() -> None:
        async with world() as w:
            w.store.plan["transact"] = [0.5]
            waiting = asyncio.ensure_future(w.registrar.claim("a", w.record()))
            await asyncio.sleep(0.1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(1)
            assert await w.owner("a") is None

    turned(story)


def test_a_claim_cancelled_in_the_turn_in_which_it_settles_is_taken_back() -> None:
    async def story() -> None:
        async with world() as w:
            waiting = asyncio.ensure_future(w.registrar.claim("a", w.record()))
            await asyncio.sleep(0)
            future = w.registrar._under_way[KEYS.actor("a")].future
            future.add_done_callback(lambda _: waiting.cancel())
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert future.result() > 0
            await asyncio.sleep(1)
            assert await w.owner("a") is None

    turned(story)


def test_the_newer_intention_wins_over_an_older_one_that_has_not_settled() -> None:
    async def story() -> None:
        async with world(timeout=60.0) as w:
            first = await w.registrar.claim("a", w.record("first"))
            w.store.fall()
            release = asyncio.ensure_future(w.registrar.release(first))
            await asyncio.sleep(0.1)
            claim = asyncio.ensure_future(w.registrar.claim("a", w.record("second")))
            await asyncio.sleep(0.1)
            w.store.rise()
            assert await release
            standing = await claim
            assert standing.record.owner.node == "second"
            assert await w.owner("a") == "second"

    turned(story)


def test_a_release_that_timed_out_is_carried_out_later_but_never_against_a_new_owner() -> None:
    async def story() -> None:
        async with world(timeout=1.0) as w:
            kept = await w.registrar.claim("kept", w.record())
            moved = await w.registrar.claim("moved", w.record())
            w.store.fall()
            for standing in (kept, moved):
                with pytest.raises(MetadataStoreUnavailableError):
                    await w.registrar.release(standing)
            # Meanwhile, by a way that this node does not see, somebody else takes one of them over.
            key = KEYS.actor("moved")
            await w.store.inner.compare_and_set(key, moved.revision, w.record("other").encode())
            w.store.rise()
            await asyncio.sleep(5)
            assert await w.owner("kept") is None
            assert await w.owner("moved") == "other"

    turned(story)


def test_the_queue_is_bounded() -> None:
    async def story() -> None:
        async with world(queue_limit=10, timeout=60.0) as w:
            w.store.fall()
            waiting = [asyncio.ensure_future(w.registrar.claim(f"a{n}", w.record())) for n in range(10)]
            await asyncio.sleep(0.1)
            with pytest.raises(MetadataStoreUnavailableError, match="registration_queue_limit"):
                await w.registrar.claim("one-more", w.record())
            w.store.rise()
            await asyncio.gather(*waiting)

    turned(story)


def test_a_stop_flushes_what_is_pending_and_refuses_what_comes_later() -> None:
    async def story() -> None:
        async with world(batch_age=0.5) as w:
            waiting = asyncio.ensure_future(w.registrar.claim("a", w.record()))
            await asyncio.sleep(0)
            await w.registrar.stop()
            await waiting
            assert await w.owner("a") == "n"
            with pytest.raises(NotRunningError):
                await w.registrar.claim("b", w.record())

    turned(story)


def test_a_stop_during_an_outage_ends_and_says_so() -> None:
    async def story() -> None:
        async with world(timeout=60.0) as w:
            w.store.fall()
            waiting = asyncio.ensure_future(w.registrar.claim("a", w.record()))
            await asyncio.sleep(0.1)
            await w.registrar.stop(timeout=1.0)
            with pytest.raises(NotRunningError):
                await waiting

    turned(story)


def test_a_guard_of_one_claim_does_not_fail_the_others() -> None:
    async def story() -> None:
        async with world() as w:
            await w.store.put(KEYS.node("lost"), b"back again")
            guards = (Compare(KEYS.node("lost"), 0),)
            results = await asyncio.gather(
                w.registrar.claim("a", w.record(), 0, guards),
                *(w.registrar.claim(f"b{n}", w.record()) for n in range(5)),
                return_exceptions=True,
            )
            assert isinstance(results[0], LeaseLostError)
            assert not any(isinstance(result, Exception) for result in results[1:])

    turned(story)


class Trial:
    """Random claims and releases by two nodes over stores that fail before, after and for a while."""

    def __init__(self, seed: int, nodes: dict[str, World]) -> None:
        self.chance = random.Random(seed)
        self.nodes = nodes
        self.held: set[str] = set()

    async def live(self, node: str) -> None:
        w = self.nodes[node]
        for _ in range(40):
            actor_id = f"a{self.chance.randrange(6)}"
            try:
                standing = await w.registrar.claim(actor_id, w.record(node))
                assert actor_id not in self.held, f"{actor_id} has two owners"
                self.held.add(actor_id)
                await asyncio.sleep(self.chance.random() * 0.1)
                self.held.discard(actor_id)
                await w.registrar.release(standing)
            except CajunError:
                await asyncio.sleep(self.chance.random() * 0.05)

    async def trouble(self) -> None:
        while True:
            await asyncio.sleep(self.chance.random() * 0.3)
            w = self.chance.choice(list(self.nodes.values()))
            faults: list[str | float] = ["before", "after", 0.05]
            w.store.plan["transact"] = self.chance.choices(faults, k=self.chance.randrange(3))
            if self.chance.random() < 0.1:
                w.store.fall()
                await asyncio.sleep(self.chance.random() * 3)
                w.store.rise()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_store_does_the_outcome_that_was_told_is_the_outcome(seed: int) -> None:
    async def story() -> None:
        async with world(timeout=2.0) as one, world(timeout=2.0) as two:
            trial = Trial(seed, {"one": one, "two": two})
            troubles = asyncio.ensure_future(trial.trouble())
            await asyncio.gather(*(trial.live(node) for node in trial.nodes for _ in range(4)))
            troubles.cancel()
            await asyncio.gather(troubles, return_exceptions=True)
            for w in (one, two):
                w.store.rise()
                w.store.plan.clear()
            await asyncio.sleep(30)
            assert len(one.registrar) == len(two.registrar) == 0
            for n in range(6):
                assert await one.owner(f"a{n}") is None, "something was left behind or resurrected"

    turned(story)
