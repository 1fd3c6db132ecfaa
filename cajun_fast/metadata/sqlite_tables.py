"""The tables of ``sqlite://`` and every statement on them: what Truth is to ``memory://``.

Laws: called by the store's own thread only, inside a transaction that the caller began and will end; a verb
that refuses (CajunError) has written nothing, so others in the same transaction stand. The revision is read
when a transaction begins and written once when it ends. A lease holds until ``expires``, by the clock that
all processes of a machine share; one that ends later than ``now + ttl`` was granted by a clock that has begun
again since, and is over. Each step of a statement lets go of Python's lock, and has to wait for it again while
the event loop is busy (up to 5 ms): a transaction of many keys is three statements, whatever their number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from cajun_fast.metadata.checks import Operation, prefix_end
from cajun_fast.metadata.store import Compare, Delete, Entry, Event, EventKind, Outcome, Page, Put
from cajun_fast.metadata.watching import Changes, Difference, Opening, compacted, deletion, lease_over

APPLICATION_ID = 0x43414A4E  # "CAJN"
LAYOUT = 1
#: Log rows of one read by a watch.
READ_AT_ONCE = 1000
#: Compaction waits for this part of the history on top of it, so that it runs seldom.
COMPACT_EVERY = 8

SCHEMA = """
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,  -- of the last change
    floor INTEGER NOT NULL,     -- the last revision that the log no longer has
    boot TEXT NOT NULL          -- the boot of the machine that the leases' times belong to
);
CREATE TABLE entries (
    key BLOB PRIMARY KEY,       -- UTF-8, so that their order is that of the text
    value BLOB NOT NULL,
    revision INTEGER NOT NULL,
    created INTEGER NOT NULL,
    lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX entries_of_lease ON entries (lease) WHERE lease <> 0;
CREATE TABLE leases (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL, expires INTEGER NOT NULL);
CREATE INDEX leases_by_end ON leases (expires);
CREATE TABLE log (
    revision INTEGER NOT NULL,
    place INTEGER NOT NULL,     -- within the revision
    key BLOB NOT NULL,
    value BLOB,                 -- NULL: deleted
    created INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    PRIMARY KEY (revision, place)
) WITHOUT ROWID;
"""
_ENTRY = "SELECT key, value, revision, created, lease FROM entries"
#: Rows of one statement.
ROWS = 128
_PUT = """WITH put (place, key, value, lease, revision) AS (VALUES {rows})
INSERT INTO entries (key, value, revision, created, lease)
SELECT key, value, revision, revision, lease FROM put WHERE true
ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, lease = excluded.lease"""
_LOG_PUT = """WITH put (place, key, value, lease, revision) AS (VALUES {rows})
INSERT INTO log (revision, place, key, value, created, lease)
SELECT put.revision, place, key, put.value, created, put.lease FROM put JOIN entries USING (key)"""
_DIFFERING = """WITH wanted (key, revision) AS (VALUES {rows})
SELECT count(*) FROM wanted LEFT JOIN entries USING (key)
WHERE coalesce(entries.revision, 0) <> wanted.revision"""
_LOG = "INSERT INTO log (revision, place, key, value, created, lease) VALUES (?, ?, ?, ?, ?, ?)"


class Tables:
    """See the module's laws."""

    def __init__(self, connection: sqlite3.Connection, now_ns: Callable[[], int], history: int) -> None:
        self.revision = 0
        self.floor = 0
        self._execute = connection.execute
        self._now = now_ns
        self._history = history
        self._stored = (0, 0)

    # ---- the frame of a transaction

    def create(self, boot: str) -> None:
        for statement in SCHEMA.split(";\n"):
            if statement.strip():
                self._execute(statement)
        self._execute("INSERT INTO state VALUES (1, 0, 0, ?)", (boot,))
        self._execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._execute(f"PRAGMA user_version = {LAYOUT}")

    def begin(self) -> None:
        self.revision, self.floor = self._stored = self._execute(
            "SELECT revision, floor FROM state"
        ).fetchone()

    def end(self) -> None:
        """Write what changed about the whole; cut the log where it has grown too long."""
        if self.revision - self.floor > self._history + max(1, self._history // COMPACT_EVERY):
            self.floor = self.revision - self._history
            self._execute("DELETE FROM log WHERE revision <= ?", (self.floor,))
        if (self.revision, self.floor) != self._stored:
            self._execute("UPDATE state SET revision = ?, floor = ?", (self.revision, self.floor))

    def settle_boot(self, boot: str) -> None:
        """After a start of the machine every lease is over, whatever its time says."""
        known = self._execute("SELECT boot FROM state").fetchone()[0]
        query = "SELECT id FROM leases WHERE ? OR expires - ttl > ? ORDER BY id"
        for (lease_id,) in self._execute(query, (known != boot, self._now())).fetchall():
            self.revoke(lease_id)
        self._execute("UPDATE state SET boot = ?", (boot,))

    # ---- reading

    def get(self, key: str) -> Entry | None:
        row = self._execute(_ENTRY + " WHERE key = ?", (key.encode(),)).fetchone()
        return _entry(row) if row else None

    def page(self, prefix: str, limit: int, after: str | None) -> Page:
        where, values = _within(prefix)
        if after is not None:
            where, values = where + " AND key > ?", [*values, after.encode()]
        rows = self._execute(f"{_ENTRY} WHERE {where} ORDER BY key LIMIT ?", [*values, limit + 1]).fetchall()
        entries = tuple(map(_entry, rows[:limit]))
        return Page(entries, self.revision, entries[-1].key if len(rows) > limit else None)

    # ---- writing

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> Outcome:
        if not self._hold(compares):
            current = {compare.key: self.get(compare.key) for compare in compares}
            return Outcome(False, self.revision, {key: entry for key, entry in current.items() if entry})
        for lease_id in {change.lease for change in operations if isinstance(change, Put) and change.lease}:
            self._check_lease(lease_id)
        self._apply(operations)
        return Outcome(True, self.revision, {})

    def delete(self, key: str) -> bool:
        before = self.revision
        self._apply([Delete(key)])
        return self.revision > before

    def _hold(self, compares: Sequence[Compare]) -> bool:
        for some in _portions(compares):
            values = [part for each in some for part in (each.key.encode(), each.revision)]
            query = _DIFFERING.format(rows=_rows("(?, ?)", len(some)))
            if self._execute(query, values).fetchone()[0]:
                return False
        return True

    def _apply(self, operations: Sequence[Operation]) -> None:
        revision = self.revision + 1
        puts: list[tuple[int, Put]] = []
        for place, change in enumerate(operations):
            if isinstance(change, Put):
                puts.append((place, change))
            elif self._delete(change.key.encode(), revision, place):
                self.revision = revision
        for some in _portions(puts):
            self._put(some, revision)
            self.revision = revision

    def _delete(self, key: bytes, revision: int, place: int) -> bool:
        if not self._execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount:
            return False
        self._execute(_LOG, (revision, place, key, None, 0, 0))
        return True

    def _put(self, puts: Sequence[tuple[int, Put]], revision: int) -> None:
        rows = _rows("(?, ?, ?, ?, ?)", len(puts))
        values = [
            part for place, put in puts for part in (place, put.key.encode(), put.value, put.lease, revision)
        ]
        self._execute(_PUT.format(rows=rows), values)
        self._execute(_LOG_PUT.format(rows=rows), values)

    # ---- leases

    def grant(self, lease_id: int, ttl_ns: int) -> None:
        values = (lease_id, ttl_ns, self._now() + ttl_ns)
        self._execute("INSERT INTO leases (id, ttl, expires) VALUES (?, ?, ?)", values)

    def refresh(self, lease_id: int, ttl_ns: int) -> None:
        values = (self._now() + ttl_ns, ttl_ns, lease_id)
        if not self._execute("UPDATE leases SET expires = ?, ttl = ? WHERE id = ?", values).rowcount:
            raise lease_over(lease_id)

    def revoke(self, lease_id: int) -> None:
        rows = self._execute("SELECT key FROM entries WHERE lease = ? ORDER BY key", (lease_id,)).fetchall()
        self._apply([Delete(key.decode()) for (key,) in rows])
        self._execute("DELETE FROM leases WHERE id = ?", (lease_id,))

    def _check_lease(self, lease_id: int) -> None:
        if not self._execute("SELECT 1 FROM leases WHERE id = ?", (lease_id,)).fetchone():
            raise lease_over(lease_id)

    def next_expiry(self) -> int | None:
        found = self._execute("SELECT min(expires) FROM leases").fetchone()[0]
        return None if found is None else int(found)

    def is_due(self) -> bool:
        due = self.next_expiry()
        return due is not None and due <= self._now()

    def sweep(self) -> None:
        """End the leases whose time is over."""
        query = "SELECT id FROM leases WHERE expires <= ? ORDER BY expires, id"
        for (lease_id,) in self._execute(query, (self._now(),)).fetchall():
            self.revoke(lease_id)

    # ---- watching

    def opening(self, prefix: str, revision: int | None) -> Opening:
        cursor = self.revision if revision is None else revision
        if cursor < self.floor:
            raise compacted(cursor, self.floor)
        where, values = _within(prefix)
        query = (
            f"SELECT key FROM entries WHERE {where} UNION SELECT key FROM log WHERE revision > ? AND {where}"
        )
        rows = self._execute(query, [*values, cursor, *values])
        return Opening(cursor, {key.decode() for (key,) in rows})

    def changes(self, prefix: str, cursor: int) -> Changes | None:
        if cursor < self.floor:
            return None
        where, values = _within(prefix)
        base = f"FROM log WHERE revision > ? AND {where}"
        order = "ORDER BY revision, place"
        row = self._execute(
            f"SELECT revision {base} {order} LIMIT 1 OFFSET ?", [cursor, *values, READ_AT_ONCE]
        ).fetchone()
        upto = row[0] if row else max(cursor, self.revision)
        query = f"SELECT key, value, revision, created, lease {base} AND revision <= ? {order}"
        return Changes([_event(row) for row in self._execute(query, [cursor, *values, upto])], upto)

    def difference(self, prefix: str, cursor: int) -> Difference:
        where, values = _within(prefix)
        keys = {key.decode() for (key,) in self._execute(f"SELECT key FROM entries WHERE {where}", values)}
        written = self._execute(f"{_ENTRY} WHERE {where} AND revision > ?", [*values, cursor])
        return Difference(keys, [_entry(row) for row in written], self.revision)

    def written_since(self, revision: int, limit: int) -> set[str] | None:
        """The keys of the log after a revision; None if they are too many or no longer there."""
        if revision < self.floor:
            return None
        query = (  # one row: each of many would wait for Python's lock
            "SELECT group_concat(CAST(key AS TEXT), char(0)) FROM "
            "(SELECT key FROM log WHERE revision > ? LIMIT ?)"
        )
        joined = self._execute(query, (revision, limit + 1)).fetchone()[0]
        keys = joined.split("\0") if joined is not None else []
        return set(keys) if len(keys) <= limit else None


Part = TypeVar("Part")


def _portions(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """As many at a time as one statement takes."""
    for start in range(0, len(parts), ROWS):
        yield parts[start : start + ROWS]


def _rows(row: str, count: int) -> str:
    return ", ".join([row] * count)


def _within(prefix: str) -> tuple[str, list[bytes]]:
    start = prefix.encode()
    end = prefix_end(start)
    return ("key >= ?", [start]) if end is None else ("key >= ? AND key < ?", [start, end])


def _entry(row: Sequence[Any]) -> Entry:
    key, value, revision, created, lease = row
    return Entry(key.decode(), value, revision, created, lease)


def _event(row: Sequence[Any]) -> Event:
    if row[1] is None:
        return deletion(row[0].decode(), row[2])
    return Event(EventKind.PUT, _entry(row))
