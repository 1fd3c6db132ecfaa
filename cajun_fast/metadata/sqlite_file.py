"""One connection to a cluster's database file: opening it, its transactions, and what its errors mean.

Laws: used by one thread. A file that is not ours is left as it was found. What sqlite says is translated
here, into an error that names the path and the remedy; only "busy" passes, for the one who knows how long to
wait.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cajun_fast.errors import CajunError, ConfigError, MetadataStoreError, MetadataStoreUnavailableError
from cajun_fast.metadata.sqlite_place import boot_id, check_place
from cajun_fast.metadata.sqlite_tables import APPLICATION_ID, LAYOUT, Tables

#: The write-ahead log is cut to this size when it has been written back.
JOURNAL_BYTES = 64 << 20


class DatabaseFile:
    """See the module's laws."""

    def __init__(
        self,
        path: Path,
        *,
        now_ns: Callable[[], int],
        chance: random.Random,
        history: int,
        synchronous: str = "NORMAL",
        boot: str | None = None,
    ) -> None:
        self.path = path
        self.now_ns = now_ns
        self.random = chance
        self.tables: Tables
        self._boot = boot or boot_id()
        self._history = history
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)

    @property
    def connection(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def open(self) -> None:
        check_place(self.path)
        if self._connection is None:
            self._connection = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, cached_statements=64
            )
        self._check_ours()
        connection = self.connection
        connection.execute("PRAGMA busy_timeout = 0")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ConfigError(
                f"sqlite store {str(self.path)!r}: no write-ahead log is possible here (got {mode!r}): "
                "use a local disk, or etcd"
            )
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        self.tables = Tables(connection, self.now_ns, self._history)
        self._identity = self._seen_identity()

    def _check_ours(self) -> None:
        """Refuse a database of another program, or of a later version, before anything is written."""
        connection = self.connection
        connection.execute("BEGIN")  # one view: another process may be creating it now
        with self._ending(connection):
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            layout = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID and (application or tables):
            raise ConfigError(
                f"sqlite store {str(self.path)!r} is the database of another program: name a file of its own"
            )
        if layout > LAYOUT:
            raise ConfigError(
                f"sqlite store {str(self.path)!r} has layout {layout}, this version knows {LAYOUT}: upgrade "
                "cajun_fast on this node, or name another file"
            )

    def prepare(self) -> None:
        """Create what is missing, end the leases of an earlier boot."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        with self._ending(connection):
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                self.tables.create(self._boot)
            self.tables.begin()
            self.tables.settle_boot(self._boot)
            self.tables.sweep()
            self.tables.end()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Tables]:
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        with self._ending(connection):
            self.tables.begin()
            yield self.tables
            if writes:
                self.tables.end()

    @contextmanager
    def _ending(self, connection: sqlite3.Connection) -> Iterator[None]:
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def data_version(self) -> int:
        """Another number when another connection has written."""
        return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def check_same(self) -> None:
        """Raises if the path no longer leads to the file that was opened: writes would be seen by nobody."""
        if self._seen_identity() != self._identity:
            raise MetadataStoreUnavailableError(
                f"sqlite store {str(self.path)!r} was removed or replaced while in use: stop all nodes of "
                "the cluster on this machine, then start them again"
            )

    def _seen_identity(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path)
        except OSError:
            return (-1, -1)
        return (found.st_dev, found.st_ino)


_REMEDIES: dict[int, tuple[type[CajunError], str]] = {
    sqlite3.SQLITE_NOTADB: (ConfigError, "it is not a database: name another file, or move this one away"),
    sqlite3.SQLITE_CORRUPT: (
        MetadataStoreUnavailableError,
        "the file is damaged: stop all nodes, move it away, start again",
    ),
    sqlite3.SQLITE_CANTOPEN: (MetadataStoreUnavailableError, "check that its folder exists and is writable"),
    sqlite3.SQLITE_READONLY: (MetadataStoreUnavailableError, "make the file and its folder writable"),
    sqlite3.SQLITE_PERM: (MetadataStoreUnavailableError, "make the file and its folder writable"),
    sqlite3.SQLITE_FULL: (MetadataStoreUnavailableError, "the disk is full: make room"),
    sqlite3.SQLITE_IOERR: (MetadataStoreUnavailableError, "check the disk and the system's log"),
    sqlite3.SQLITE_BUSY: (
        MetadataStoreUnavailableError,
        "another process kept it locked: look for one that is stopped or stuck in a transaction",
    ),
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """sqlite's errors in the terms of this package."""
    try:
        yield
    except sqlite3.Error as exc:
        code = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
        kind, remedy = _REMEDIES.get(code, (MetadataStoreError, "report this as a bug, with the text above"))
        raise kind(f"sqlite store {str(path)!r}: {exc}; {remedy}") from exc
