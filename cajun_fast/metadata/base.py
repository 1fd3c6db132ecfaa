"""What every store does alike: its life, leases with a local deadline, locks, and the tasks that it owns.

Laws: a store is new, open or closed, in that order; a failed ``connect()`` leaves it new. A lease's id is
chosen here, before the store is asked, so that a cancelled grant can be taken back. Whatever runs beside a
caller is owned and ended by ``close()``. Subclasses implement the underscored verbs, which do not check the
store's life.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from abc import abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from cajun_fast.errors import (
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
    NotRunningError,
)
from cajun_fast.metadata import locks
from cajun_fast.metadata.checks import (
    MAX_OPERATIONS,
    MAX_REQUEST_BYTES,
    check_key,
    check_lease_ttl,
    check_value,
    cost_of,
)
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.store import Lease, Lock, MetadataStore, Put
from cajun_fast.metadata.urls import redact

log = logging.getLogger("cajun_fast.metadata")
#: How long ``close()`` waits for take-backs that are under way; what is left ends by its lease's time.
CLOSE_GRACE = 1.0


def is_cancelled() -> bool:
    """Whether somebody cancelled the running task; else a CancelledError is that of a thing it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Life(enum.Enum):
    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    CLOSED = "closed"


class OwnedTasks:
    """Tasks with an owner: their failures are logged, and they end with it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("%s: %s", task.get_name(), error)

    async def close(self, grace: float) -> None:
        """Wait ``grace`` seconds for what is under way, then cancel it."""
        tasks = set(self._tasks)
        if not tasks:
            return
        await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class BaseStore(MetadataStore):
    """See the module's laws."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self.url = redact(url)
        self.options = options
        self.clock = options.clock
        self.owned = OwnedTasks()
        self._life = Life.NEW

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} {self._life.value}>"

    async def connect(self) -> None:
        if self._life is Life.CLOSED:
            raise NotRunningError(f"metadata store {self.url} was closed: open another")
        if self._life is not Life.NEW:
            raise MetadataStoreError(f"metadata store {self.url} is connected already")
        self._life = Life.OPENING
        try:
            await self._open()
        except BaseException:
            if self._life is Life.OPENING:
                self._life = Life.NEW
            raise
        if self._life is not Life.OPENING:  # closed meanwhile
            await self._shut()
            raise self.not_running()
        self._life = Life.OPEN

    async def close(self) -> None:
        was, self._life = self._life, Life.CLOSED
        if was is Life.OPEN:
            self._stop_waiting()
            await self.owned.close(CLOSE_GRACE)
            await self._shut()

    def not_running(self) -> NotRunningError:
        state = self._life.value
        return NotRunningError(f"metadata store {self.url} is {state}: use it between connect() and close()")

    def check_open(self) -> None:
        if self._life is not Life.OPEN:
            raise self.not_running()

    @property
    def is_open(self) -> bool:
        return self._life is Life.OPEN

    @abstractmethod
    async def _open(self) -> None: ...

    @abstractmethod
    async def _shut(self) -> None: ...

    @abstractmethod
    def _stop_waiting(self) -> None:
        """End watches and refuse what is queued."""

    @abstractmethod
    async def _grant(self, lease_id: int, ttl: float) -> None: ...

    @abstractmethod
    async def _refresh(self, lease_id: int, ttl: float) -> None:
        """Raises LeaseLostError if the store does not know it any more."""

    @abstractmethod
    async def _revoke(self, lease_id: int) -> None: ...

    async def put_all(self, values: Mapping[str, bytes], *, lease: int = 0) -> None:
        self.check_open()
        puts = [Put(key, value, lease) for key, value in values.items()]
        for put in puts:  # all of them before the first is written
            check_key(put.key)
            check_value(put.key, put.value)
        batch: list[Put] = []
        size = 0
        for put in puts:
            cost = cost_of(put)
            if batch and (len(batch) >= self._batch_limit() or size + cost > MAX_REQUEST_BYTES):
                await self._put_batch(batch)
                batch, size = [], 0
            batch.append(put)
            size += cost
        if batch:
            await self._put_batch(batch)

    def _batch_limit(self) -> int:
        return MAX_OPERATIONS

    async def _put_batch(self, batch: Sequence[Put]) -> None:
        await self.transact((), batch)

    async def lease(self, ttl: float) -> Lease:
        ttl = check_lease_ttl(ttl)
        self.check_open()
        lease_id = self.options.random.getrandbits(62) | 1
        sent = self.clock.now_ns()
        try:
            await self._grant(lease_id, ttl)
        except (asyncio.CancelledError, MetadataStoreUnavailableError):
            self.take_back(lease_id)
            raise
        return StoreLease(self, lease_id, ttl, sent)

    def attach_lease(self, lease_id: int, ttl: float) -> Lease:
        self.check_open()
        return StoreLease(self, lease_id, check_lease_ttl(ttl), self.clock.now_ns())

    def take_back(self, lease_id: int) -> None:
        """Revoke beside the caller, who cannot wait; without success the lease ends by its own time."""
        if self.is_open:
            self.owned.spawn(self._revoke(lease_id), f"take back lease {lease_id:x}")

    async def lock(self, name: str, *, ttl: float, timeout: float | None = None, holder: bytes = b"") -> Lock:
        check_key(name)
        ttl = check_lease_ttl(ttl)
        self.check_open()
        return await locks.acquire(self, name, ttl, timeout, holder)


class StoreLease(Lease):
    """A lease with its local deadline: once that has passed it is lost for good, whatever the store says."""

    def __init__(self, store: BaseStore, lease_id: int, ttl: float, sent_ns: int) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.deadline_ns = sent_ns + round(ttl * 1e9)
        self._store = store
        self._over = False

    def __repr__(self) -> str:
        return f"<StoreLease {self.id:x} ttl={self.ttl} {'over' if self._over else 'held'}>"

    async def refresh(self) -> None:
        self._store.check_open()
        sent = self._store.clock.now_ns()
        self._check_held(sent)
        limit = asyncio.timeout((self.deadline_ns - sent) / 1e9)
        try:
            async with limit:
                await self._store._refresh(self.id, self.ttl)
        except LeaseLostError:
            self._over = True
            raise
        except TimeoutError:
            if not limit.expired():
                raise
            self._lose("no answer before its deadline")
        self._check_held(self._store.clock.now_ns())
        self.deadline_ns = sent + round(self.ttl * 1e9)

    def _check_held(self, now_ns: int) -> None:
        if self._over or now_ns >= self.deadline_ns:
            self._lose("revoked or lost before" if self._over else "not refreshed in time")

    def _lose(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._store.take_back(self.id)
        raise LeaseLostError(
            f"lease {self.id:x} of {self.ttl} s at {self._store.url} is over ({why}): take a new one; "
            "refresh about each third of its time"
        )

    async def revoke(self) -> None:
        self._over = True
        self._store.check_open()
        try:
            await self._store._revoke(self.id)
        except LeaseLostError:
            return
