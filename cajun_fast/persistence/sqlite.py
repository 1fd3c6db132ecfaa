"""Persistence in an sqlite file: ``sqlite:///state.db``. For the processes of one machine, with nothing else to run.

Laws: one thread of its own touches the database; calls that wait together share a transaction (group commit), and
none is answered before it is committed. ``?synchronous=full`` (the default) survives loss of power, ``=normal`` the
death of any process. Waiting for another process's transaction is bounded by ``timeout``.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from cajun_fast.errors import (
    CajunError,
    ConfigError,
    NotRunningError,
    PersistenceError,
    PersistenceUnavailableError,
)
from cajun_fast.metadata.sqlite_place import check_place
from cajun_fast.metadata.urls import split_path
from cajun_fast.persistence import sqlite_tables as tables
from cajun_fast.persistence.base import Commit, Epoch, Persistence, Restored

T = TypeVar("T")
#: Calls that share one transaction: bounds how long other processes are kept out.
TOGETHER = 64
SHORTEST_PAUSE, LONGEST_PAUSE = 0.0002, 0.005
WAL_BYTES = 64 << 20


class Job:
    """One call: what to do with the connection, and who waits."""

    __slots__ = ("error", "future", "result", "since", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.since = time.monotonic()
        self.result: Any = None
        self.error: CajunError | None = None

    def deliver(self) -> None:
        """On the loop."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SqlitePersistence(Persistence):
    """See the module's laws."""

    def __init__(
        self, path: str | os.PathLike[str], *, synchronous: str = "full", timeout: float = 5.0
    ) -> None:
        if synchronous not in ("full", "normal"):
            raise ConfigError(f"persistence {str(path)!r}: synchronous={synchronous!r}: give full or normal")
        self.path = Path(path)
        self.url = f"sqlite:///{path}"
        self._synchronous = synchronous
        self._timeout = timeout
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closed = False

    @classmethod
    def from_url(cls, url: str) -> SqlitePersistence:
        """``sqlite:///relative.db``, ``sqlite:////absolute/path.db``; ``?synchronous=normal``, ``timeout=…``."""
        path, options = split_path(url)
        unknown = options.keys() - {"synchronous", "timeout"}
        if unknown:
            raise ConfigError(
                f"persistence {url!r}: no option {min(unknown)!r}: there are synchronous and timeout"
            )
        try:
            timeout = float(options.get("timeout", "5"))
        except ValueError as exc:
            raise ConfigError(f"persistence {url!r}: timeout={options['timeout']!r}: give seconds") from exc
        return cls(path, synchronous=options.get("synchronous", "full").lower(), timeout=timeout)

    # ---- on the loop

    async def connect(self) -> None:
        if self._thread is not None:
            raise NotRunningError(f"persistence {self.url} was opened before: make a new one")
        check_place(self.path)
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(Job(lambda _: None, opened),), name="cajun-fast-state", daemon=True
        )
        self._thread.start()
        try:
            await opened
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        thread, self._thread = self._thread, self._thread
        if thread is None or self._closed:
            self._closed = True
            return
        self._closed = True
        self._jobs.put(None)
        assert self._ended is not None
        await asyncio.shield(self._ended)
        thread.join()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._thread is None or self._closed or self._loop is None:
            raise NotRunningError(f"persistence {self.url} is not open: connect() first")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(Job(work, future))
        return cast(T, await future)

    async def restore(self, actor_id: str, epoch: Epoch, birth: str) -> Restored:
        return await self._do(lambda db: tables.restore(db, actor_id, epoch, birth))

    async def commit(self, commits: Sequence[Commit]) -> list[PersistenceError | None]:
        return await self._do(lambda db: [tables.commit(db, each) for each in commits])

    async def delete(self, actor_id: str) -> bool:
        return await self._do(lambda db: tables.delete(db, actor_id))

    async def peek(self, actor_id: str) -> Restored | None:
        return await self._do(lambda db: tables.peek(db, actor_id))

    async def ids(self, prefix: str = "", *, limit: int = 1000, after: str = "") -> list[str]:
        return await self._do(lambda db: tables.ids(db, prefix, limit, after))

    # ---- in the thread

    def _run(self, opening: Job) -> None:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._open(opening)
            if connection is not None:
                self._serve(connection)
        finally:
            if connection is not None:
                connection.close()
            self._post(self._on_end)

    def _on_end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _open(self, job: Job) -> sqlite3.Connection | None:
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, cached_statements=64)
            opened = connection
            self._patiently(job.since, lambda: self._set_up(opened))
        except (sqlite3.Error, CajunError) as exc:
            job.error = exc if isinstance(exc, CajunError) else self._translated(exc)
            if connection is not None:
                connection.close()
            connection = None
        self._post(job.deliver)
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        self._transaction(connection, lambda db: tables.prepare(db, str(self.path)))

    def _serve(self, connection: sqlite3.Connection) -> None:
        while (batch := self._next()) is not None:
            self._run_batch(connection, batch)
            self._post_all(batch)
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job.error = NotRunningError(f"persistence {self.url} was closed")
                self._post(job.deliver)

    def _next(self) -> list[Job] | None:
        job = self._jobs.get()
        batch: list[Job] = []
        while job is not None:
            batch.append(job)
            if len(batch) >= TOGETHER or self._jobs.empty():
                return batch
            job = self._jobs.get()
        if batch:
            self._jobs.put(None)  # seen again after this batch
            return batch
        return None

    def _run_batch(self, connection: sqlite3.Connection, batch: list[Job]) -> None:
        def together(db: sqlite3.Connection) -> None:
            for job in batch:
                try:
                    job.result, job.error = job.work(db), None
                except CajunError as exc:  # it was refused and has written nothing
                    job.error = exc

        try:
            self._patiently(batch[0].since, lambda: self._transaction(connection, together))
        except sqlite3.Error as exc:
            if len(batch) == 1 or _code(exc) in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_FULL,
                sqlite3.SQLITE_IOERR,
            ):
                for job in batch:
                    job.error = self._translated(exc)
                return
            for job in batch:  # one of them is at fault
                self._run_batch(connection, [job])

    def _transaction(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], None]
    ) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _patiently(self, since: float, attempt: Callable[[], None]) -> None:
        """Again while another process is in a transaction; sqlite's own waiting sleeps too long for short ones."""
        pause = SHORTEST_PAUSE
        while True:
            try:
                attempt()
            except sqlite3.OperationalError as exc:
                busy = _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not busy or time.monotonic() - since > self._timeout:
                    raise
            else:
                return
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _translated(self, exc: sqlite3.Error) -> CajunError:
        kind, remedy = _REMEDIES.get(_code(exc), (PersistenceUnavailableError, "see the text above"))
        error = kind(f"persistence {str(self.path)!r}: {exc}; {remedy}")
        error.__cause__ = exc
        return error

    def _post_all(self, batch: list[Job]) -> None:
        def deliver() -> None:
            for job in batch:
                job.deliver()

        self._post(deliver)

    def _post(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            self._jobs.put(None)  # the loop ended without closing: nobody waits any more


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


_REMEDIES: dict[int, tuple[type[CajunError], str]] = {
    sqlite3.SQLITE_NOTADB: (ConfigError, "it is not a database: name another file, or move this one away"),
    sqlite3.SQLITE_CORRUPT: (PersistenceUnavailableError, "the file is damaged: restore it from a copy"),
    sqlite3.SQLITE_CANTOPEN: (PersistenceUnavailableError, "check that its folder exists and is writable"),
    sqlite3.SQLITE_READONLY: (PersistenceUnavailableError, "make the file and its folder writable"),
    sqlite3.SQLITE_FULL: (PersistenceUnavailableError, "the disk is full: make room"),
    sqlite3.SQLITE_IOERR: (PersistenceUnavailableError, "check the disk and the system's log"),
    sqlite3.SQLITE_BUSY: (
        PersistenceUnavailableError,
        "another process kept it locked: look for one that is stopped or stuck in a transaction",
    ),
}
