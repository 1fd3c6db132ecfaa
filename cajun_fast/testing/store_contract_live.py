"""The second half of the contract suite: what happens over time (leases, locks, watches).

Laws: as in ``store_contract``, which joins the halves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cajun_fast.errors import CompactedError, LeaseLostError, MetadataStoreError
from cajun_fast.metadata.store import Compare, Delete, Event, EventKind, Lock, MetadataStore, Put, Watch
from cajun_fast.testing.store_world import StoreWorld

PATIENCE = 15.0


class LeaseContract:
    async def test_keys_end_with_their_lease(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        lease = await store.lease(world.ttl)
        await store.put_all({"a": b"1", "b": b"2"}, lease=lease.id)
        await store.put("c", b"3")
        entry = await other.get("a")
        assert entry is not None
        assert entry.lease == lease.id
        await world.advance(world.ttl * 1.1)
        await world.until(lambda: absent(other, "a"))
        assert await other.get("b") is None
        assert await other.get("c") is not None

    async def test_a_refreshed_lease_lives_on(self, world: StoreWorld) -> None:
        store = await world.open()
        lease = await store.lease(world.ttl)
        await store.put("a", b"1", lease=lease.id)
        for _ in range(4):
            await world.advance(world.ttl * 0.4)
            await lease.refresh()
        assert await store.get("a") is not None

    async def test_the_deadline_counts_from_before_the_request(self, world: StoreWorld) -> None:
        store = await world.open()
        before = store.clock.now_ns()  # type: ignore[attr-defined]
        lease = await store.lease(world.ttl)
        after = store.clock.now_ns()  # type: ignore[attr-defined]
        ttl = round(world.ttl * 1e9)
        assert lease.ttl == world.ttl
        assert before + ttl <= lease.deadline_ns <= after + ttl
        first = lease.deadline_ns
        await world.advance(world.ttl * 0.3)
        await lease.refresh()
        after = store.clock.now_ns()  # type: ignore[attr-defined]
        assert first + round(world.ttl * 0.29e9) <= lease.deadline_ns <= after + ttl

    async def test_a_lease_past_its_deadline_is_lost_for_good(self, world: StoreWorld) -> None:
        store = await world.open()
        lease = await store.lease(world.ttl)
        await store.put("a", b"1", lease=lease.id)
        await world.advance(world.ttl * 1.1)
        for _ in range(2):
            with pytest.raises(LeaseLostError):
                await lease.refresh()
        await world.until(lambda: absent(store, "a"))
        with pytest.raises(LeaseLostError):
            await store.put("a", b"2", lease=lease.id)
        await lease.revoke()

    async def test_revoking_ends_the_keys_at_once(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        lease = await store.lease(world.ttl)
        await store.put("a", b"1", lease=lease.id)
        await lease.revoke()
        assert await other.get("a") is None
        await lease.revoke()
        with pytest.raises(LeaseLostError):
            await lease.refresh()

    async def test_the_last_write_says_which_lease_a_key_has(self, world: StoreWorld) -> None:
        store = await world.open()
        one, two = await store.lease(world.ttl), await store.lease(world.ttl)
        await store.put_all({"free": b"", "moved": b"", "kept": b""}, lease=one.id)
        await store.put("free", b"")
        await store.put("moved", b"", lease=two.id)
        await one.revoke()
        assert [entry.key for entry in (await store.list("")).entries] == ["free", "moved"]
        await two.revoke()
        assert [entry.key for entry in (await store.list("")).entries] == ["free"]

    async def test_a_key_made_anew_does_not_inherit_the_lease(self, world: StoreWorld) -> None:
        store = await world.open()
        lease = await store.lease(world.ttl)
        await store.put("a", b"1", lease=lease.id)
        await store.delete("a")
        await store.put("a", b"2")
        await lease.revoke()
        assert await store.get("a") is not None

    async def test_a_lease_ends_while_others_write(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        lease = await store.lease(world.ttl)
        await store.put("leased", b"", lease=lease.id)
        done = asyncio.Event()

        async def load(name: str) -> int:
            count = 0
            while not done.is_set():
                await other.put(f"load/{name}", str(count).encode())
                count += 1
            return count

        loads = [asyncio.ensure_future(load(str(n))) for n in range(8)]
        await world.advance(world.ttl * 1.1)
        await world.until(lambda: absent(store, "leased"))
        done.set()
        counts = await asyncio.gather(*loads)
        assert all(counts)
        assert len((await store.list("load/")).entries) == 8

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
    async def test_a_lease_lasts_a_positive_time(self, store: MetadataStore, ttl: float) -> None:
        with pytest.raises(MetadataStoreError):
            await store.lease(ttl)


class LockContract:
    async def test_one_holds_the_next_waits(self, world: StoreWorld) -> None:
        one, two = await world.open(), await world.open()
        first = await one.lock("job", ttl=world.ttl)
        waiting = asyncio.ensure_future(two.lock("job", ttl=world.ttl))
        await world.until(lambda: in_line(one, "job", 2))
        assert not waiting.done()
        await first.release()
        second = await asyncio.wait_for(waiting, PATIENCE)
        assert second.token > first.token
        await first.release()
        with pytest.raises(LeaseLostError):
            await first.refresh()
        await second.refresh()

    async def test_the_token_is_a_revision_of_the_store(self, store: MetadataStore) -> None:
        before = await store.put("a", b"")
        lock = await store.lock("job", ttl=30.0)
        assert before < lock.token <= await store.put("a", b"")

    async def test_time_out_zero_tries_once(self, world: StoreWorld) -> None:
        store = await world.open()
        lock = await store.lock("job", ttl=world.ttl, timeout=0)
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError):
                await store.lock("job", ttl=world.ttl, timeout=timeout)
        await world.until(lambda: in_line(store, "job", 1))
        await lock.release()
        await (await store.lock("job", ttl=world.ttl, timeout=0)).release()

    async def test_the_order_is_that_of_arrival(self, world: StoreWorld) -> None:
        stores = [await world.open() for _ in range(3)]
        lock: Lock = await stores[0].lock("job", ttl=world.ttl * 10)
        order: list[int] = []

        async def work(n: int) -> None:
            held = await stores[n % 3].lock("job", ttl=world.ttl * 10)
            order.append(n)
            await held.release()

        tasks = []
        for n in range(6):
            tasks.append(asyncio.ensure_future(work(n)))
            await world.until(lambda n=n: in_line(stores[0], "job", n + 2))  # type: ignore[misc]
        await lock.release()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        assert order == list(range(6))

    async def test_a_holder_that_stops_refreshing_loses_it(self, world: StoreWorld) -> None:
        one, two = await world.open(), await world.open()
        first = await one.lock("job", ttl=world.ttl)
        waiting = asyncio.ensure_future(two.lock("job", ttl=world.ttl * 10))
        await world.until(lambda: in_line(one, "job", 2))
        await world.advance(world.ttl * 1.1)
        second = await asyncio.wait_for(waiting, PATIENCE)
        assert second.token > first.token
        with pytest.raises(LeaseLostError):
            await first.refresh()

    async def test_a_waiter_that_leaves_holds_nobody_up(self, world: StoreWorld) -> None:
        one, two, three = [await world.open() for _ in range(3)]
        lock = await one.lock("job", ttl=world.ttl * 10)
        leaving = asyncio.ensure_future(two.lock("job", ttl=world.ttl * 10))
        await world.until(lambda: in_line(one, "job", 2))
        staying = asyncio.ensure_future(three.lock("job", ttl=world.ttl * 10))
        await world.until(lambda: in_line(one, "job", 3))
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await world.until(lambda: in_line(one, "job", 2))
        assert not staying.done()
        await lock.release()
        await (await asyncio.wait_for(staying, PATIENCE)).release()

    async def test_cancelled_at_any_moment_it_leaves_nothing(self, world: StoreWorld) -> None:
        store = await world.open()
        for turns in range(40):
            task = asyncio.ensure_future(store.lock("job", ttl=30.0))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await (await task).release()
        await world.until(lambda: in_line(store, "job", 0))

    async def test_names_are_their_own(self, store: MetadataStore) -> None:
        for name in ("job", "job/1", "job1", "jo"):
            await store.lock(name, ttl=30.0, timeout=0)


class WatchContract:
    async def test_changes_come_in_order_and_whole(self, world: StoreWorld) -> None:
        store = await world.open()
        lease = await store.lease(world.ttl * 10)
        await store.put("k/before", b"")
        async with store.watch("k/") as watch:
            first = await store.put("k/a", b"1")
            await store.put("other", b"")
            second = await store.put("k/a", b"2", lease=lease.id)
            await store.delete("k/a")
            events = await take(watch, 3)
        put, again, delete = events
        assert (put.kind, put.entry.value, put.entry.revision) == (EventKind.PUT, b"1", first)
        assert (again.entry.value, again.entry.created, again.entry.lease) == (b"2", first, lease.id)
        assert (delete.kind, delete.entry.key, delete.entry.value) == (EventKind.DELETE, "k/a", b"")
        assert first < second < delete.entry.revision

    async def test_a_watch_counts_from_its_making(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        await store.put("k", b"before")
        watch = store.watch("k")
        await store.put("k", b"1")
        await other.put("k", b"2")
        assert [event.entry.value for event in await take(watch, 2)] == [b"1", b"2"]

    async def test_a_revision_is_exclusive(self, world: StoreWorld) -> None:
        store = await world.open()
        await store.put("k", b"0")
        revision = await store.put("k", b"1")
        await store.put("k", b"2")
        watch = store.watch("k", revision=revision)
        await store.put("k", b"3")
        assert [event.entry.value for event in await take(watch, 2)] == [b"2", b"3"]

    async def test_between_list_and_watch_nothing_is_lost(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        await store.put_all({f"k{n}": b"" for n in range(10)})
        page = await store.list("k")
        await other.delete("k3")
        await other.put("kx", b"")
        watch = store.watch("k", revision=page.revision)
        events = await take(watch, 2)
        assert [(event.kind, event.entry.key) for event in events] == [
            (EventKind.DELETE, "k3"),
            (EventKind.PUT, "kx"),
        ]

    async def test_a_transaction_comes_in_one_piece(self, world: StoreWorld) -> None:
        store = await world.open()
        await store.put("k000", b"")
        watch = store.watch("k")
        operations: list[Put | Delete] = [Delete("k000"), *(Put(f"k{n:03}", b"") for n in range(1, 128))]
        await store.transact([Compare("k000", 0)], [Put("never", b"")])
        await store.transact([], operations)
        events = await asyncio.wait_for(anext(aiter(watch)), PATIENCE)
        assert sorted(event.entry.key for event in events) == [f"k{n:03}" for n in range(128)]

    async def test_a_lease_that_ends_is_seen(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        lease = await store.lease(world.ttl)
        await store.put_all({"k1": b"", "k2": b""}, lease=lease.id)
        watch = other.watch("k")
        await other.get("k1")
        await world.advance(world.ttl * 1.1)
        events = await take(watch, 2)
        assert {(event.kind, event.entry.key) for event in events} == {
            (EventKind.DELETE, "k1"),
            (EventKind.DELETE, "k2"),
        }

    async def test_under_load_none_is_missed_and_none_doubled(self, world: StoreWorld) -> None:
        stores = [await world.open() for _ in range(3)]
        watches = [store.watch("k/") for store in stores]
        for store in stores:  # a watch is settled when its store's next call returns
            await store.ping(timeout=5.0)
        expected: dict[tuple[str, bytes], int] = {}

        async def write(store: MetadataStore, name: str) -> None:
            for n in range(60):
                expected[f"k/{name}", str(n).encode()] = await store.put(f"k/{name}", str(n).encode())

        writers = [write(stores[n % 3], str(n)) for n in range(9)]
        seen, *_ = await asyncio.gather(
            asyncio.gather(*(take(watch, 9 * 60) for watch in watches)), asyncio.gather(*writers)
        )
        for events in seen:
            revisions = [event.entry.revision for event in events]
            assert revisions == sorted(set(revisions))
            assert {(e.entry.key, e.entry.value): e.entry.revision for e in events} == expected

    async def test_a_cancelled_wait_loses_nothing(self, world: StoreWorld) -> None:
        store = await world.open()
        watch = store.watch("k")
        events: list[Event] = []
        for n in range(30):
            task = asyncio.ensure_future(anext(aiter(watch)))
            put = asyncio.ensure_future(store.put("k", str(n).encode()))
            for _ in range(n % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                events += task.result()
            await put
        events += await take(watch, 30 - len(events))
        assert [event.entry.value for event in events] == [str(n).encode() for n in range(30)]

    async def test_close_ends_the_iteration(self, world: StoreWorld) -> None:
        store = await world.open()
        watch = store.watch("k")

        async def read() -> int:
            return sum([len(events) async for events in watch])

        task = asyncio.ensure_future(read())
        await store.get("k")
        await watch.close()
        await watch.close()
        assert await asyncio.wait_for(task, PATIENCE) == 0

    async def test_one_that_fell_behind_the_log_arrives_at_the_truth(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        await store.put_all({f"k{n}": b"0" for n in range(10)})
        state = {f"k{n}": b"0" for n in range(10)}
        watch = store.watch("k")
        await store.put("k0", b"1")
        apply(state, await take(watch, 1))
        await other.delete("k3")
        await other.put("k4", b"2")
        await other.put("new", b"")
        await other.put("k-new", b"3")
        await other.put("k-short", b"4")
        await other.delete("k-short")
        await world.forget_history(other)
        last = await other.put("k9", b"end")
        async with asyncio.timeout(PATIENCE):
            async for events in watch:
                assert all(event.kind is not EventKind.RESYNC for event in events)
                apply(state, events)
                if events[-1].entry.revision >= last:
                    break
        page = await other.list("k")
        assert state == {entry.key: entry.value for entry in page.entries}
        await other.put("k9", b"after")
        assert [event.entry.value for event in await take(watch, 1)] == [b"after"]

    async def test_a_forgotten_revision_is_refused(self, world: StoreWorld) -> None:
        store = await world.open()
        revision = await store.put("k", b"")
        await store.put("k", b"")
        await world.forget_history(store)
        with pytest.raises(CompactedError):
            await asyncio.wait_for(anext(aiter(store.watch("k", revision=revision))), PATIENCE)


async def take(watch: Watch, count: int) -> list[Event]:
    """The next ``count`` events; more in the last piece is a failure."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        while len(events) < count:
            events += await anext(aiter(watch))
    assert len(events) == count
    return events


def apply(state: dict[str, bytes], events: Sequence[Event]) -> None:
    for event in events:
        if event.kind is EventKind.DELETE:
            state.pop(event.entry.key, None)
        else:
            state[event.entry.key] = event.entry.value


async def absent(store: MetadataStore, key: str) -> bool:
    return await store.get(key) is None


async def in_line(store: MetadataStore, name: str, count: int) -> bool:
    return len((await store.list(name + "/")).entries) == count
