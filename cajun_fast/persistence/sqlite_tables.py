"""The tables of durable actors in an sqlite file, and the statements on them.

Laws: used inside a transaction that the caller begins and ends. A commit that is refused has written nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from cajun_fast.errors import ConfigError, PersistenceError, StaleOwnerError
from cajun_fast.persistence.base import Commit, Epoch, Event, Reply, Restored, Told, stale

APPLICATION_ID = 0x436A4453  # "CjDS"
LAYOUT = 2

TABLES = (
    """CREATE TABLE actors (
        id TEXT PRIMARY KEY, realm TEXT NOT NULL, epoch INTEGER NOT NULL, version INTEGER NOT NULL,
        life INTEGER NOT NULL, birth TEXT NOT NULL, schema INTEGER NOT NULL, state BLOB) WITHOUT ROWID""",
    """CREATE TABLE events (
        id TEXT NOT NULL, number INTEGER NOT NULL, schema INTEGER NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (id, number)) WITHOUT ROWID""",
    """CREATE TABLE cursors (
        id TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (id, stream)) WITHOUT ROWID""",
    """CREATE TABLE replies (
        id TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL, ok INTEGER NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (id, stream, number)) WITHOUT ROWID""",
    """CREATE TABLE outbox (
        id TEXT NOT NULL, row INTEGER NOT NULL, target TEXT NOT NULL, stream TEXT NOT NULL, number INTEGER NOT NULL,
        guarantee INTEGER NOT NULL, message BLOB NOT NULL, trace BLOB, PRIMARY KEY (id, row)) WITHOUT ROWID""",
)
OF_ONE = ("events", "cursors", "replies", "outbox")


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables in a new file. Raises ConfigError for a file that is something else."""
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if mark == APPLICATION_ID:
        if layout == 1:  # from before messages carried traces
            connection.execute("ALTER TABLE outbox ADD COLUMN trace BLOB")
            connection.execute(f"PRAGMA user_version={LAYOUT}")
            return
        if layout != LAYOUT:
            raise ConfigError(
                f"persistence {path!r} has layout {layout}, this version knows {LAYOUT}: use the version of "
                "cajun-fast that wrote it, or another file"
            )
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if mark or tables:
        raise ConfigError(
            f"persistence {path!r} is the database of something else: name another file (the metadata store and "
            "the persistence have a file each)"
        )
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={LAYOUT}")


def restore(connection: sqlite3.Connection, actor_id: str, epoch: Epoch, birth: str) -> Restored:
    row = connection.execute("SELECT realm, epoch FROM actors WHERE id=?", (actor_id,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO actors VALUES (?, ?, ?, 0, 1, ?, 0, NULL)", (actor_id, *epoch, birth))
        return Restored(version=0, life=1, birth=birth)
    stands = Epoch(*row)
    if stands.realm == epoch.realm and stands.number > epoch.number:
        raise StaleOwnerError(stale(actor_id, epoch, stands), actor_id)
    connection.execute(
        "UPDATE actors SET realm=?, epoch=?, life=life+1 WHERE id=?", (epoch.realm, epoch.number, actor_id)
    )
    restored = peek(connection, actor_id)
    assert restored is not None
    return restored


def peek(connection: sqlite3.Connection, actor_id: str) -> Restored | None:
    def rows(what: str, table: str, order: str = "number") -> Iterable[tuple[object, ...]]:
        return connection.execute(f"SELECT {what} FROM {table} WHERE id=? ORDER BY {order}", (actor_id,))

    row = connection.execute(
        "SELECT version, life, birth, state, schema FROM actors WHERE id=?", (actor_id,)
    ).fetchone()
    if row is None:
        return None
    version, life, birth, state, schema = row
    return Restored(
        version=version,
        life=life,
        birth=birth,
        state=state,
        schema=schema,
        events=[Event(*each) for each in rows("number, schema, value", "events")],  # type: ignore[arg-type]
        cursors=dict(rows("stream, number", "cursors", "stream")),  # type: ignore[arg-type]
        replies=[
            Reply(str(stream), number, bool(ok), value)  # type: ignore[arg-type]
            for stream, number, ok, value in rows("stream, number, ok, value", "replies")
        ],
        outbox=[
            Told(*each)  # type: ignore[arg-type]
            for each in rows("row, target, stream, number, guarantee, message, trace", "outbox", "row")
        ],
    )


def commit(connection: sqlite3.Connection, commit: Commit) -> PersistenceError | None:
    actor_id, epoch, version = commit.actor_id, commit.epoch, commit.version
    changed = connection.execute(
        "UPDATE actors SET version=version+1 WHERE id=? AND realm=? AND epoch=? AND version=?",
        (actor_id, epoch.realm, epoch.number, version),
    ).rowcount
    if not changed:
        return _refusal(connection, commit)
    if commit.state is not None:
        connection.execute(
            "UPDATE actors SET state=?, schema=? WHERE id=?", (commit.state, commit.schema, actor_id)
        )
        connection.execute("DELETE FROM events WHERE id=?", (actor_id,))
    _add(connection, commit)
    _remove(connection, commit)
    return None


def _refusal(connection: sqlite3.Connection, commit: Commit) -> PersistenceError | None:
    row = connection.execute(
        "SELECT realm, epoch, version FROM actors WHERE id=?", (commit.actor_id,)
    ).fetchone()
    if row is None:
        return StaleOwnerError(
            f"the state of durable actor {commit.actor_id!r} was deleted while it ran", commit.actor_id
        )
    if Epoch(*row[:2]) == commit.epoch and row[2] == commit.version + 1:
        return None  # it stands already: its answer was lost
    return StaleOwnerError(stale(commit.actor_id, commit.epoch, Epoch(*row[:2])), commit.actor_id)


def _add(connection: sqlite3.Connection, commit: Commit) -> None:
    actor_id, many = commit.actor_id, connection.executemany
    if commit.events:
        many(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            [(actor_id, number, commit.schema, value) for number, value in commit.events],
        )
    if commit.cursors:
        many(
            "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
            [(actor_id, stream, number) for stream, number in commit.cursors.items()],
        )
    if commit.replies:
        many(
            "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?)",
            [(actor_id, *each) for each in commit.replies],
        )
    if commit.told:
        many(
            "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(actor_id, *each) for each in commit.told],
        )


def _remove(connection: sqlite3.Connection, commit: Commit) -> None:
    actor_id, many = commit.actor_id, connection.executemany
    if commit.trims:
        many(
            "DELETE FROM replies WHERE id=? AND stream=? AND number<?",
            [(actor_id, stream, low) for stream, low in commit.trims.items()],
        )
    if commit.dropped:
        gone = [(actor_id, stream) for stream in commit.dropped]
        many("DELETE FROM cursors WHERE id=? AND stream=?", gone)
        many("DELETE FROM replies WHERE id=? AND stream=?", gone)
    if commit.finished:
        many("DELETE FROM outbox WHERE id=? AND row=?", [(actor_id, row) for row in commit.finished])


def delete(connection: sqlite3.Connection, actor_id: str) -> bool:
    for table in OF_ONE:
        connection.execute(f"DELETE FROM {table} WHERE id=?", (actor_id,))
    return connection.execute("DELETE FROM actors WHERE id=?", (actor_id,)).rowcount > 0


def ids(connection: sqlite3.Connection, prefix: str, limit: int, after: str) -> list[str]:
    found = connection.execute(
        "SELECT id FROM actors WHERE id > ? AND substr(id, 1, ?) = ? AND id >= ? ORDER BY id LIMIT ?",
        (after, len(prefix), prefix, prefix, limit),
    )
    return [row[0] for row in found]
