"""The contract suite of metadata stores: every sentence of ``cajun_fast.metadata.store`` as a test.

Laws: a store is seen only through its interface and a StoreWorld, which opens views of one truth and turns
its time. No test sleeps and hopes: it waits for a condition, with an end. Runs under pytest with
pytest-asyncio in auto mode::

    class TestMyStore(StoreContract):
        async def make_world(self, tmp_path):
            return MyWorld(tmp_path)

This file holds the suite's first half and joins both; leases, locks and watches are in
``store_contract_live``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from cajun_fast.errors import LeaseLostError, MetadataStoreError, NotRunningError
from cajun_fast.metadata.store import Compare, Delete, Entry, MetadataStore, Put
from cajun_fast.testing.store_contract_live import LeaseContract, LockContract, WatchContract, in_line
from cajun_fast.testing.store_world import StoreWorld

__all__ = ["StoreContract", "StoreWorld"]


class EntryContract:
    """Keys, values, revisions."""

    async def test_an_absent_key_has_no_entry(self, store: MetadataStore) -> None:
        assert await store.get("absent") is None

    async def test_a_written_entry_comes_back_whole(self, store: MetadataStore) -> None:
        revision = await store.put("a", b"1")
        assert await store.get("a") == Entry("a", b"1", revision, revision, 0)

    async def test_every_write_has_a_higher_revision(self, store: MetadataStore) -> None:
        revisions = [await store.put(key, b"") for key in ("a", "b", "a", "c")]
        assert revisions == sorted(set(revisions))

    async def test_created_stays_until_the_key_is_deleted(self, store: MetadataStore) -> None:
        first = await store.put("a", b"1")
        await store.put("a", b"2")
        assert (await present(store, "a")).created == first
        await store.delete("a")
        again = await store.put("a", b"3")
        assert (await present(store, "a")).created == again > first

    async def test_delete_says_whether_the_key_existed(self, store: MetadataStore) -> None:
        await store.put("a", b"1")
        assert await store.delete("a") is True
        assert await store.delete("a") is False
        assert await store.get("a") is None

    async def test_deleting_an_absent_key_is_no_change(self, store: MetadataStore) -> None:
        before = await store.put("a", b"")
        await store.delete("absent")
        assert await store.put("b", b"") == before + 1

    async def test_all_views_see_one_truth(self, world: StoreWorld) -> None:
        one, two = await world.open(), await world.open()
        first = await one.put("a", b"1")
        assert (await present(two, "a")).revision == first
        assert await two.put("a", b"2") == first + 1
        assert (await present(one, "a")).value == b"2"

    @pytest.mark.parametrize("value", [b"", b"\0\xff" * 10, bytes(1 << 20)], ids=["empty", "binary", "1 MiB"])
    async def test_any_bytes_are_a_value(self, store: MetadataStore, value: bytes) -> None:
        await store.put("a", value)
        assert (await present(store, "a")).value == value

    @pytest.mark.parametrize("key", ["ü/日本/🐎", "a b", "%2F", "\x01", "\U0010ffff", "x" * 1000])
    async def test_any_text_is_a_key(self, store: MetadataStore, key: str) -> None:
        await store.put(key, b"1")
        assert (await present(store, key)).key == key
        assert [entry.key for entry in (await store.list(key)).entries] == [key]

    @pytest.mark.parametrize("key", ["", "a\0b", "\ud800"])
    async def test_a_bad_key_is_refused(self, store: MetadataStore, key: str) -> None:
        with pytest.raises(MetadataStoreError):
            await store.put(key, b"")
        with pytest.raises(MetadataStoreError):
            await store.get(key)

    @pytest.mark.parametrize("value", ["text", None, bytearray(b"x"), bytes((1 << 20) + 1)])
    async def test_a_bad_value_is_refused(self, store: MetadataStore, value: bytes) -> None:
        with pytest.raises(MetadataStoreError):
            await store.put("a", value)
        assert await store.get("a") is None

    async def test_put_all_writes_every_key(self, store: MetadataStore) -> None:
        values = {f"k{n:04}": str(n).encode() for n in range(1000)}
        await store.put_all(values)
        page = await store.list("k", limit=2000)
        assert {entry.key: entry.value for entry in page.entries} == values

    async def test_put_all_splits_what_is_large_together(self, store: MetadataStore) -> None:
        values = {f"k{n}": bytes(400_000) for n in range(8)}
        await store.put_all(values)
        for key in values:
            assert len((await present(store, key)).value) == 400_000

    async def test_put_all_checks_everything_before_it_writes(self, store: MetadataStore) -> None:
        values = {f"k{n}": b"" for n in range(300)} | {"": b""}
        with pytest.raises(MetadataStoreError):
            await store.put_all(values)
        assert (await store.list("k")).entries == ()


class TransactionContract:
    async def test_a_failed_compare_writes_nothing_and_tells_what_stands(self, store: MetadataStore) -> None:
        revision = await store.put("a", b"1")
        compares = [Compare("a", revision + 1), Compare("b", 0)]
        outcome = await store.transact(compares, [Put("a", b"2"), Put("c", b"3")])
        assert not outcome.succeeded
        assert outcome.current == {"a": Entry("a", b"1", revision, revision)}
        assert outcome.revision == revision
        assert await store.get("c") is None

    @pytest.mark.parametrize("which", [0, 1])
    async def test_every_compare_counts(self, store: MetadataStore, which: int) -> None:
        compares = [Compare("a", await store.put("a", b"")), Compare("b", await store.put("b", b""))]
        compares[which] = Compare(compares[which].key, 1_000_000_000)
        assert not (await store.transact(compares, [Delete("a")])).succeeded
        assert await store.get("a") is not None

    async def test_a_transaction_is_one_revision(self, store: MetadataStore) -> None:
        await store.put("b", b"")
        outcome = await store.transact([Compare("a", 0)], [Put("a", b"1"), Delete("b"), Put("c", b"2")])
        assert outcome.succeeded
        assert {(await present(store, key)).revision for key in "ac"} == {outcome.revision}
        assert await store.get("b") is None

    async def test_revision_zero_means_absent(self, store: MetadataStore) -> None:
        assert (await store.compare_and_set("a", 0, b"1")).succeeded
        assert not (await store.compare_and_set("a", 0, b"2")).succeeded
        assert (await present(store, "a")).value == b"1"

    async def test_compare_and_set_can_delete(self, store: MetadataStore) -> None:
        revision = await store.put("a", b"1")
        assert not (await store.compare_and_set("a", revision - 1, None)).succeeded
        assert (await store.compare_and_set("a", revision, None)).succeeded
        assert await store.get("a") is None

    async def test_compares_alone_are_a_question(self, store: MetadataStore) -> None:
        revision = await store.put("a", b"1")
        outcome = await store.transact([Compare("a", revision)], [])
        assert (outcome.succeeded, outcome.revision) == (True, revision)

    async def test_the_limit_is_128_operations(self, store: MetadataStore) -> None:
        await store.transact([], [Put(f"k{n:03}", b"") for n in range(128)])
        with pytest.raises(MetadataStoreError):
            await store.transact([], [Put(f"q{n:03}", b"") for n in range(129)])
        assert len((await store.list("k")).entries) == 128
        assert (await store.list("q")).entries == ()

    async def test_a_key_is_written_once_in_a_transaction(self, store: MetadataStore) -> None:
        with pytest.raises(MetadataStoreError):
            await store.transact([], [Put("a", b"1"), Delete("a")])
        assert await store.get("a") is None

    async def test_an_unknown_lease_stops_the_whole_transaction(self, store: MetadataStore) -> None:
        with pytest.raises(LeaseLostError):
            await store.transact([], [Put("a", b"1"), Put("b", b"2", lease=4711)])
        assert await store.get("a") is None

    async def test_of_many_creators_one_wins(self, world: StoreWorld) -> None:
        stores = [await world.open() for _ in range(3)]
        tries = [stores[n % 3].compare_and_set("owner", 0, str(n).encode()) for n in range(30)]
        outcomes = await asyncio.gather(*tries)
        (winner,) = (n for n, outcome in enumerate(outcomes) if outcome.succeeded)
        assert (await present(stores[0], "owner")).value == str(winner).encode()
        losers = [outcome for outcome in outcomes if not outcome.succeeded]
        assert all(outcome.current["owner"].value == str(winner).encode() for outcome in losers)

    async def test_counting_by_compare_and_set_loses_nothing(self, world: StoreWorld) -> None:
        stores = [await world.open() for _ in range(2)]

        async def count(store: MetadataStore) -> None:
            for _ in range(10):
                while True:
                    entry = await store.get("sum")
                    value = int(entry.value) + 1 if entry else 1
                    revision = entry.revision if entry else 0
                    if (await store.compare_and_set("sum", revision, str(value).encode())).succeeded:
                        break

        await asyncio.gather(*(count(store) for store in stores * 3))
        assert (await present(stores[0], "sum")).value == b"60"


class ListContract:
    async def test_a_listing_is_in_the_order_of_utf8(self, store: MetadataStore) -> None:
        keys = [
            "p",
            "p/",
            "p/a",
            "p/a/b",
            "p/ü",
            "p/日",
            "p/\U0001f40e",
            "p/\U0010ffff",
            "p/\U0010ffffx",
            "q",
        ]
        await store.put_all(dict.fromkeys(reversed(keys), b""))
        assert [entry.key for entry in (await store.list("p/")).entries] == keys[1:-1]
        assert [entry.key for entry in (await store.list("")).entries] == keys

    @pytest.mark.parametrize("limit", [1, 7, 50, 99, 100, 101])
    async def test_pages_cover_everything_once(self, store: MetadataStore, limit: int) -> None:
        await store.put_all({f"k{n:03}": b"" for n in range(100)} | {"j": b"", "l": b""})
        assert await listed(store, "k", limit) == [f"k{n:03}" for n in range(100)]

    async def test_a_page_without_more_says_so(self, store: MetadataStore) -> None:
        await store.put_all({"k1": b"", "k2": b""})
        assert (await store.list("k", limit=1)).after == "k1"
        assert (await store.list("k", limit=2)).after is None
        assert (await store.list("x")).entries == ()

    async def test_pages_while_writing_miss_nothing_that_stands(self, world: StoreWorld) -> None:
        store, other = await world.open(), await world.open()
        await store.put_all({f"k{n:03}": b"old" for n in range(0, 200, 2)})
        seen: Counter[str] = Counter()
        page = await store.list("k", limit=10)
        first = page.revision
        ahead = 199
        while True:
            seen.update(entry.key for entry in page.entries)
            if world.keeps_revisions:
                assert all(entry.value == b"old" for entry in page.entries)
            if page.after is None:
                break
            await other.put_all({f"k{ahead:03}": b"new", f"k{ahead - 1:03}": b"new"})
            ahead -= 2
            page = await store.list("k", limit=10, after=page.after, revision=first)
            assert page.revision == first or not world.keeps_revisions
        assert all(seen[f"k{n:03}"] == 1 for n in range(0, 200, 2))
        assert max(seen.values()) == 1

    async def test_a_page_has_at_least_one_place(self, store: MetadataStore) -> None:
        with pytest.raises(MetadataStoreError):
            await store.list("k", limit=0)


class LifeContract:
    async def test_before_connect_and_after_close_nothing_works(self, world: StoreWorld) -> None:
        store = world.make()
        await refuses_everything(store)
        await store.connect()
        await store.put("a", b"")
        with pytest.raises(MetadataStoreError):
            await store.connect()
        await store.close()
        await store.close()
        await refuses_everything(store)
        with pytest.raises(NotRunningError):
            await store.connect()

    async def test_close_ends_what_waits(self, world: StoreWorld) -> None:
        holder, store = await world.open(), await world.open()
        lock = await holder.lock("busy", ttl=world.ttl)
        watch = store.watch("quiet")
        waiting = [
            asyncio.ensure_future(store.lock("busy", ttl=world.ttl)),
            asyncio.ensure_future(anext(aiter(watch))),
        ]
        await world.until(lambda: in_line(holder, "busy", 2))
        await store.close()
        for task in waiting:
            with pytest.raises(NotRunningError):
                await asyncio.wait_for(task, 5)
        await lock.release()

    async def test_close_leaves_no_task_behind(self, world: StoreWorld) -> None:
        before = asyncio.all_tasks()
        store = world.make()
        await store.connect()
        watch = store.watch("a")
        await store.put("a", b"")
        await anext(aiter(watch))
        await store.lock("lock", ttl=world.ttl)
        await store.close()
        for _ in range(300):  # a client library's own may need a few turns to end; one that stays is a leak
            if not asyncio.all_tasks() - before:
                break
            await asyncio.sleep(0.01)
        assert asyncio.all_tasks() - before == set()

    async def test_a_ping_returns(self, store: MetadataStore) -> None:
        await store.ping(timeout=5.0)


async def refuses_everything(store: MetadataStore) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        store.ping,
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: store.delete("a"),
        lambda: store.put_all({"a": b""}),
        lambda: store.list(""),
        lambda: store.transact([], [Put("a", b"")]),
        lambda: store.lease(5.0),
        lambda: store.lock("a", ttl=5.0),
    ]
    for call in calls:
        with pytest.raises(NotRunningError):
            await call()
    with pytest.raises(NotRunningError):
        store.watch("a")


async def present(store: MetadataStore, key: str) -> Entry:
    entry = await store.get(key)
    assert entry is not None, f"{key!r} should exist"
    return entry


async def listed(store: MetadataStore, prefix: str, limit: int) -> list[str]:
    page = await store.list(prefix, limit=limit)
    keys, first = [entry.key for entry in page.entries], page.revision
    while page.after is not None:
        page = await store.list(prefix, limit=limit, after=page.after, revision=first)
        assert page.entries
        assert len(page.entries) <= limit
        keys += [entry.key for entry in page.entries]
    return keys


class StoreContract(
    EntryContract, TransactionContract, ListContract, LifeContract, LeaseContract, LockContract, WatchContract
):
    """All of it: subclass, and make the world."""

    async def make_world(self, tmp_path: Path) -> StoreWorld:
        raise NotImplementedError("return a StoreWorld for your store")

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[StoreWorld]:
        world = await self.make_world(tmp_path)
        try:
            yield world
        finally:
            await world.close()

    @pytest.fixture
    async def store(self, world: StoreWorld) -> MetadataStore:
        return await world.open()
