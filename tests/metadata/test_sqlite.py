"""What only sqlite:// can suffer: other processes, kill -9, a thread of its own."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from cajun_fast.clock import ManualClock
from cajun_fast.errors import (
    LeaseLostError,
    MetadataStoreUnavailableError,
    NotRunningError,
)
from cajun_fast.metadata import Compare, Delete, EventKind, Put, sqlite_worker
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.sqlite import SqliteMetadataStore
from cajun_fast.metadata.sqlite_tables import ROWS, Tables

PATIENCE = 20.0

PAIRS = """
import asyncio, sys
from cajun_fast.metadata import Put, open_store
async def main():
    store = open_store(sys.argv[1])
    await store.connect()
    print("ready", flush=True)
    async def pairs(name):
        n = 0
        while True:
            n += 1
            value = str(n).encode()
            await store.transact([], [Put(f"a/{name}", value), Put(f"b/{name}", value)])
    await asyncio.gather(*map(pairs, range(8)))
asyncio.run(main())
"""
HOLDER = """
import asyncio, sys
from cajun_fast.metadata import open_store
async def main():
    store = open_store(sys.argv[1])
    await store.connect()
    lock = await store.lock("job", ttl=1.0)
    await store.put("held", b"", lease=lock.lease.id)
    print(lock.token, flush=True)
    while True:
        await asyncio.sleep(0.3)
        await lock.refresh()
asyncio.run(main())
"""
WRITER = """
import asyncio, sys, time
from cajun_fast.metadata import open_store
async def main():
    store = open_store(sys.argv[1])
    await store.connect()
    for n in range(40):
        await store.put("k", str(time.monotonic_ns()).encode())
        await asyncio.sleep(0.013)
    await store.close()
asyncio.run(main())
"""


@asynccontextmanager
async def process(code: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, url, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@asynccontextmanager
async def opened(path: Path, **settings: object) -> AsyncIterator[SqliteMetadataStore]:
    store = SqliteMetadataStore(path, **settings)  # type: ignore[arg-type]
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


async def line_of(child: asyncio.subprocess.Process) -> str:
    assert child.stdout is not None
    return (await asyncio.wait_for(child.stdout.readline(), PATIENCE)).decode().strip()


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


# ---- other processes


async def test_a_writer_killed_at_any_moment_leaves_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    chance = random.Random(5)
    async with opened(path) as store:
        before = 0
        for _ in range(6):
            async with process(PAIRS, url_of(path)) as child:
                assert await line_of(child) == "ready"
                await asyncio.sleep(chance.uniform(0.02, 0.15))  # the moment is the point, not the wait
                child.send_signal(signal.SIGKILL)
                await child.wait()
            page = await store.list("")
            values = {entry.key: (entry.value, entry.revision) for entry in page.entries}
            assert all(values[f"a/{n}"] == values[f"b/{n}"] for n in range(8))
            assert page.revision > before
            before = await store.put("own", b"")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_lock_passes_on_after_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    async with opened(path) as store, process(HOLDER, url_of(path)) as child:
        token = int(await line_of(child))
        with pytest.raises(TimeoutError):
            await store.lock("job", ttl=5.0, timeout=1.5)  # longer than its lease: it refreshes
        waiting = asyncio.ensure_future(store.lock("job", ttl=5.0))
        child.kill()
        await child.wait()
        lock = await asyncio.wait_for(waiting, PATIENCE)
        assert lock.token > token
        assert await store.get("held") is None


async def test_a_watch_sees_another_process_within_50_ms(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    delays: list[int] = []
    async with opened(path) as store:
        watch = store.watch("k")
        await store.ping()
        async with process(WRITER, url_of(path)) as child, asyncio.timeout(PATIENCE):
            while len(delays) < 40:
                events = await anext(aiter(watch))
                now = time.monotonic_ns()
                delays += [now - int(event.entry.value) for event in events]
            await child.wait()
    assert (
        sorted(delays)[20] < 50e6
    )  # the median: this machine has other work; bench/test_stores.py has the p99


async def test_the_end_of_a_lease_is_seen_without_anybody_asking(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.db") as one, opened(tmp_path / "c.db") as two:
        watch = two.watch("k")
        await two.ping()
        lease = await one.lease(0.2)
        await one.put("k", b"", lease=lease.id)
        kinds: list[EventKind] = []
        async with asyncio.timeout(PATIENCE):
            while len(kinds) < 2:
                kinds += [event.kind for event in await anext(aiter(watch))]
        assert kinds == [EventKind.PUT, EventKind.DELETE]


async def test_many_create_the_same_file_at_once(tmp_path: Path) -> None:
    stores = [SqliteMetadataStore(tmp_path / "c.db") for _ in range(8)]
    await asyncio.gather(*(store.connect() for store in stores))
    revisions = await asyncio.gather(*(store.put("k", b"") for store in stores))
    assert sorted(revisions) == list(range(1, 9))
    await asyncio.gather(*(store.close() for store in stores))


async def test_who_locks_it_for_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path, options=StoreOptions(timeout=0.2)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as rude:
            rude.execute("BEGIN IMMEDIATE")
            with pytest.raises(MetadataStoreUnavailableError, match=r"c\.db.*locked"):
                await store.put("k", b"")
            waiting = asyncio.ensure_future(store.put("k", b"1"))
            await asyncio.sleep(0.02)
            assert not waiting.done()
            rude.execute("COMMIT")
            assert await waiting == 1


async def test_a_ping_has_an_end_while_another_process_locks(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path, options=StoreOptions(timeout=0.3)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as rude:
            rude.execute("BEGIN IMMEDIATE")
            blocked = asyncio.ensure_future(store.put("k", b""))
            await asyncio.sleep(0.02)  # now the thread waits with it
            with pytest.raises(MetadataStoreUnavailableError, match="ping"):
                await store.ping(timeout=0.05)
            with pytest.raises(MetadataStoreUnavailableError):
                await blocked


# ---- the thread


async def test_what_waits_together_shares_a_transaction(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.db") as store:
        frames = wal_commits(store)
        await asyncio.gather(*(store.put(f"k{n}", b"") for n in range(64)))
        assert wal_commits(store) - frames <= 8


def wal_commits(store: SqliteMetadataStore) -> int:
    """Commit frames of the write-ahead log, read from the file."""
    data = Path(f"{store.path}-wal").read_bytes()
    frame = 24 + int.from_bytes(data[8:12], "big")
    return sum(data[at + 4 : at + 8] != bytes(4) for at in range(32, len(data), frame))


@asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Another process is in the middle of a transaction, or its disk is."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


def batch(name: str) -> list[Put]:
    return [Put(f"{name}/{n}", b"") for n in range(3)]


async def test_a_read_waits_for_no_writer(tmp_path: Path) -> None:
    """A node's look at its own seat: it must come in time whatever is written, by whom, and how slow the disk is."""
    path = tmp_path / "c.db"
    async with opened(path) as store:
        before = await store.put("seat", b"mine")
        async with locked(path):
            blocked = asyncio.ensure_future(store.transact([], batch("claims")))
            for _ in range(10):
                await asyncio.sleep(0.01)
                entry = await store.get("seat")
                assert entry is not None
                assert entry.revision == before
                assert len((await store.list("")).entries) == 1
            assert not blocked.done()
        assert (await blocked).succeeded
        assert len((await store.list("")).entries) == 4


async def test_a_read_comes_after_the_watch_that_was_opened_before_it(tmp_path: Path) -> None:
    """The threads are two, and what a watch tells begins before its store's next call, reads too."""
    path = tmp_path / "c.db"
    async with opened(path) as store, opened(path) as other:
        watch = store.watch("k")
        with closing(sqlite3.connect(path, isolation_level=None)) as rude:
            rude.execute("BEGIN IMMEDIATE")
            blocked = asyncio.ensure_future(store.put("mine", b""))
            await asyncio.sleep(0.02)  # now the thread that writes waits
            late = store.watch("k")
            read = asyncio.ensure_future(store.get("k"))
            await asyncio.sleep(0.05)
            assert not read.done()
            rude.execute("COMMIT")
        await blocked
        assert await read is None
        await other.put("k", b"")
        async with asyncio.timeout(PATIENCE):
            for each in (watch, late):
                assert [event.entry.key for event in await anext(aiter(each))] == ["k"]


async def test_what_is_short_goes_before_the_batches_that_wait(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path) as store:
        lease = await store.lease(30.0)
        async with locked(path):
            batches = [asyncio.ensure_future(store.transact([], batch(f"b{n}"))) for n in range(20)]
            await asyncio.sleep(0.05)  # the thread waits with them
            short = asyncio.ensure_future(store.put("seat", b"", lease=lease.id))
            renewed = asyncio.ensure_future(lease.refresh())
            await asyncio.sleep(0.05)
        await renewed
        outcomes = await asyncio.gather(*batches)
        assert await short < min(outcome.revision for outcome in outcomes)
        revisions = [outcome.revision for outcome in outcomes]
        assert revisions == sorted(revisions), "batches keep their order"


async def test_a_group_ends_when_its_time_is_over_and_the_rest_follows_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_worker, "LONGEST_GROUP", -1.0)  # each long job uses it up
    path = tmp_path / "c.db"
    async with opened(path) as store:
        frames = wal_commits(store)
        async with locked(path):
            batches = [asyncio.ensure_future(store.transact([], batch(f"b{n}"))) for n in range(10)]
            puts = [asyncio.ensure_future(store.put(f"k{n}", b"")) for n in range(10)]
            await asyncio.sleep(0.05)
        revisions = [outcome.revision for outcome in await asyncio.gather(*batches)]
        assert revisions == sorted(revisions)
        assert len(await asyncio.gather(*puts)) == 10
        assert wal_commits(store) - frames >= 10


async def test_a_read_that_finds_a_lease_over_ends_it_first(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path / "c.db", lease_clock=clock) as store:
        lease = await store.lease(5.0)
        await store.put("k", b"", lease=lease.id)
        assert await store.get("k") is not None
        clock.advance(6.0)
        assert await store.get("k") is None
        assert (await store.list("")).entries == ()


async def test_one_that_refuses_does_not_disturb_its_group(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.db") as store:
        results = await asyncio.gather(
            store.put("a", b""),
            store.put("b", b"", lease=4711),
            store.transact([Compare("a", 99)], [Put("c", b"")]),
            store.put("d", b""),
            return_exceptions=True,
        )
        assert results[0] == 1
        assert isinstance(results[1], LeaseLostError)
        assert results[3] == 2
        assert [entry.key for entry in (await store.list("")).entries] == ["a", "d"]


async def test_a_cancelled_write_that_waits_is_not_done(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            first = asyncio.ensure_future(store.put("first", b""))
            await asyncio.sleep(0.05)  # the thread waits with the first
            second = asyncio.ensure_future(store.put("second", b""))
            await asyncio.sleep(0)
            second.cancel()
            other.execute("COMMIT")
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        await store.ping()
        assert await store.get("second") is None


async def test_close_ends_what_waits_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as rude:
            rude.execute("BEGIN IMMEDIATE")
            waiting = [asyncio.ensure_future(store.put("k", b"")) for _ in range(3)]
            await asyncio.sleep(0.05)
            async with asyncio.timeout(2):
                await store.close()
            for task in waiting:
                with pytest.raises((NotRunningError, MetadataStoreUnavailableError)):
                    await task


async def test_the_log_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path, history=100) as store:
        for _ in range(10):
            await asyncio.gather(*(store.put("k", b"") for _ in range(100)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM log").fetchone()[0] <= 400
        assert connection.execute("SELECT floor FROM state").fetchone()[0] >= 600


def test_a_transaction_of_many_keys_is_a_few_statements(tmp_path: Path) -> None:
    """Each step of a statement waits for Python's lock: with 300 of them a batch took a second beside a busy loop."""
    connection = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    tables = Tables(connection, time.monotonic_ns, 1000)
    tables.create("boot")
    keys = [f"/k{n:03}" for n in range(2 * ROWS + 1)]
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    try:
        assert tables.transact(
            [Compare(key, 0) for key in keys], [Put(key, key.encode()) for key in keys]
        ).succeeded
        assert len(statements) <= 3 * 3
        written = tables.changes("/k", 0)
        assert written is not None
        assert [event.entry.key for event in written.events] == keys
        assert {event.entry.created for event in written.events} == {1}
        wrong = [*(Compare(key, 1) for key in keys[:-1]), Compare(keys[-1], 7)]
        refused = tables.transact(wrong, [Put(keys[0], b"no")])
        assert not refused.succeeded
        assert refused.current[keys[-1]].revision == 1
        assert tables.transact(
            [Compare(key, 1) for key in keys], [Delete(keys[1]), Put(keys[0], b"yes")]
        ).succeeded
        written = tables.changes("/k", 1)
        assert written is not None
        assert [(event.kind, event.entry.key, event.entry.created) for event in written.events] == [
            (EventKind.DELETE, keys[1], 0),
            (EventKind.PUT, keys[0], 1),
        ]
    finally:
        connection.close()
