"""Clusters in one process, with the types of these tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.cluster.conftest import Cluster, store_url  # noqa: F401
from tests.movement.worlds import Ledger, Slow


@pytest.fixture
async def cluster(store_url: str) -> AsyncIterator[Cluster]:  # noqa: F811
    made = Cluster(store_url)
    Ledger.homes.clear()
    made.types.actor("ledger")(Ledger)
    made.types.actor("slow")(Slow)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.stop)
        yield made
