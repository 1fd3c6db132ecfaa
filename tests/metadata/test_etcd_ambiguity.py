"""Answers lost on the way: a proxy delivers every request, and cuts the line instead of the reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from cajun_fast.errors import MetadataStoreUnavailableError
from cajun_fast.metadata import Compare, Delete, Put
from cajun_fast.metadata.etcd import EtcdMetadataStore
from cajun_fast.metadata.etcd_wire import COMPACT, DELETE, RANGE, TXN
from cajun_fast.metadata.store import Event, EventKind
from cajun_fast.testing.etcd import EtcdCluster

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(60)]


class Proxy:
    """Requests always pass; while ``mute``, replies do not, and the line is cut when the first one came."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self.mute = False
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        forth = asyncio.ensure_future(self._pump(reader, there_writer, replies=False))
        back = asyncio.ensure_future(self._pump(there_reader, writer, replies=True))
        self._tasks |= {forth, back}
        try:
            await asyncio.wait((forth, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (forth, back):
                task.cancel()
            for end in (writer, there_writer):
                end.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await source.read(65536):
            if replies and self.mute:
                await asyncio.sleep(0.05)  # let the server finish what it was sent
                self.cuts += 1
                self.mute = False
                return
            sink.write(data)


@asynccontextmanager
async def lossy(server: EtcdCluster, **settings: Any) -> AsyncIterator[tuple[EtcdMetadataStore, Proxy]]:
    async with Proxy(server.url) as proxy:
        store = EtcdMetadataStore(proxy.url, **settings)
        await store.connect()
        wire = store._parts()[0]
        await wire.call(DELETE, wire.types.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
        try:
            yield store, proxy
        finally:
            proxy.mute = False
            await store.close()


async def history(store: EtcdMetadataStore, revision: int, last: int) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(10), store.watch("", revision=revision) as watch:
        while not events or events[-1].entry.revision < last:
            events += await anext(aiter(watch))
    return events


async def test_a_create_whose_answer_is_lost_was_done_once(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy):
        begin = await store.put("begin", b"")
        proxy.mute = True
        outcome = await store.compare_and_set("owner", 0, b"me")
        assert proxy.cuts == 1
        assert outcome.succeeded
        entry = await store.get("owner")
        assert entry is not None
        assert (entry.value, entry.revision) == (b"me", outcome.revision)
        assert len(await history(store, begin, outcome.revision)) == 1


async def test_an_equal_create_of_somebody_else_is_not_taken_for_ours(etcd_server: EtcdCluster) -> None:
    """Also where theirs comes between our lost attempt, which was refused, and our reading."""
    async with lossy(etcd_server) as (store, proxy), lossy(etcd_server) as (other, _):
        await other.put("owner", b"same")
        proxy.mute = True
        outcome = await store.compare_and_set("owner", 0, b"same")
        assert proxy.cuts == 1
        assert not outcome.succeeded
        assert outcome.current["owner"].value == b"same"


async def test_a_put_is_done_once(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy):
        begin = await store.put("k", b"0")
        for n in range(5):
            proxy.mute = True
            revision = await store.put("k", str(n).encode())
            entry = await store.get("k")
            assert entry is not None
            assert entry.revision == revision
        events = await history(store, begin, revision)
        assert [event.entry.value for event in events] == [b"0", b"1", b"2", b"3", b"4"]
        assert proxy.cuts >= 5


async def test_a_put_all_is_done_once(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy):
        begin = await store.put("begin", b"")
        proxy.mute = True
        await store.put_all({f"k{n}": b"" for n in range(300)})
        end = await store.put("end", b"")
        assert proxy.cuts == 1
        assert end == begin + 4
        assert len(await history(store, begin, end)) == 301


async def test_a_delete_is_done_once_and_says_that_it_existed(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy):
        begin = await store.put("k", b"0")
        proxy.mute = True
        assert await store.delete("k") is True
        assert proxy.cuts == 1
        assert await store.delete("k") is False
        assert await store.put("end", b"") == begin + 2


async def test_a_compared_delete_that_is_lost_is_said_to_be_unknown(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy):
        revision = await store.put("k", b"0")
        proxy.mute = True
        with pytest.raises(MetadataStoreUnavailableError, match="by it or by somebody"):
            await store.compare_and_set("k", revision, None)
        assert proxy.cuts == 1
        assert await store.get("k") is None


async def test_a_transaction_is_done_once(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy):
        revision = await store.put("old", b"0")
        proxy.mute = True
        outcome = await store.transact([Compare("old", revision)], [Delete("old"), Put("new", b"1")])
        assert outcome.succeeded
        assert outcome.revision == revision + 1
        events = await history(store, revision, outcome.revision)
        assert sorted((event.kind.value, event.entry.key) for event in events) == [
            (EventKind.DELETE.value, "old"),
            (EventKind.PUT.value, "new"),
        ]


async def test_a_lease_and_a_lock_are_taken_once(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy):
        proxy.mute = True
        lease = await store.lease(30.0)
        await store.put("k", b"", lease=lease.id)
        proxy.mute = True
        await lease.refresh()
        proxy.mute = True
        lock = await store.lock("job", ttl=30.0)
        proxy.mute = True
        await lock.release()
        proxy.mute = True
        await (await store.lock("job", ttl=30.0)).release()
        assert proxy.cuts >= 5
        assert (await store.list("job/")).entries == ()


async def test_what_was_overwritten_often_is_still_found(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy), lossy(etcd_server) as (other, _):
        revision = await store.put("k", b"0")
        wire = store._parts()[0]
        original = wire.call

        async def and_others_write(call: Any, request: Any, **how: Any) -> Any:
            if call is RANGE and not request.revision:
                for n in range(100):
                    await other.put("k", str(n).encode())
            return await original(call, request, **how)

        wire.call = and_others_write  # type: ignore[method-assign]
        proxy.mute = True
        outcome = await store.compare_and_set("k", revision, b"mine")
        assert proxy.cuts == 1
        assert outcome.succeeded
        assert outcome.revision == revision + 1


async def test_where_history_is_gone_the_outcome_is_said_to_be_unknown(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (store, proxy), lossy(etcd_server) as (other, _):
        revision = await store.put("k", b"0")
        wire = store._parts()[0]
        original = wire.call

        async def and_others_compact(call: Any, request: Any, **how: Any) -> Any:
            if call is RANGE and not request.revision:
                await other.put("k", b"1")
                last = await other.put("k", b"2")
                await original(COMPACT, wire.types.CompactionRequest(revision=last, physical=True))
            return await original(call, request, **how)

        wire.call = and_others_compact  # type: ignore[method-assign]
        proxy.mute = True
        with pytest.raises(MetadataStoreUnavailableError, match="compacted"):
            await store.compare_and_set("k", revision, b"mine")


async def test_an_attempt_that_comes_late_does_nothing(etcd_server: EtcdCluster) -> None:
    """A stopped server may take a request out of its buffers long after another attempt was answered."""
    async with lossy(etcd_server) as (store, _), lossy(etcd_server) as (other, _):
        await store.put("k", b"0")
        wire = store._parts()[0]
        original, kept = wire.call, []

        async def keep(call: Any, request: Any, **how: Any) -> Any:
            if call is TXN:
                kept.append(request)
            return await original(call, request, **how)

        wire.call = keep  # type: ignore[method-assign]
        await store.put("k", b"mine")
        await store.delete("gone")
        await other.put("k", b"newer")
        for request in kept:
            await original(TXN, request)
        entry = await other.get("k")
        assert entry is not None
        assert entry.value == b"newer"


async def test_counting_with_lost_answers_is_exact(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (one, proxy), lossy(etcd_server) as (two, other_proxy):
        done = 0

        async def count(store: EtcdMetadataStore) -> None:
            nonlocal done
            for _ in range(40):
                while True:
                    entry = await store.get("sum")
                    value, revision = (int(entry.value), entry.revision) if entry else (0, 0)
                    outcome = await store.compare_and_set("sum", revision, str(value + 1).encode())
                    if outcome.succeeded:
                        done += 1
                        if done % 15 == 0:
                            proxy.mute = other_proxy.mute = True
                        break

        await asyncio.gather(*(count(store) for store in (one, two) * 3))
        proxy.mute = other_proxy.mute = False
        entry = await one.get("sum")
        assert entry is not None
        assert int(entry.value) == done == 240
        assert proxy.cuts + other_proxy.cuts > 5


async def test_a_watch_over_a_line_that_is_cut_misses_and_doubles_nothing(etcd_server: EtcdCluster) -> None:
    async with lossy(etcd_server) as (watcher, proxy), lossy(etcd_server) as (writer, _):
        watch = watcher.watch("k")
        await watcher.ping(timeout=5.0)
        events: list[Event] = []
        for n in range(100):
            await writer.put("k", str(n).encode())
            if n % 10 == 5:
                proxy.mute = True
                await until(lambda: not proxy.mute, watcher)
            if n % 3 == 0:
                events += await asyncio.wait_for(anext(aiter(watch)), 10)
        while len(events) < 100:
            events += await asyncio.wait_for(anext(aiter(watch)), 10)
        assert [event.entry.value for event in events] == [str(n).encode() for n in range(100)]
        assert proxy.cuts >= 10


async def until(check: Callable[[], bool], store: EtcdMetadataStore) -> None:
    async with asyncio.timeout(10):
        while not check():
            await store.get("anything")
