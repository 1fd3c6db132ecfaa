"""A metadata store whose operations fail on demand, around one that works: outages, lost answers, slow answers.

Laws: what is not planned goes through unchanged; a planned fault is told as the real thing would be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from cajun_fast.errors import MetadataStoreUnavailableError
from cajun_fast.metadata import (
    Compare,
    Delete,
    Entry,
    Event,
    Lease,
    Lock,
    MetadataStore,
    Outcome,
    Page,
    Put,
    Watch,
)

T = TypeVar("T")


class FaultyStore(MetadataStore):
    """A store whose operations fail on demand.

    ``down``: nothing answers. ``plan``: operation name to a list of faults, used up one by one: "before" (not
    applied), "after" (applied, but the answer is lost), or seconds of delay.
    """

    def __init__(self, inner: MetadataStore) -> None:
        self.inner = inner
        self.url = inner.url
        self.plan: dict[str, list[str | float]] = {}
        self.calls: list[tuple[str, Any]] = []
        self._up = asyncio.Event()
        self._up.set()
        self._down = asyncio.Event()

    @property
    def down(self) -> bool:
        return self._down.is_set()

    def fall(self) -> None:
        self._up.clear()
        self._down.set()

    def rise(self) -> None:
        self._down.clear()
        self._up.set()

    def unavailable(self, name: str) -> MetadataStoreUnavailableError:
        return MetadataStoreUnavailableError(f"planned fault in {name}")

    async def _call(self, name: str, detail: Any, work: Callable[[], Awaitable[T]]) -> T:
        self.calls.append((name, detail))
        if self.down:
            await asyncio.sleep(0)
            raise self.unavailable(name)
        faults = self.plan.get(name, [])
        fault = faults.pop(0) if faults else None
        if fault == "before":
            raise self.unavailable(name)
        if isinstance(fault, int | float):
            await asyncio.sleep(fault)
        result = await work()
        if fault == "after":
            raise self.unavailable(name)
        return result

    async def connect(self) -> None:
        await self.inner.connect()

    async def close(self) -> None:
        await self.inner.close()

    async def ping(self, timeout: float = 1.0) -> None:
        await self._call("ping", None, lambda: self.inner.ping(timeout))

    async def get(self, key: str) -> Entry | None:
        return await self._call("get", key, lambda: self.inner.get(key))

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return await self._call("put", key, lambda: self.inner.put(key, value, lease=lease))

    async def delete(self, key: str) -> bool:
        return await self._call("delete", key, lambda: self.inner.delete(key))

    async def put_all(self, values: Mapping[str, bytes], *, lease: int = 0) -> None:
        await self._call("put_all", values, lambda: self.inner.put_all(values, lease=lease))

    async def list(
        self, prefix: str, *, limit: int = 1000, after: str | None = None, revision: int | None = None
    ) -> Page:
        return await self._call(
            "list", prefix, lambda: self.inner.list(prefix, limit=limit, after=after, revision=revision)
        )

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Outcome:
        return await self._call(
            "transact", list(operations), lambda: self.inner.transact(compares, operations)
        )

    async def lease(self, ttl: float) -> Lease:
        return FaultyLease(self, await self._call("lease", ttl, lambda: self.inner.lease(ttl)))

    def attach_lease(self, lease_id: int, ttl: float) -> Lease:
        return FaultyLease(self, self.inner.attach_lease(lease_id, ttl))

    async def lock(self, name: str, *, ttl: float, timeout: float | None = None, holder: bytes = b"") -> Lock:
        lock = await self._call(
            "lock", name, lambda: self.inner.lock(name, ttl=ttl, timeout=timeout, holder=holder)
        )
        return FaultyLock(self, lock)

    def watch(self, prefix: str, *, revision: int | None = None) -> Watch:
        return FaultyWatch(self, self.inner.watch(prefix, revision=revision))


class FaultyLease(Lease):
    def __init__(self, store: FaultyStore, inner: Lease) -> None:
        self._store, self._inner = store, inner
        self.id, self.ttl = inner.id, inner.ttl

    @property
    def deadline_ns(self) -> int:  # type: ignore[override]
        return self._inner.deadline_ns

    async def refresh(self) -> None:
        await self._store._call("refresh", self.id, self._inner.refresh)

    async def revoke(self) -> None:
        await self._store._call("revoke", self.id, self._inner.revoke)


class FaultyLock(Lock):
    def __init__(self, store: FaultyStore, inner: Lock) -> None:
        self._store, self._inner = store, inner
        self.name, self.token = inner.name, inner.token
        self.lease = FaultyLease(store, inner.lease)

    async def refresh(self) -> None:
        await self._store._call("refresh", self.name, self._inner.refresh)

    async def release(self) -> None:
        await self._store._call("release", self.name, self._inner.release)


class FaultyWatch(Watch):
    def __init__(self, store: FaultyStore, inner: Watch) -> None:
        self._store, self._inner = store, inner

    async def _events(self) -> AsyncIterator[list[Event]]:
        iterator = self._inner.__aiter__()
        while True:
            step = asyncio.ensure_future(iterator.__anext__())
            fall = asyncio.ensure_future(self._store._down.wait())
            try:
                await asyncio.wait({step, fall}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    raise self._store.unavailable("watch")
                yield step.result()
            except StopAsyncIteration:
                return
            finally:
                for task in (step, fall):
                    task.cancel()
                await asyncio.gather(step, fall, return_exceptions=True)

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self._events()

    async def close(self) -> None:
        await self._inner.close()
