"""Clusters in one process, with the types of these tests."""

from __future__ import annotations

import pytest

from tests.cluster.conftest import Cluster, cluster, store_url  # noqa: F401
from tests.movement.worlds import Ledger, Slow


@pytest.fixture(autouse=True)
def _types(cluster: Cluster) -> None:  # noqa: F811
    Ledger.homes.clear()
    cluster.types.actor("ledger")(Ledger)
    cluster.types.actor("slow")(Slow)
