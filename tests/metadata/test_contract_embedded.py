"""The contract suite on the embedded stores, on both event loops."""

from __future__ import annotations

from pathlib import Path

import pytest

from cajun_fast.testing.store_contract import StoreContract
from cajun_fast.testing.store_world import MemoryWorld, SqliteWorld, StoreWorld

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


class TestMemory(StoreContract):
    async def make_world(self, tmp_path: Path) -> StoreWorld:
        return MemoryWorld()


class TestSqlite(StoreContract):
    async def make_world(self, tmp_path: Path) -> StoreWorld:
        return SqliteWorld(tmp_path)
