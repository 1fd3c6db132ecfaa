"""``memory://name``: a store for tests, simulations and clusters of one process.

Laws: instances of one name on one loop share one truth, and the last to close forgets it. Time is the clock
that was passed in, waiting is the loop's: on a virtual-time loop nothing here takes real time. Each operation
yields to the loop once, before it is applied, so that callers interleave as they would on a real store; a
cancelled one did nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from cajun_fast.clock import Clock
from cajun_fast.errors import CompactedError, ConfigError
from cajun_fast.metadata.base import BaseStore
from cajun_fast.metadata.checks import check_key, check_page, check_transaction
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.store import Compare, Delete, Entry, Outcome, Page, Put, Watch
from cajun_fast.metadata.truth import Truth
from cajun_fast.metadata.watching import Changes, Difference, Opening, WatchHub

#: Events kept for watches that are behind.
HISTORY = 10_000
#: A timer that the loop fires a little early by the store's clock is set again, not sooner than this.
SHORTEST_WAIT = 0.001


class World:
    """One name's truth on one loop: its users, and the timer of its leases."""

    def __init__(self, clock: Clock, history: int) -> None:
        self.truth = Truth(history)
        self.users = 0
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due: int | None = None

    def sweep(self) -> None:
        """End what is over, and come back when the next lease is."""
        now = self._clock.now_ns()
        due = self.truth.next_expiry()
        if due is not None and due <= now:
            self.truth.sweep(now)
            due = self.truth.next_expiry()
        self._arm(due, now)

    def _arm(self, due: int | None, now: int) -> None:
        if due == self._due:
            return
        self.stop()
        if due is not None:
            delay = max((due - now) / 1e9, SHORTEST_WAIT)
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)
            self._due = due

    def _on_timer(self) -> None:
        self._timer = self._due = None
        self.sweep()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None

    def expiry(self, ttl: float) -> int:
        return self._clock.now_ns() + round(ttl * 1e9)


_worlds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, World]] = WeakKeyDictionary()


class MemoryMetadataStore(BaseStore):
    """See the module's laws."""

    def __init__(
        self, name: str = "", *, options: StoreOptions | None = None, history: int = HISTORY
    ) -> None:
        super().__init__(f"memory://{name}", options or StoreOptions())
        self._name = name
        self._history = history
        self._hub = WatchHub()
        self._world: World | None = None
        self._seen = 0

    @classmethod
    def from_url(cls, url: str, options: StoreOptions) -> MemoryMetadataStore:
        name = url.split("://", 1)[1]
        if "?" in name:
            raise ConfigError(f"store {url!r}: memory:// takes a name and no parameters")
        return cls(name, options=options)

    # ---- life

    async def _open(self) -> None:
        worlds = _worlds.setdefault(asyncio.get_running_loop(), {})
        self._world = worlds.setdefault(self._name, World(self.clock, self._history))
        self._world.users += 1
        self._seen = self._world.truth.revision
        self._world.truth.listeners.add(self._on_change)

    async def _shut(self) -> None:
        world, self._world = self._world, None
        if world is None:
            return
        world.truth.listeners.discard(self._on_change)
        world.users -= 1
        if world.users == 0:
            world.stop()
            _worlds.get(asyncio.get_running_loop(), {}).pop(self._name, None)

    def _stop_waiting(self) -> None:
        self._hub.end_all(self.not_running())

    def _on_change(self, revision: int, keys: Sequence[str]) -> None:
        self._hub.notify(self._seen, revision, keys)
        self._seen = revision

    async def _turn(self) -> Truth:
        """Yield once, then the truth without what is over."""
        self.check_open()
        await asyncio.sleep(0)
        return self._now()

    def _now(self) -> Truth:
        if self._world is None:
            raise self.not_running()
        self._world.sweep()
        return self._world.truth

    # ---- operations

    async def ping(self, timeout: float = 1.0) -> None:
        await self._turn()

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        return (await self._turn()).get(key)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.transact((), [Put(key, value, lease)])).revision

    async def delete(self, key: str) -> bool:
        check_key(key)
        truth = await self._turn()
        before = truth.revision
        return truth.transact((), [Delete(key)]).revision > before

    async def list(
        self, prefix: str, *, limit: int = 1000, after: str | None = None, revision: int | None = None
    ) -> Page:
        check_page(limit)
        return (await self._turn()).page(prefix, limit, after)

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Outcome:
        check_transaction(compares, operations)
        return (await self._turn()).transact(compares, operations)

    # ---- leases

    async def _grant(self, lease_id: int, ttl: float) -> None:
        truth = await self._turn()
        assert self._world is not None
        truth.grant(lease_id, self._world.expiry(ttl))
        self._world.sweep()

    async def _refresh(self, lease_id: int, ttl: float) -> None:
        truth = await self._turn()
        assert self._world is not None
        truth.refresh(lease_id, self._world.expiry(ttl))
        self._world.sweep()

    async def _revoke(self, lease_id: int) -> None:
        await asyncio.sleep(0)
        self._now().revoke(lease_id)

    # ---- watches

    def watch(self, prefix: str, *, revision: int | None = None) -> Watch:
        self.check_open()
        opening: asyncio.Future[Opening] = asyncio.get_running_loop().create_future()
        try:
            opening.set_result(self._now().opening(prefix, revision))
        except CompactedError as exc:
            opening.set_exception(exc)
            opening.exception()  # told at the first iteration, or never
        return self._hub.open(self, prefix, opening)

    async def changes(self, prefix: str, cursor: int) -> Changes | None:
        return (await self._turn()).changes(prefix, cursor)

    async def difference(self, prefix: str, cursor: int) -> Difference:
        return (await self._turn()).difference(prefix, cursor)
