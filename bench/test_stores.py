"""The metadata stores: writes one after the other, 64 at a time and in batches, watches, keepalives under
load.

In one run beside a bare ``grpc.aio`` call, which is what any client of etcd pays at least. Latencies are in
extra_info (``--benchmark-json``), and printed with ``-s``. CAJUN_BENCH_KEYS sets how many keys are registered
and listed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.metadata import KeySpace, MetadataStore, open_store
from cajun_fast.testing.etcd import EtcdCluster, etcd_binary

uvloop = pytest.importorskip("uvloop")
KEYS = int(os.environ.get("CAJUN_BENCH_KEYS", "100000"))
VALUE = b"x" * 100
SPACE = KeySpace("bench")


class Bench:
    """A loop, a store and a second view of it."""

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.url = url
        self.store, self.other = self.runner.run(self._open())

    async def _open(self) -> tuple[MetadataStore, MetadataStore]:
        stores = open_store(self.url, timeout=30.0), open_store(self.url, timeout=30.0)
        for store in stores:
            await store.connect()
        return stores

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.runner.run(self.other.close())
        self.runner.close()

    def time(
        self, benchmark: Any, work: Callable[[], Awaitable[Any]], *, operations: int, rounds: int = 5
    ) -> None:
        """``work`` does so many operations."""
        seconds: list[float] = []

        def run() -> None:
            begun = time.perf_counter()
            self.runner.run(work())  # type: ignore[arg-type]
            seconds.append(time.perf_counter() - begun)

        benchmark.pedantic(run, rounds=rounds, iterations=1)
        note(benchmark, per_second=operations / min(seconds))


def note(benchmark: Any, **figures: float) -> None:
    for name, figure in figures.items():
        benchmark.extra_info[name] = round(figure, 4)
    shown = ", ".join(f"{name} {figure:,.3f}" for name, figure in figures.items())
    print(f"\n  {benchmark.name}: {shown}")


def latencies(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {"p50_us": ordered[len(ordered) // 2] * 1e6, "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    try:
        etcd_binary()
    except ConfigError as error:
        pytest.skip(str(error))
    with asyncio.Runner() as runner:
        cluster = EtcdCluster.of(1)
        url = runner.run(cluster.__aenter__()).url
        yield url
        runner.run(cluster.__aexit__(None, None, None))


@pytest.fixture(params=["memory", "sqlite", "etcd"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    kind = request.param
    url = {"memory": "memory://bench", "sqlite": f"sqlite:///{tmp_path}/bench.db"}.get(kind)
    bench = Bench(url or request.getfixturevalue("server"))
    yield bench
    bench.close()


# ---- one after the other


def test_put_sequential(benchmark: Any, bench: Bench) -> None:
    seconds: list[float] = []

    async def work() -> None:
        for n in range(300):
            begun = time.perf_counter()
            await bench.store.put(f"seq/{n}", VALUE)
            seconds.append(time.perf_counter() - begun)

    bench.time(benchmark, work, operations=300)
    note(benchmark, **latencies(seconds[300:]))


def bare_puts(url: str, count: int, at_a_time: int, seconds: list[float]) -> Callable[[], Awaitable[None]]:
    """The same with nothing around it: one channel, no retry, no guard, no limits."""

    async def work() -> None:
        import grpc.aio

        from cajun_fast.metadata.etcd_proto import messages

        types = messages()
        async with grpc.aio.insecure_channel(url.removeprefix("http://")) as channel:
            put = channel.unary_unary(
                "/etcdserverpb.KV/Put",
                request_serializer=types.PutRequest.SerializeToString,
                response_deserializer=types.PutResponse.FromString,
            )
            await put(types.PutRequest(key=b"warm", value=VALUE))

            async def one(name: int) -> None:
                for n in range(count // at_a_time):
                    begun = time.perf_counter()
                    await put(types.PutRequest(key=f"bare/{name}/{n}".encode(), value=VALUE))
                    seconds.append(time.perf_counter() - begun)

            await asyncio.gather(*map(one, range(at_a_time)))

    return work


@pytest.mark.parametrize(("count", "at_a_time"), [(300, 1), (3200, 64)])
def test_put_bare_grpc(benchmark: Any, server: str, count: int, at_a_time: int) -> None:
    bench = Bench("memory://bare")
    seconds: list[float] = []
    bench.time(benchmark, bare_puts(server, count, at_a_time, seconds), operations=count)
    note(benchmark, **latencies(seconds[count:]))
    bench.close()


# ---- many at a time


def test_put_64_at_a_time(benchmark: Any, bench: Bench) -> None:
    async def one(name: int) -> None:
        for n in range(50):
            await bench.store.put(f"many/{name}/{n}", VALUE)

    async def work() -> None:
        await asyncio.gather(*map(one, range(64)))

    bench.time(benchmark, work, operations=3200)


def test_get_64_at_a_time(benchmark: Any, bench: Bench) -> None:
    bench.runner.run(bench.store.put("got", VALUE))

    async def one(_: int) -> None:
        for _n in range(50):
            await bench.store.get("got")

    async def work() -> None:
        await asyncio.gather(*map(one, range(64)))

    bench.time(benchmark, work, operations=3200)


def test_put_all_1000(benchmark: Any, bench: Bench) -> None:
    values = {f"all/{n}": VALUE for n in range(1000)}

    async def work() -> None:
        await bench.store.put_all(values)

    bench.time(benchmark, work, operations=1000)


def test_registering_actors_in_batches_and_one_by_one(benchmark: Any, bench: Bench) -> None:
    """Issue 5: 100,000 actors batched, at least ten times as fast as one after the other."""
    some = 2000

    async def batched() -> float:
        begun = time.perf_counter()
        await bench.store.put_all({SPACE.actor(f"batched-{n}"): VALUE for n in range(KEYS)})
        return (time.perf_counter() - begun) / KEYS

    async def one_by_one() -> float:
        begun = time.perf_counter()
        for n in range(some):
            await bench.store.put(SPACE.actor(f"single-{n}"), VALUE)
        return (time.perf_counter() - begun) / some

    single = bench.runner.run(one_by_one())
    batch = benchmark.pedantic(lambda: bench.runner.run(batched()), rounds=1, iterations=1)
    note(benchmark, batched_per_second=1 / batch, single_per_second=1 / single, ratio=single / batch)


# ---- reading much


def resident(*, reset: bool) -> float:
    """MiB at the peak since the last reset, as Linux counts them; 0 elsewhere."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_listing_everything_in_pages(benchmark: Any, bench: Bench) -> None:
    for start in range(0, KEYS, 10_000):
        some = range(start, min(start + 10_000, KEYS))
        bench.runner.run(bench.store.put_all({f"list/{n:07}": VALUE for n in some}))
    before = resident(reset=True)

    async def work() -> None:
        page = await bench.store.list("list/")
        count, first = len(page.entries), page.revision
        while page.after:
            page = await bench.store.list("list/", after=page.after, revision=first)
            count += len(page.entries)
        assert count == KEYS

    bench.time(benchmark, work, operations=KEYS, rounds=1)
    note(benchmark, peak_grew_mib=resident(reset=False) - before)


# ---- over time


def test_watch_latency_between_two_views(benchmark: Any, bench: Bench) -> None:
    seconds: list[float] = []

    async def work() -> None:
        watch = bench.other.watch("watched")
        await bench.other.ping(timeout=5.0)

        async def read() -> None:
            seen = 0
            async for events in watch:
                now = time.perf_counter()
                seconds.extend(now - float(event.entry.value) for event in events)
                seen += len(events)
                if seen == 100:
                    return

        reading = asyncio.ensure_future(read())
        for _ in range(100):
            await asyncio.sleep(0.007)
            await bench.store.put("watched", str(time.perf_counter()).encode())
        await asyncio.wait_for(reading, 10)
        await watch.close()

    bench.time(benchmark, work, operations=100, rounds=3)
    note(benchmark, **latencies(seconds))


def test_cpu_of_an_idle_watch(benchmark: Any, bench: Bench) -> None:
    async def work() -> float:
        watch = bench.other.watch("idle")
        reading = asyncio.ensure_future(anext(aiter(watch)))
        await bench.other.ping(timeout=5.0)
        before = time.process_time()
        await asyncio.sleep(2.0)
        used = time.process_time() - before
        await watch.close()
        await asyncio.gather(reading, return_exceptions=True)
        return used / 2.0

    share = benchmark.pedantic(lambda: bench.runner.run(work()), rounds=1, iterations=1)
    note(benchmark, percent_of_a_core=share * 100)


def test_refreshing_a_lease_while_bulk_is_written(benchmark: Any, bench: Bench) -> None:
    """What isolation is worth: the keepalive must not stand behind 64 writers."""
    seconds: list[float] = []

    async def work() -> None:
        lease = await bench.store.lease(30.0)
        await lease.refresh()
        done = asyncio.Event()

        async def load(name: int) -> None:
            n = 0
            while not done.is_set():
                await bench.store.put(f"load/{name}/{n % 100}", VALUE * 100)
                n += 1

        loading = [asyncio.ensure_future(load(name)) for name in range(64)]
        for _ in range(100):
            begun = time.perf_counter()
            await lease.refresh()
            seconds.append(time.perf_counter() - begun)
            await asyncio.sleep(0.005)
        done.set()
        await asyncio.gather(*loading)
        await lease.revoke()

    bench.time(benchmark, work, operations=100, rounds=2)
    note(benchmark, **latencies(seconds))
