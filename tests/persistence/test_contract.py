"""The contract suite on each persistence."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from cajun_fast.persistence.base import Commit, Persistence, Told
from cajun_fast.persistence.memory import MemoryPersistence
from cajun_fast.persistence.sqlite import SqlitePersistence
from cajun_fast.testing.persistence_contract import FIRST, SECOND, PersistenceContract


class TestMemory(PersistenceContract):
    def make(self, tmp_path: Path) -> Persistence:
        return MemoryPersistence(str(tmp_path))


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
class TestSqlite(PersistenceContract):
    def make(self, tmp_path: Path) -> Persistence:
        return SqlitePersistence(tmp_path / "state.db")


async def test_a_file_from_before_messages_carried_traces_gets_the_column(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqlitePersistence(path) as store:
        await store.restore("a", FIRST, "b")
        told = [Told(1, "x", "@a#b.1", 1, 2, b"hello")]
        assert await store.commit([Commit(actor_id="a", epoch=FIRST, version=0, told=told)]) == [None]
    with contextlib.closing(sqlite3.connect(path)) as file:  # as the first layout was
        file.execute("ALTER TABLE outbox DROP COLUMN trace")
        file.execute("PRAGMA user_version=1")
    stores = [SqlitePersistence(path) for _ in range(4)]
    await asyncio.gather(*(store.connect() for store in stores))
    told = [Told(2, "x", "@a#b.1", 2, 2, b"bye", b"trace")]
    assert await stores[0].commit([Commit(actor_id="a", epoch=FIRST, version=1, told=told)]) == [None]
    restored = await stores[3].restore("a", SECOND, "b")
    assert list(restored.outbox) == [Told(1, "x", "@a#b.1", 1, 2, b"hello"), *told]
    for each in stores:
        await each.close()
