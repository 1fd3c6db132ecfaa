"""The one thread of a ``sqlite://`` store: it alone touches the database.

Laws: jobs run in order of arrival; those that wait together share a transaction (group commit), and none is
answered before it is committed. A job that refuses wrote nothing, so it does not disturb the others; after a
failure of the database itself each is tried alone. Waiting for another process's transaction is bounded.
While somebody watches, the thread looks every POLL seconds whether other processes wrote, and ends the leases
that are over.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cajun_fast.errors import CajunError, MetadataStoreUnavailableError, NotRunningError
from cajun_fast.metadata.sqlite_file import DatabaseFile, translated
from cajun_fast.metadata.sqlite_tables import Tables

log = logging.getLogger("cajun_fast.metadata")
POLL = 0.025
#: Jobs that share one transaction; bounds how long a transaction keeps other processes out.
GROUP = 256
#: Keys told to watches by name; beyond it all of them look.
NAMED_KEYS = 2000
SHORTEST_PAUSE, LONGEST_PAUSE = 0.0002, 0.01

Verb = Callable[[Tables], Any]
#: Told of each growth of the log: (previous revision, revision, keys or None for too many).
OnGrowth = Callable[[int, int, "set[str] | None"], None]


@dataclass(slots=True)
class Job:
    verb: Verb
    writes: bool
    future: asyncio.Future[Any]
    submitted: float = field(default_factory=time.monotonic)
    result: Any = None
    error: BaseException | None = None

    def run(self, tables: Tables) -> None:
        try:
            self.result, self.error = self.verb(tables), None
        except CajunError as exc:
            self.error = exc

    def deliver(self) -> None:
        """On the loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Worker:
    """See the module's laws. ``submit``, ``watching`` and ``stop`` belong to the loop, the rest to the
    thread.
    """

    def __init__(self, file: DatabaseFile, on_growth: OnGrowth, patience: float) -> None:
        self.watching = False
        self._file = file
        self._on_growth = on_growth
        self._patience = patience
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="cajun-fast-sqlite", daemon=True)
        self._tail = 0
        self._version = -1
        self._due: int | None = None

    # ---- on the loop

    async def start(self) -> None:
        """Open the database in the thread; raises what that raises."""
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(Job(lambda tables: None, False, opened))
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.stop()
            raise

    def submit(self, verb: Verb, *, writes: bool) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(Job(verb, writes, future))
        return future

    async def stop(self) -> None:
        """What waits fails with NotRunningError; what runs is finished."""
        self._stopping = True
        self._jobs.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _on_end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # ---- in the thread

    def _run(self) -> None:
        try:
            first = self._jobs.get()
            assert first is not None
            if self._open(first):
                self._serve()
        finally:
            self._file.close()
            self._post(self._on_end)

    def _open(self, job: Job) -> bool:
        try:
            with translated(self._file.path):
                self._pausing(job.submitted, self._file.open)
                self._pausing(job.submitted, self._file.prepare)
            self._tail = self._file.tables.revision
        except CajunError as exc:
            self._fail([job], exc)
            return False
        self._answer([job])
        return True

    def _serve(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            if self._stopping:
                self._fail(batch, NotRunningError(f"sqlite store {self._file.path} was closed"))
            else:
                self._run_batch(batch)
                self._look(wrote=bool(batch))

    def _next_batch(self) -> list[Job] | None:
        try:
            job = self._jobs.get(timeout=POLL if self.watching else None)
        except queue.Empty:
            return []
        return None if job is None else self._drain([job])

    def _drain(self, batch: list[Job]) -> list[Job]:
        while len(batch) < GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:  # answered by the caller, then seen again
                self._jobs.put(None)
                break
            batch.append(job)
        return [job for job in batch if not job.future.done()]

    def _run_batch(self, batch: list[Job]) -> None:
        if not batch:
            return
        try:
            with translated(self._file.path):
                self._pausing(batch[0].submitted, lambda: self._transaction(batch))
        except CajunError as exc:
            if len(batch) == 1 or isinstance(exc, MetadataStoreUnavailableError):
                self._fail(batch, exc)
                return
            for job in batch:  # one of them is at fault
                self._run_batch([job])
            return
        self._answer(batch)

    def _transaction(self, batch: Iterable[Job]) -> None:
        """All jobs and what is due, or nothing."""
        file = self._file
        file.check_same()
        with file.transaction(writes=any(job.writes for job in batch)) as tables:
            if not tables.is_due():
                for job in batch:
                    job.run(tables)
                return
        with file.transaction(writes=True) as tables:
            tables.sweep()
            for job in batch:
                job.run(tables)

    def _pausing(self, since: float, attempt: Callable[[], None]) -> None:
        """Try again while another process is writing, up to the store's patience since ``since``."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as exc:
                if not _is_busy(exc) or self._stopping or time.monotonic() - since > self._patience:
                    raise
            time.sleep(pause * (0.5 + self._file.random.random()))
            pause = min(pause * 2, LONGEST_PAUSE)

    # ---- watching

    def _look(self, *, wrote: bool) -> None:
        """For the watches: did anybody write, is a lease over?"""
        if not self.watching:
            return
        try:
            if wrote or self._file.data_version() != self._version or self._is_due():
                if not wrote:
                    self._sweep_if_due()
                self._tell_growth()
        except (sqlite3.Error, CajunError) as exc:
            log.debug("sqlite store %s: looking for changes: %s", self._file.path, exc)  # looked for again

    def _is_due(self) -> bool:
        return self._due is not None and self._file.now_ns() >= self._due

    def _sweep_if_due(self) -> None:
        with self._file.transaction(writes=False) as tables:
            due = tables.is_due()
        if due:
            self._transaction(())

    def _tell_growth(self) -> None:
        version = self._file.data_version()
        with self._file.transaction(writes=False) as tables:
            previous, revision = self._tail, tables.revision
            keys = tables.written_since(previous, NAMED_KEYS) if revision > previous else set()
            self._due = tables.next_expiry()
        self._version, self._tail = version, revision
        if revision > previous:
            self._post(lambda: self._on_growth(previous, revision, keys))

    # ---- answers

    def _answer(self, batch: list[Job]) -> None:
        def deliver() -> None:
            for job in batch:
                job.deliver()

        if batch:
            self._post(deliver)

    def _fail(self, batch: list[Job], error: CajunError) -> None:
        for job in batch:
            job.error = error
        self._answer(batch)

    def _post(self, call: Callable[[], Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            self._jobs.put(None)  # the loop ended without closing the store: nobody waits any more


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
