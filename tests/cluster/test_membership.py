"""A node's own seat: incarnations, duplicates, the lease, and the moment at which it must stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from cajun_fast.cluster.membership import Membership, MembershipHooks, take_incarnation
from cajun_fast.cluster.records import NodeRecord
from cajun_fast.config import NodeAddress
from cajun_fast.errors import ConfigError, MetadataStoreUnavailableError, ProtocolError
from cajun_fast.metadata import Entry, KeySpace, Lease
from tests.cluster.worlds import FaultyStore, LoopClock, memory, turned

KEYS = KeySpace("test")
TTL = 3.0


class Seat:
    def __init__(self, store: FaultyStore, *, listens: bool = False, patience: float | None = None) -> None:
        self.store = store
        self.listens = listens
        self.fenced: list[tuple[float, str]] = []
        self.paused: list[tuple[float, str]] = []
        self.resumed: list[float] = []
        self.regained = 0
        self.membership = Membership(
            store,
            KEYS,
            LoopClock(),
            ttl=TTL,
            hooks=MembershipHooks(
                self._on_fenced,
                self._on_regained,
                self._probe,
                on_paused=lambda why: self.paused.append((asyncio.get_running_loop().time(), why)),
                on_resumed=lambda: self.resumed.append(asyncio.get_running_loop().time()),
            ),
            patience=patience,
        )

    def _on_fenced(self, why: str) -> None:
        self.fenced.append((asyncio.get_running_loop().time(), why))

    def _on_regained(self) -> None:
        self.regained += 1

    async def _probe(self, record: NodeRecord) -> bool:
        return self.listens

    async def enter(self, port: int = 1, node: str = "a") -> None:
        incarnation = await take_incarnation(self.store, KEYS, node)
        address = NodeAddress("h", port)
        await self.membership.enter(NodeRecord(node=node, incarnation=incarnation, address=address))

    async def record(self, node: str = "a") -> NodeRecord | None:
        entry = await self.store.inner.get(KEYS.node(node))
        return None if entry is None else NodeRecord.decode(node, entry.value)


@asynccontextmanager
async def seat(*, listens: bool = False, patience: float | None = None) -> AsyncIterator[Seat]:
    store = FaultyStore(memory())
    await store.connect()
    made = Seat(store, listens=listens, patience=patience)
    try:
        yield made
    finally:
        store.rise()
        await made.membership.leave()
        await store.close()


class SlowToWrite(FaultyStore):
    """A disk that stalls: leases are refreshed late, reads are answered."""

    delay = 0.0

    def attach_lease(self, lease_id: int, ttl: float) -> Lease:
        lease = super().attach_lease(lease_id, ttl)
        refresh = lease.refresh

        async def late() -> None:
            await asyncio.sleep(self.delay)
            await refresh()

        lease.refresh = late  # type: ignore[method-assign]
        return lease


def test_a_renewal_that_comes_late_keeps_no_look_waiting() -> None:
    async def story() -> None:
        store = SlowToWrite(memory())
        await store.connect()
        s = Seat(store, patience=0.6)
        await s.enter()
        store.delay = 1.2  # twice as long as a look holds good
        await asyncio.sleep(4 * TTL)
        assert (s.paused, s.fenced) == ([], [])
        store.delay = 10 * TTL
        await asyncio.sleep(2 * TTL)
        assert len(s.paused) == 1, "without a lease looks are worth nothing"
        await s.membership.leave()
        await store.close()

    turned(story)


class SlowToRead(FaultyStore):
    """Starved of its processor, or far away."""

    delay = 0.0

    async def get(self, key: str) -> Entry | None:
        await asyncio.sleep(self.delay)
        return await super().get(key)


def test_looks_that_take_their_time_follow_each_other_sooner() -> None:
    """Of a patience of 0.6 s each look may take nearly the half."""

    async def story() -> None:
        store = SlowToRead(memory())
        await store.connect()
        s = Seat(store, patience=0.6)
        await s.enter()
        store.delay = 0.28
        await asyncio.sleep(4 * TTL)
        assert (s.paused, s.fenced) == ([], [])
        store.delay = 0.0
        store.calls.clear()
        await asyncio.sleep(TTL)
        assert len([name for name, _ in store.calls if name == "get"]) <= 5 * TTL + 1, (
            "no more than asked for"
        )
        await s.membership.leave()
        await store.close()

    turned(story)


def test_one_that_was_fenced_is_waited_for_until_its_next_life_if_that_is_wanted() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            s.membership._fence("as planted")
            assert not await s.membership.settled(5.0)
            assert not await s.membership.settled(0.5, next_life=True)
            waiting = asyncio.ensure_future(s.membership.settled(5.0, next_life=True))
            await asyncio.sleep(1)
            assert not waiting.done()
            await s.enter()
            assert await waiting
            await s.membership.leave()
            assert not await s.membership.settled(5.0, next_life=True), "at once"

    turned(story)


def test_an_incarnation_is_given_once_even_when_many_ask() -> None:
    async def story() -> None:
        async with seat() as one, seat() as two:
            given = await asyncio.gather(
                *(take_incarnation(each.store, KEYS, "a") for _ in range(10) for each in (one, two))
            )
            assert sorted(given) == list(range(1, 21))

    turned(story)


def test_a_lost_answer_costs_a_number_and_never_gives_one_twice() -> None:
    async def story() -> None:
        async with seat() as s:
            s.store.plan["transact"] = ["after"]
            with pytest.raises(MetadataStoreUnavailableError):
                await take_incarnation(s.store, KEYS, "a")
            assert await take_incarnation(s.store, KEYS, "a") == 2

    turned(story)


def test_a_damaged_counter_is_an_error_not_a_new_beginning() -> None:
    async def story() -> None:
        async with seat() as s:
            await s.store.put(KEYS.incarnation("a"), b"what")
            with pytest.raises(ProtocolError, match="what"):
                await take_incarnation(s.store, KEYS, "a")

    turned(story)


def test_the_record_stands_as_long_as_the_lease_is_renewed_and_goes_at_once_when_it_leaves() -> None:
    async def story() -> None:
        async with seat() as s:
            await s.enter()
            await asyncio.sleep(20 * TTL)
            record = await s.record()
            assert record is not None
            assert (record.node, record.incarnation, record.address) == ("a", 1, NodeAddress("h", 1))
            assert s.membership.holds
            await s.membership.leave()
            assert await s.record() is None
            assert not s.fenced

    turned(story)


def test_a_living_node_of_the_same_id_is_a_clear_error_at_once() -> None:
    async def story() -> None:
        async with seat() as first, seat(listens=True) as second:
            await first.enter(port=1)
            before = asyncio.get_running_loop().time()
            with pytest.raises(ConfigError, match=r"node id 'a'.*h:1.*choose another system_id"):
                await second.enter(port=2)
            assert asyncio.get_running_loop().time() - before < 0.1
            record = await first.record()
            assert record is not None
            assert record.address.port == 1
            await asyncio.sleep(3 * TTL)
            assert not first.fenced

    turned(story)


def test_one_that_renews_its_lease_but_does_not_listen_is_a_duplicate_too() -> None:
    async def story() -> None:
        async with seat() as first, seat() as second:
            await first.enter(port=1)
            with pytest.raises(ConfigError, match="choose another system_id"):
                await second.enter(port=2)

    turned(story)


def test_a_restart_waits_for_what_its_earlier_life_left() -> None:
    async def story() -> None:
        async with seat() as second:
            first = Seat(second.store)
            await first.enter(port=1)
            await first.membership._tasks.stop()  # killed: no revoke, no more renewals
            before = asyncio.get_running_loop().time()
            await second.enter(port=2)
            assert TTL / 2 < asyncio.get_running_loop().time() - before <= TTL * 1.2
            record = await second.record()
            assert record is not None
            assert record.incarnation == 2

    turned(story)


def test_a_restart_on_the_same_port_need_not_wait() -> None:
    async def story() -> None:
        async with seat() as second:
            first = Seat(second.store)
            await first.enter(port=1)
            await first.membership._tasks.stop()
            before = asyncio.get_running_loop().time()
            await second.enter(port=1)
            assert asyncio.get_running_loop().time() - before < 0.1
            await asyncio.sleep(3 * TTL)  # the first lease ends, and takes nothing with it
            assert await second.record() is not None

    turned(story)


def test_a_start_that_fails_leaves_nothing_behind() -> None:
    async def story() -> None:
        async with seat() as s:
            await take_incarnation(s.store, KEYS, "a")
            s.store.plan["transact"] = ["after"]
            with pytest.raises(MetadataStoreUnavailableError):
                await s.membership.enter(NodeRecord(node="a", incarnation=1, address=NodeAddress("h", 1)))
            assert await s.record() is None

    turned(story)


def test_cut_off_from_the_store_it_stands_still_before_its_patience_is_over_and_is_fenced_once_it_knows() -> (
    None
):
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            await asyncio.sleep(10.3 * TTL)
            s.store.fall()
            fell = asyncio.get_running_loop().time()
            await asyncio.sleep(TTL)
            assert await s.record() is None
            ((paused_at, why),) = s.paused
            assert paused_at <= fell + 0.6
            assert "0.6 s" in why
            assert not s.membership.holds
            assert not s.fenced, "nobody has said so yet"
            s.store.rise()
            await asyncio.sleep(0.6)
            assert len(s.fenced) == 1
            assert not s.resumed

    turned(story)


def test_one_that_stood_still_goes_on_if_nobody_took_its_seat() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            for count in range(1, 6):
                await asyncio.sleep(TTL)
                s.store.fall()
                await asyncio.sleep(TTL * 0.5)
                assert not s.membership.holds
                s.store.rise()
                assert await s.membership.settled(1.0)
                assert len(s.paused) == len(s.resumed) == count
            assert not s.fenced
            assert await s.record() is not None

    turned(story)


def test_short_outages_are_not_noticed() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            for _ in range(20):
                await asyncio.sleep(TTL)
                s.store.fall()
                await asyncio.sleep(0.2)
                s.store.rise()
            assert not s.paused
            assert await s.record() is not None

    turned(story)


def test_answers_that_do_not_come_do_not_outlive_the_deadline() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            s.store.plan["get"] = [100.0] * 100
            await asyncio.sleep(0.6)
            assert len(s.paused) == 1
            s.store.plan["get"] = []
            await asyncio.sleep(0.6)
            assert len(s.resumed) == 1

    turned(story)


def test_a_lease_that_is_kept_by_others_keeps_the_seat_through_a_long_block() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            loop = asyncio.get_running_loop()
            entry = await s.store.get(KEYS.node("a"))
            assert entry is not None
            others = s.store.inner.attach_lease(entry.lease, TTL)
            await s.membership._tasks.stop()  # its loop stands
            for _ in range(10):
                await asyncio.sleep(TTL / 3)
                await others.refresh()
            s.membership.check()
            assert len(s.paused) == 1
            await s.membership._confirm()
            assert len(s.resumed) == 1
            assert s.membership.holds
            assert loop.time() < s.membership.deadline_ns / 1e9
            assert not s.fenced

    turned(story)


def test_a_suspicion_is_answered_within_its_patience() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            await asyncio.sleep(0.31)
            entry = await s.store.get(KEYS.node("a"))
            assert entry is not None
            marked = replace(NodeRecord.decode("a", entry.value), suspected=True)
            await s.store.compare_and_set(entry.key, entry.revision, marked.encode(), lease=entry.lease)
            await asyncio.sleep(0.3)
            record = await s.record()
            assert record is not None
            assert not record.suspected
            assert not s.paused
            assert await s.membership.update(actors=3)
            await asyncio.sleep(5 * TTL)
            assert await s.record() is not None

    turned(story)


def test_a_change_of_the_record_answers_a_suspicion_too() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            entry = await s.store.get(KEYS.node("a"))
            assert entry is not None
            marked = replace(NodeRecord.decode("a", entry.value), suspected=True)
            await s.store.compare_and_set(entry.key, entry.revision, marked.encode(), lease=entry.lease)
            assert await s.membership.update(actors=3)
            record = await s.record()
            assert record is not None
            assert (record.suspected, record.actors) == (False, 3)

    turned(story)


def test_one_that_was_evicted_while_it_stood_still_is_fenced() -> None:
    async def story() -> None:
        async with seat(patience=0.6) as s:
            await s.enter()
            s.store.fall()
            await asyncio.sleep(1)
            assert s.membership.paused
            await s.store.inner.delete(KEYS.node("a"))
            s.store.rise()
            assert not await s.membership.settled(1.0)
            assert len(s.fenced) == 1
            assert not s.resumed

    turned(story)


def test_a_lease_that_the_store_drops_early_is_taken_anew_without_a_fence() -> None:
    async def story() -> None:
        async with seat() as s:
            await s.enter()
            entry = await s.store.get(KEYS.node("a"))
            assert entry is not None
            lease = s.membership._lease
            assert lease is not None
            await s.store.inner._revoke(lease.id)  # type: ignore[attr-defined]
            assert await s.record() is None
            await asyncio.sleep(TTL / 2)
            assert await s.record() is not None
            assert not s.fenced
            assert s.regained == 1
            await asyncio.sleep(5 * TTL)
            assert await s.record() is not None

    turned(story)


def test_if_somebody_took_the_seat_meanwhile_it_is_fenced() -> None:
    async def story() -> None:
        async with seat() as s:
            await s.enter()
            lease = s.membership._lease
            assert lease is not None
            await s.store.inner._revoke(lease.id)  # type: ignore[attr-defined]
            await s.store.put(KEYS.node("a"), b"somebody else")
            await asyncio.sleep(TTL / 2)
            assert len(s.fenced) == 1

    turned(story)


def test_a_loop_that_was_held_up_finds_out_before_it_acts() -> None:
    async def story() -> None:
        async with seat() as s:
            await s.enter()
            asyncio.get_running_loop().turn(TTL)  # type: ignore[attr-defined]
            assert not s.membership.holds
            s.membership.check()
            assert len(s.paused) == 1

    turned(story)


def test_changes_of_the_record_keep_its_lease_and_survive_a_lost_answer() -> None:
    async def story() -> None:
        async with seat() as s:
            await s.enter()
            assert await s.membership.update(actors=5)
            s.store.plan["transact"] = ["after"]
            with pytest.raises(MetadataStoreUnavailableError):
                await s.membership.update(actors=6)
            assert await s.membership.update(actors=6)
            assert await s.membership.update(cordoned=True)
            record = await s.record()
            assert record is not None
            assert (record.actors, record.cordoned, record.hosts) == (6, True, False)
            await asyncio.sleep(5 * TTL)
            assert await s.record() is not None
            await s.membership.leave()
            assert await s.record() is None

    turned(story)
