"""The contract suite on each persistence."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from cajun_fast.persistence.base import Persistence
from cajun_fast.persistence.memory import MemoryPersistence
from cajun_fast.persistence.sqlite import SqlitePersistence
from cajun_fast.testing.persistence_contract import PersistenceContract
from tests.persistence.first_layout import check_it_is_brought_up


class TestMemory(PersistenceContract):
    def make(self, tmp_path: Path) -> Persistence:
        return MemoryPersistence(str(tmp_path))


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
class TestSqlite(PersistenceContract):
    def make(self, tmp_path: Path) -> Persistence:
        return SqlitePersistence(tmp_path / "state.db")


async def test_a_file_from_before_messages_carried_traces_gets_the_column(tmp_path: Path) -> None:
    path = tmp_path / "state.db"

    async def age() -> None:
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.execute("ALTER TABLE outbox DROP COLUMN trace")
            file.execute("PRAGMA user_version=1")

    await check_it_is_brought_up(lambda: SqlitePersistence(path), age)
