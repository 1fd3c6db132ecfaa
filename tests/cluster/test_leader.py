"""One leader at a time, and one that lost its term writes nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cajun_fast.cluster.leader import Leadership, Term
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.metadata import KeySpace, Put
from tests.cluster.worlds import FaultyStore, LoopClock, memory, turned, until

KEYS = KeySpace("test")
TTL = 3.0


class Candidate:
    def __init__(self, store: FaultyStore, name: str) -> None:
        self.store, self.name = store, name
        self.terms: list[Term] = []
        self.deposed: list[str] = []
        self.leadership = Leadership(
            store,
            KEYS,
            LoopClock(),
            ttl=TTL,
            backoff=Backoff(random.Random(1), 0.05, 1.0),
            on_elected=self.terms.append,
            on_deposed=self.deposed.append,
        )

    @property
    def leads(self) -> bool:
        return self.leadership.is_leader


@asynccontextmanager
async def candidates(count: int) -> AsyncIterator[list[Candidate]]:
    made = []
    for n in range(count):
        store = FaultyStore(memory())
        await store.connect()
        made.append(Candidate(store, f"n{n}"))
    for each in made:
        each.leadership.start(Owner(each.name, 1))
        await asyncio.sleep(0.05)
    try:
        yield made
    finally:
        for each in made:
            each.store.rise()
            await each.leadership.stop()
        for each in made:
            await each.store.close()


def leaders(made: list[Candidate]) -> list[str]:
    return [each.name for each in made if each.leads]


def test_the_first_in_line_leads_and_goes_on_leading() -> None:
    async def story() -> None:
        async with candidates(3) as made:
            for _ in range(50):
                await asyncio.sleep(TTL / 7)
                assert leaders(made) == ["n0"]
            record = await made[2].leadership.read()
            assert record is not None
            assert record.owner == Owner("n0", 1)

    turned(story)


def test_a_resignation_hands_on_at_once_with_a_higher_token() -> None:
    async def story() -> None:
        async with candidates(3) as made:
            assert made[0].leadership.resign()
            assert not made[1].leadership.resign()
            await until(lambda: made[1].leads, 0.5)
            assert leaders(made) == ["n1"]
            assert made[1].terms[0].token > made[0].terms[0].token
            assert made[0].deposed == ["it resigned"]
            made[1].leadership.resign()
            await until(lambda: made[2].leads, 0.5)
            made[2].leadership.resign()
            await until(lambda: made[0].leads, 0.5)

    turned(story)


def test_cut_off_it_steps_down_before_another_can_follow() -> None:
    async def story() -> None:
        async with candidates(3) as made:
            await asyncio.sleep(5.1 * TTL)
            made[0].store.fall()
            stepped_down = followed = 0.0
            loop = asyncio.get_running_loop()
            while not followed:
                await asyncio.sleep(0.01)
                assert len(leaders(made)) <= 1
                if not made[0].leads and not stepped_down:
                    stepped_down = loop.time()
                followed = loop.time() if made[1].leads else 0.0
            assert stepped_down < followed - TTL * 0.05
            made[0].store.rise()
            await asyncio.sleep(2 * TTL)
            assert leaders(made) == ["n1"]

    turned(story)


def test_what_a_superseded_leader_writes_is_refused() -> None:
    async def story() -> None:
        async with candidates(2) as made:
            guard = made[0].terms[0].guard
            outcome = await made[0].store.transact([guard], [Put("x", b"1")])
            assert outcome.succeeded
            made[0].store.fall()
            await until(lambda: made[1].leads, 3 * TTL)
            # It was asleep rather than cut off: its write reaches the store after all.
            outcome = await made[0].store.inner.transact([guard], [Put("x", b"2")])
            assert not outcome.succeeded
            assert (await made[1].store.transact([made[1].terms[0].guard], [Put("x", b"3")])).succeeded

    turned(story)


def test_it_does_not_believe_in_its_term_after_a_pause() -> None:
    async def story() -> None:
        async with candidates(1) as made:
            asyncio.get_running_loop().turn(TTL)  # type: ignore[attr-defined]
            assert not made[0].leads

    turned(story)


def test_the_dead_are_followed_within_their_lease() -> None:
    async def story() -> None:
        async with candidates(2) as made:
            before = asyncio.get_running_loop().time()
            await made[0].leadership._tasks.stop()
            made[0].store.fall()  # killed: nothing is released
            made[0].leadership._lock = None
            await until(lambda: made[1].leads, 3 * TTL)
            assert asyncio.get_running_loop().time() - before < 1.5 * TTL

    turned(story)


def test_a_stop_hands_on_at_once() -> None:
    async def story() -> None:
        async with candidates(2) as made:
            await made[0].leadership.stop()
            await until(lambda: made[1].leads, 0.5)

    turned(story)


def test_lost_answers_while_it_is_elected_do_not_leave_the_cluster_without_a_leader() -> None:
    async def story() -> None:
        async with candidates(2) as made:
            for fault in ("before", "after"):
                made[1].store.plan["transact"] = [fault]
                made[0].leadership.resign()
                await until(lambda: len(leaders(made)) == 1, 4 * TTL)
                if made[1].leads:
                    made[1].leadership.resign()
                await until(lambda: made[0].leads, 4 * TTL)

    turned(story)
