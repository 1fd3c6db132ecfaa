"""The contract suite on each persistence."""

from __future__ import annotations

from pathlib import Path

import pytest

from cajun_fast.persistence.base import Persistence
from cajun_fast.persistence.memory import MemoryPersistence
from cajun_fast.persistence.sqlite import SqlitePersistence
from cajun_fast.testing.persistence_contract import PersistenceContract


class TestMemory(PersistenceContract):
    def make(self, tmp_path: Path) -> Persistence:
        return MemoryPersistence(str(tmp_path))


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
class TestSqlite(PersistenceContract):
    def make(self, tmp_path: Path) -> Persistence:
        return SqlitePersistence(tmp_path / "state.db")
