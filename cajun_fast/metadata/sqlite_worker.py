"""A thread of a ``sqlite://`` store, with a connection of its own. There are two: one for all that writes, and
one that reads, so that a read waits neither for other processes' transactions nor for the disk.

Laws: short jobs (one key, a lease) go before long ones (a batch of claims, a page), each kind in order of
arrival: what a node's seat stands on is short. Whoever awaits a job before the next one sees what it did. Jobs
that wait together share a transaction (group commit), and none is answered before it is committed; a group ends
after GROUP jobs or LONGEST_GROUP seconds, with one long job at least. A job that refuses wrote nothing, so it does
not disturb the others; after a failure of the database itself each is tried alone. Waiting for another process's
transaction is bounded. While somebody watches, the thread that writes looks every POLL seconds whether other
processes wrote, and ends the leases that are over; to it the other one hands reads that find such a lease.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cajun_fast.errors import CajunError, MetadataStoreUnavailableError, NotRunningError
from cajun_fast.metadata.sqlite_file import DatabaseFile, translated
from cajun_fast.metadata.sqlite_tables import Tables

log = logging.getLogger("cajun_fast.metadata")
POLL = 0.025
#: Jobs that share one transaction, and the seconds after which no more of them begins: how long a transaction
#: keeps other processes out.
GROUP = 256
LONGEST_GROUP = 0.02
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
    short: bool = True
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
    thread. ``sweeper``: the worker that writes, for one that only reads.
    """

    def __init__(
        self, file: DatabaseFile, on_growth: OnGrowth, patience: float, sweeper: Worker | None = None
    ) -> None:
        self.watching = False
        self._file = file
        self._on_growth = on_growth
        self._patience = patience
        self._sweeper = sweeper
        self._arrived: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._short: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        kind = "writes" if sweeper is None else "reads"
        self._thread = threading.Thread(target=self._run, name=f"cajun-fast-sqlite-{kind}", daemon=True)
        self._tail = 0
        self._version = -1
        self._due: int | None = None

    # ---- on the loop

    async def start(self) -> None:
        """Open the database in the thread; raises what that raises."""
        opened: asyncio.Future[Any] = self._loop.create_future()
        self._arrived.put(Job(lambda tables: None, False, opened))
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.stop()
            raise

    def submit(self, verb: Verb, *, writes: bool, short: bool = True) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._arrived.put(Job(verb, writes, future, short))
        return future

    def take_over(self, jobs: Sequence[Job]) -> None:
        """From the other worker."""
        for job in jobs:
            self._arrived.put(job)

    async def stop(self) -> None:
        """What waits fails with NotRunningError; what runs is finished."""
        self._stopping = True
        self._arrived.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _on_end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # ---- in the thread

    def _run(self) -> None:
        try:
            first = self._arrived.get()
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
                if self._sweeper is None:
                    self._pausing(job.submitted, self._file.prepare)
            self._tail = self._file.tables.revision
        except CajunError as exc:
            self._fail([job], exc)
            return False
        self._answer([job])
        return True

    def _serve(self) -> None:
        while self._await_jobs():
            batch = self._next_group()
            if self._stopping:
                self._fail(batch, NotRunningError(f"sqlite store {self._file.path} was closed"))
            else:
                self._run_batch(batch)
                self._look(wrote=bool(batch))

    def _await_jobs(self) -> bool:
        """Wait for one, or for the time of a look; False at the end."""
        if self._short or self._long:
            return True
        try:
            job = self._arrived.get(timeout=POLL if self.watching else None)
        except queue.Empty:
            return True
        if job is not None:
            self._line_up(job)
        return job is not None

    def _line_up(self, job: Job) -> None:
        (self._short if job.short else self._long).append(job)

    def _next_group(self) -> list[Job]:
        """All that has come, short ones first: a bounded number, and a long one among them."""
        self._sort_arrivals()
        group: list[Job] = []
        while self._short and len(group) < GROUP:
            group.append(self._short.popleft())
        while self._long and (len(group) < GROUP or group[-1].short):
            group.append(self._long.popleft())
        return [job for job in group if not job.future.done()]

    def _sort_arrivals(self) -> None:
        while True:
            try:
                job = self._arrived.get_nowait()
            except queue.Empty:
                return
            if job is None:  # what has come before is answered, then it is seen again
                self._arrived.put(None)
                return
            self._line_up(job)

    def _run_batch(self, batch: list[Job]) -> None:
        if not batch:
            return
        since, done = min(job.submitted for job in batch), 0

        def attempt() -> None:
            nonlocal done
            done = self._transaction(batch)

        try:
            with translated(self._file.path):
                self._pausing(since, attempt)
        except CajunError as exc:
            if len(batch) == 1 or isinstance(exc, MetadataStoreUnavailableError):
                self._fail(batch, exc)
                return
            for job in batch:  # one of them is at fault
                self._run_batch([job])
            return
        self._answer(batch[:done])
        self._long.extendleft(reversed(batch[done:]))

    def _transaction(self, batch: list[Job]) -> int:
        """What is due and as many jobs as there is time for, all of it or nothing; answers how many."""
        file = self._file
        file.check_same()
        writes = any(job.writes for job in batch)
        with file.transaction(writes=writes) as tables:
            due = tables.is_due()
            if writes:
                if due:
                    tables.sweep()
                self._join(batch)
            if writes or not due:
                return _run_in(batch, tables)
        if self._sweeper is not None:
            self._sweeper.take_over(batch)
            batch.clear()
            return 0
        with file.transaction(writes=True) as tables:
            tables.sweep()
            return _run_in(batch, tables)

    def _join(self, batch: list[Job]) -> None:
        """Short jobs that came while this group waited for another process go with it, ahead."""
        self._sort_arrivals()
        batch[:0] = [job for job in self._short if not job.future.done()]
        self._short.clear()

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
                    self._transaction([])  # ends what is over
                self._tell_growth()
        except (sqlite3.Error, CajunError) as exc:
            log.debug("sqlite store %s: looking for changes: %s", self._file.path, exc)  # looked for again

    def _is_due(self) -> bool:
        return self._due is not None and self._file.now_ns() >= self._due

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
            self._arrived.put(None)  # the loop ended without closing the store: nobody waits any more


def _run_in(batch: Sequence[Job], tables: Tables) -> int:
    ends, late = time.monotonic() + LONGEST_GROUP, False
    for done, job in enumerate(batch):
        if late and not job.short:
            return done
        job.run(tables)
        late = not job.short and time.monotonic() > ends
    return len(batch)


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
