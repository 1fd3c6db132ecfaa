"""``sqlite:///path``: the embedded default, shared by the processes of one machine.

Laws: three slashes before a relative path, four before an absolute one, as in SQLAlchemy. The loop never
touches the database: verbs go to the store's own threads (sqlite_worker) and come back as futures. Reads have a
thread and a connection of their own: they wait neither for a writer, of any process, nor for a disk that stalls;
only for a watch that was opened before them, since it is settled when the next call returns.
Leases end by CLOCK_MONOTONIC, which all processes of a machine share, nobody sets, and which stands still
while the machine sleeps, as the holders' own deadlines do. A store belongs to the process that opened it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cajun_fast.clock import Clock, MonotonicClock
from cajun_fast.errors import ConfigError, MetadataStoreUnavailableError
from cajun_fast.metadata.base import BaseStore
from cajun_fast.metadata.checks import check_key, check_page, check_transaction
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.sqlite_file import DatabaseFile
from cajun_fast.metadata.sqlite_worker import Verb, Worker
from cajun_fast.metadata.store import Compare, Delete, Entry, Outcome, Page, Put, Watch
from cajun_fast.metadata.urls import split_path
from cajun_fast.metadata.watching import Changes, Difference, LogWatch, WatchHub

#: Revisions kept for watches that are behind.
HISTORY = 10_000
#: Operations that may wait in the threads' queues; the next caller waits for room.
QUEUE = 4096
_DURABILITY = {"off": "OFF", "normal": "NORMAL", "full": "FULL"}


class SqliteMetadataStore(BaseStore):
    """See the module's laws. ``synchronous``: normal survives any crash of processes, full one of the power,
    too.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        options: StoreOptions | None = None,
        history: int = HISTORY,
        synchronous: str = "normal",
        lease_clock: Clock | None = None,
        boot: str | None = None,
    ) -> None:
        super().__init__(f"sqlite:///{path}", options or StoreOptions())
        if synchronous.lower() not in _DURABILITY:
            raise ConfigError(f"sqlite store: synchronous={synchronous!r}: one of {', '.join(_DURABILITY)}")
        if history < 1:
            raise ConfigError(f"sqlite store: history={history!r}: at least 1 revision, {HISTORY} is usual")
        self.path = Path(os.path.abspath(path))
        self._hub = WatchHub()
        self._room = asyncio.Semaphore(QUEUE)
        self._worker: Worker | None = None
        self._reader: Worker | None = None
        self._openings: set[asyncio.Future[Any]] = set()
        self._process = os.getpid()
        self._file, self._reads = (
            DatabaseFile(
                self.path,
                now_ns=(lease_clock or MonotonicClock()).now_ns,
                chance=self.options.random,
                history=history,
                synchronous=_DURABILITY[synchronous.lower()],
                boot=boot,
            )
            for _ in range(2)
        )

    @classmethod
    def from_url(cls, url: str, options: StoreOptions) -> SqliteMetadataStore:
        path, parameters = split_path(url)
        settings: dict[str, Any] = {}
        for name, value in parameters.items():
            if name == "synchronous":
                settings[name] = value
            elif name == "history" and value.isdecimal():
                settings[name] = int(value)
            else:
                raise ConfigError(
                    f"store {url!r}: parameter {name}={value!r} is unknown: "
                    "there are synchronous=normal|full and history=<revisions>"
                )
        return cls(path, options=options, **settings)

    # ---- life

    async def _open(self) -> None:
        self._process = os.getpid()
        worker = Worker(self._file, self._hub.notify, self.options.timeout)
        await worker.start()
        reader = Worker(self._reads, self._hub.notify, self.options.timeout, sweeper=worker)
        try:
            await reader.start()
        except BaseException:
            await worker.stop()
            raise
        self._worker, self._reader = worker, reader

    async def _shut(self) -> None:
        workers = (self._reader, self._worker)  # in this order: the one hands jobs to the other
        self._worker = self._reader = None
        for worker in workers:
            if worker is not None:
                await worker.stop()

    def _stop_waiting(self) -> None:
        self._hub.end_all(self.not_running())

    def _checked(self) -> Worker:
        if self._worker is None:
            raise self.not_running()
        if os.getpid() != self._process:
            raise MetadataStoreUnavailableError(
                f"metadata store {self.url} was opened by process {self._process}, and this is its fork "
                f"{os.getpid()}: open a store of its own after the fork"
            )
        return self._worker

    async def _call(self, verb: Verb, *, short: bool = True) -> Any:
        """By the thread that writes."""
        self._checked()
        async with self._room:
            return await self._checked().submit(verb, writes=True, short=short)

    async def _read(self, verb: Verb, *, short: bool = True) -> Any:
        self.check_open()
        self._checked()
        if opening := [each for each in self._openings if not each.done()]:
            await asyncio.wait(opening)
        async with self._room:
            self._checked()
            assert self._reader is not None  # the two come and go together
            return await self._reader.submit(verb, writes=False, short=short)

    async def _write(self, verb: Verb, *, short: bool = True) -> Any:
        self.check_open()
        return await self._call(verb, short=short)

    # ---- operations

    async def ping(self, timeout: float = 1.0) -> None:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                self.check_open()
                async with self._room:  # by the thread that writes: a store that cannot is not well
                    await self._checked().submit(lambda tables: None, writes=False)
        except TimeoutError as exc:
            raise MetadataStoreUnavailableError(
                f"metadata store {self.url} did not answer a ping within {timeout} s: "
                "another process may hold it, or the disk is slow"
            ) from exc

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        found: Entry | None = await self._read(lambda tables: tables.get(key))
        return found

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.transact((), [Put(key, value, lease)])).revision

    async def delete(self, key: str) -> bool:
        check_key(key)
        return bool(await self._write(lambda tables: tables.delete(key)))

    async def list(
        self, prefix: str, *, limit: int = 1000, after: str | None = None, revision: int | None = None
    ) -> Page:
        check_page(limit)
        page: Page = await self._read(lambda tables: tables.page(prefix, limit, after), short=False)
        return page

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Outcome:
        check_transaction(compares, operations)
        outcome: Outcome = await self._write(
            lambda tables: tables.transact(compares, operations), short=len(operations) <= 1
        )
        return outcome

    # ---- leases

    async def _grant(self, lease_id: int, ttl: float) -> None:
        await self._call(lambda tables: tables.grant(lease_id, round(ttl * 1e9)))

    async def _refresh(self, lease_id: int, ttl: float) -> None:
        await self._call(lambda tables: tables.refresh(lease_id, round(ttl * 1e9)))

    async def _revoke(self, lease_id: int) -> None:
        await self._call(lambda tables: tables.revoke(lease_id))

    # ---- watches

    def watch(self, prefix: str, *, revision: int | None = None) -> Watch:
        self.check_open()
        worker = self._checked()
        worker.watching = True
        opening = worker.submit(lambda tables: tables.opening(prefix, revision), writes=False)
        opening.add_done_callback(_seen)
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)
        return self._hub.open(self, prefix, opening, self._on_watch_closed)

    def _on_watch_closed(self, _watch: LogWatch) -> None:
        if self._worker is not None:
            self._worker.watching = len(self._hub) > 0

    async def changes(self, prefix: str, cursor: int) -> Changes | None:
        found: Changes | None = await self._read(lambda tables: tables.changes(prefix, cursor), short=False)
        return found

    async def difference(self, prefix: str, cursor: int) -> Difference:
        found: Difference = await self._read(lambda tables: tables.difference(prefix, cursor), short=False)
        return found


def _seen(opening: asyncio.Future[Any]) -> None:
    """A watch that nobody ever iterates owes nobody its error."""
    if not opening.cancelled():
        opening.exception()
