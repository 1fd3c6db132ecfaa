"""Persistence in the memory of one process: for tests and for trying things out. ``memory://name`` is shared by all
that open that name; nothing of it survives the process.

Laws: as the interface says, by plain dictionaries; a commit runs without an await, so it is one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from cajun_fast.errors import NotRunningError, PersistenceError, StaleOwnerError
from cajun_fast.persistence.base import (
    Commit,
    Epoch,
    Event,
    Persistence,
    Reply,
    Restored,
    Told,
    stale,
)


@dataclass(slots=True)
class Row:
    epoch: Epoch
    birth: str
    version: int = 0
    life: int = 0
    state: bytes | None = None
    schema: int = 0
    events: list[Event] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    replies: dict[tuple[str, int], Reply] = field(default_factory=dict)
    outbox: dict[int, Told] = field(default_factory=dict)


_NAMED: dict[str, dict[str, Row]] = {}


class MemoryPersistence(Persistence):
    """See the module."""

    def __init__(self, name: str = "", rows: dict[str, Row] | None = None) -> None:
        self.url = f"memory://{name}"
        self._rows = rows if rows is not None else _NAMED.setdefault(name, {}) if name else {}
        self._is_open = False

    async def connect(self) -> None:
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False

    def _check(self) -> None:
        if not self._is_open:
            raise NotRunningError(f"persistence {self.url} is not open: connect() first")

    async def restore(self, actor_id: str, epoch: Epoch, birth: str) -> Restored:
        self._check()
        await asyncio.sleep(0)
        row = self._rows.get(actor_id)
        if row is None:
            row = self._rows[actor_id] = Row(epoch, birth)
        if row.epoch.realm == epoch.realm and row.epoch.number > epoch.number:
            raise StaleOwnerError(stale(actor_id, epoch, row.epoch), actor_id)
        row.epoch = epoch
        row.life += 1
        return self._restored(row)

    def _restored(self, row: Row) -> Restored:
        return Restored(
            version=row.version,
            life=row.life,
            birth=row.birth,
            state=row.state,
            schema=row.schema,
            events=tuple(row.events),
            cursors=dict(row.cursors),
            replies=tuple(row.replies.values()),
            outbox=tuple(sorted(row.outbox.values())),
        )

    async def commit(self, commits: Sequence[Commit]) -> list[PersistenceError | None]:
        self._check()
        await asyncio.sleep(0)
        return [self._commit(each) for each in commits]

    def _commit(self, commit: Commit) -> PersistenceError | None:
        row = self._rows.get(commit.actor_id)
        if row is None:
            return StaleOwnerError(
                f"the state of durable actor {commit.actor_id!r} was deleted while it ran", commit.actor_id
            )
        if row.epoch != commit.epoch or row.version not in (commit.version, commit.version + 1):
            return StaleOwnerError(stale(commit.actor_id, commit.epoch, row.epoch), commit.actor_id)
        if row.version == commit.version:
            self._apply(row, commit)
        return None

    def _apply(self, row: Row, commit: Commit) -> None:
        row.version += 1
        if commit.state is not None:
            row.state, row.schema, row.events = commit.state, commit.schema, []
        row.events += [Event(number, commit.schema, value) for number, value in commit.events]
        row.cursors |= commit.cursors
        for reply in commit.replies:
            row.replies[reply.stream, reply.number] = reply
        for stream, low in commit.trims.items():
            for key in [key for key in row.replies if key[0] == stream and key[1] < low]:
                del row.replies[key]
        for stream in commit.dropped:
            row.cursors.pop(stream, None)
            for key in [key for key in row.replies if key[0] == stream]:
                del row.replies[key]
        for told in commit.told:
            row.outbox[told.row] = told
        for number in commit.finished:
            row.outbox.pop(number, None)

    async def delete(self, actor_id: str) -> bool:
        self._check()
        return self._rows.pop(actor_id, None) is not None

    async def peek(self, actor_id: str) -> Restored | None:
        self._check()
        row = self._rows.get(actor_id)
        return None if row is None else self._restored(row)

    async def ids(self, prefix: str = "", *, limit: int = 1000, after: str = "") -> list[str]:
        self._check()
        return sorted(each for each in self._rows if each.startswith(prefix) and each > after)[:limit]
