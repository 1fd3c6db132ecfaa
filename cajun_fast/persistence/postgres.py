"""Persistence in PostgreSQL: ``postgresql://user@host/database``. For many machines.

Laws: a group of commits is one transaction; the rows of its actors are locked in the order of their ids, so groups
never deadlock. What the driver raises is translated here: an answer that did not come is PersistenceUnavailableError.
Tables are made at the first connection and their names begin with ``cajun_``. Needs asyncpg:
``pip install 'cajun-fast[postgres]'``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cajun_fast.errors import (
    CajunError,
    ConfigError,
    NotRunningError,
    PersistenceError,
    PersistenceUnavailableError,
    StaleOwnerError,
)
from cajun_fast.metadata.urls import redact
from cajun_fast.persistence.base import Commit, Epoch, Event, Persistence, Reply, Restored, Told, stale

try:
    import asyncpg
except ImportError as exc:
    raise ConfigError("persistence postgresql:// needs asyncpg: pip install 'cajun-fast[postgres]'") from exc

#: Held while the tables are made, so that nodes that start at the same time make them once.
LOCK = 0x63616A75
LAYOUT = """
CREATE TABLE IF NOT EXISTS cajun_actors (
    id text COLLATE "C" PRIMARY KEY, realm text NOT NULL, epoch bigint NOT NULL, version bigint NOT NULL,
    life bigint NOT NULL, birth text NOT NULL, schema int NOT NULL, state bytea);
CREATE TABLE IF NOT EXISTS cajun_events (
    id text NOT NULL, number bigint NOT NULL, schema int NOT NULL, value bytea NOT NULL, PRIMARY KEY (id, number));
CREATE TABLE IF NOT EXISTS cajun_cursors (
    id text NOT NULL, stream text NOT NULL, number bigint NOT NULL, PRIMARY KEY (id, stream));
CREATE TABLE IF NOT EXISTS cajun_replies (
    id text NOT NULL, stream text NOT NULL, number bigint NOT NULL, ok boolean NOT NULL, value bytea NOT NULL,
    PRIMARY KEY (id, stream, number));
CREATE TABLE IF NOT EXISTS cajun_outbox (
    id text NOT NULL, num bigint NOT NULL, target text NOT NULL, stream text NOT NULL, number bigint NOT NULL,
    guarantee int NOT NULL, message bytea NOT NULL, trace bytea, PRIMARY KEY (id, num));
"""
HAS_TRACE = """
SELECT count(*) FROM pg_attribute WHERE attrelid = 'cajun_outbox'::regclass AND attname = 'trace' AND NOT attisdropped
"""
RAISE = """
UPDATE cajun_actors AS a SET version = a.version + 1, state = coalesce(u.state, a.state),
    schema = CASE WHEN u.state IS NULL THEN a.schema ELSE u.schema END
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bytea[], $6::int[])
    AS u (id, realm, epoch, version, state, schema)
WHERE a.id = u.id AND a.realm = u.realm AND a.epoch = u.epoch AND a.version = u.version RETURNING a.id
"""
OF_ONE = ("cajun_events", "cajun_cursors", "cajun_replies", "cajun_outbox")


class PostgresPersistence(Persistence):
    """See the module's laws. ``timeout``: seconds for one call."""

    parallel = 4

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self.url = redact(url)
        self._dsn = url
        self._timeout = timeout
        self._pool: Any = None
        self._closed = False

    @classmethod
    def from_url(cls, url: str) -> PostgresPersistence:
        """A libpq URL."""
        return cls(url)

    # ---- life

    async def connect(self) -> None:
        if self._pool is not None or self._closed:
            raise NotRunningError(f"persistence {self.url} was opened before: make a new one")
        async with self._translated():
            try:
                self._pool = await asyncpg.create_pool(
                    self._dsn, min_size=1, max_size=self.parallel + 2, command_timeout=self._timeout
                )
            except (ValueError, asyncpg.ClientConfigurationError) as exc:
                raise ConfigError(f"persistence {self.url!r} is no PostgreSQL URL: {exc}") from exc
            async with self._pool.acquire() as db, db.transaction():
                await db.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                await db.execute(LAYOUT)
                if not await db.fetchval(HAS_TRACE):  # tables from before messages carried traces
                    await db.execute("ALTER TABLE cajun_outbox ADD COLUMN trace bytea")

    async def close(self) -> None:
        pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), self._timeout)
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except CajunError:
            raise
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError) as exc:
            raise ConfigError(f"persistence {self.url!r}: {exc}: correct user, password or database") from exc
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            raise PersistenceUnavailableError(
                f"persistence {self.url!r}: {type(exc).__name__}: {exc}: check the server and the way to it"
            ) from exc

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        if self._pool is None:
            raise NotRunningError(f"persistence {self.url} is not open: connect() first")
        async with self._translated(), self._pool.acquire(timeout=self._timeout) as db, db.transaction():
            yield db

    # ---- owners

    async def restore(self, actor_id: str, epoch: Epoch, birth: str) -> Restored:
        async with self._transaction() as db:
            await db.execute(
                "INSERT INTO cajun_actors VALUES ($1, $2, $3, 0, 0, $4, 0, NULL) ON CONFLICT DO NOTHING",
                actor_id,
                *epoch,
                birth,
            )
            row = await db.fetchrow("SELECT realm, epoch FROM cajun_actors WHERE id=$1 FOR UPDATE", actor_id)
            stands = Epoch(*row)
            if stands.realm == epoch.realm and stands.number > epoch.number:
                raise StaleOwnerError(stale(actor_id, epoch, stands), actor_id)
            await db.execute(
                "UPDATE cajun_actors SET realm=$2, epoch=$3, life=life+1 WHERE id=$1", actor_id, *epoch
            )
            restored = await self._read(db, actor_id)
            assert restored is not None
            return restored

    async def _read(self, db: Any, actor_id: str) -> Restored | None:
        row = await db.fetchrow(
            "SELECT version, life, birth, state, schema FROM cajun_actors WHERE id=$1", actor_id
        )
        if row is None:
            return None

        async def rows(what: str, table: str, order: str) -> list[Any]:
            found: list[Any] = await db.fetch(
                f"SELECT {what} FROM cajun_{table} WHERE id=$1 ORDER BY {order}", actor_id
            )
            return found

        return Restored(
            **dict(row),
            events=tuple(Event(*each) for each in await rows("number, schema, value", "events", "number")),
            cursors=dict(await rows("stream, number", "cursors", "stream")),
            replies=tuple(
                Reply(*each) for each in await rows("stream, number, ok, value", "replies", "number")
            ),
            outbox=tuple(
                Told(*each)
                for each in await rows(
                    "num, target, stream, number, guarantee, message, trace", "outbox", "num"
                )
            ),
        )

    # ---- commits

    async def commit(self, commits: Sequence[Commit]) -> list[PersistenceError | None]:
        if not commits:
            return []
        async with self._transaction() as db:
            names = [each.actor_id for each in commits]
            await db.execute("SELECT FROM cajun_actors WHERE id = ANY($1) ORDER BY id FOR UPDATE", names)
            raised = await db.fetch(
                RAISE,
                names,
                [each.epoch.realm for each in commits],
                [each.epoch.number for each in commits],
                [each.version for each in commits],
                [each.state for each in commits],
                [each.schema for each in commits],
            )
            done = {row[0] for row in raised}
            await self._write(db, [each for each in commits if each.actor_id in done])
            refused = [each for each in commits if each.actor_id not in done]
            reasons = await self._reasons(db, refused) if refused else {}
            return [reasons.get(name) for name in names]

    async def _reasons(self, db: Any, refused: list[Commit]) -> dict[str, PersistenceError | None]:
        found = await db.fetch(
            "SELECT id, realm, epoch, version FROM cajun_actors WHERE id = ANY($1)",
            [each.actor_id for each in refused],
        )
        stands = {row[0]: (Epoch(row[1], row[2]), row[3]) for row in found}
        reasons: dict[str, PersistenceError | None] = {}
        for each in refused:
            name = each.actor_id
            if name not in stands:
                text = f"the state of durable actor {name!r} was deleted while it ran"
                reasons[name] = StaleOwnerError(text, name)
            elif stands[name] != (
                each.epoch,
                each.version + 1,
            ):  # else it stands already: its answer was lost
                reasons[name] = StaleOwnerError(stale(name, each.epoch, stands[name][0]), name)
        return reasons

    async def _write(self, db: Any, commits: list[Commit]) -> None:
        """The parts beside the state, a statement for all actors each; what is not there costs nothing."""
        work: list[tuple[str, list[tuple[Any, ...]]]] = [
            (
                "DELETE FROM cajun_events WHERE id=$1",
                [(each.actor_id,) for each in commits if each.state is not None],
            ),
            (
                "INSERT INTO cajun_events VALUES ($1, $2, $3, $4)",
                [(each.actor_id, n, each.schema, value) for each in commits for n, value in each.events],
            ),
            (
                "INSERT INTO cajun_cursors VALUES ($1, $2, $3) ON CONFLICT (id, stream) DO UPDATE SET number=$3",
                [(each.actor_id, *item) for each in commits for item in each.cursors.items()],
            ),
            (
                "INSERT INTO cajun_replies VALUES ($1, $2, $3, $4, $5) "
                "ON CONFLICT (id, stream, number) DO UPDATE SET ok=$4, value=$5",
                [(each.actor_id, *reply) for each in commits for reply in each.replies],
            ),
            (
                "DELETE FROM cajun_replies WHERE id=$1 AND stream=$2 AND number<$3",
                [(each.actor_id, *item) for each in commits for item in each.trims.items()],
            ),
            (
                "DELETE FROM cajun_cursors WHERE id=$1 AND stream=$2",
                [(each.actor_id, stream) for each in commits for stream in each.dropped],
            ),
            (
                "DELETE FROM cajun_replies WHERE id=$1 AND stream=$2",
                [(each.actor_id, stream) for each in commits for stream in each.dropped],
            ),
            (
                "INSERT INTO cajun_outbox VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id, num) DO NOTHING",
                [(each.actor_id, *told) for each in commits for told in each.told],
            ),
            (
                "DELETE FROM cajun_outbox WHERE id=$1 AND num=$2",
                [(each.actor_id, row) for each in commits for row in each.finished],
            ),
        ]
        for statement, rows in work:
            if rows:
                await db.executemany(statement, rows)

    # ---- looking and forgetting

    async def delete(self, actor_id: str) -> bool:
        async with self._transaction() as db:
            gone = await db.execute("DELETE FROM cajun_actors WHERE id=$1", actor_id)
            for table in OF_ONE:
                await db.execute(f"DELETE FROM {table} WHERE id=$1", actor_id)
            return bool(gone != "DELETE 0")

    async def peek(self, actor_id: str) -> Restored | None:
        async with self._transaction() as db:
            return await self._read(db, actor_id)

    async def ids(self, prefix: str = "", *, limit: int = 1000, after: str = "") -> list[str]:
        async with self._transaction() as db:
            found = await db.fetch(
                "SELECT id FROM cajun_actors WHERE id > $1 AND starts_with(id, $2) ORDER BY id LIMIT $3",
                after,
                prefix,
                limit,
            )
            return [row[0] for row in found]
