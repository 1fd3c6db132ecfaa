"""The contract suite on real etcd servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cajun_fast.metadata.etcd import EtcdMetadataStore
from cajun_fast.metadata.etcd_wire import COMPACT, DELETE, RANGE
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.testing.etcd import EtcdCluster
from cajun_fast.testing.store_contract import StoreContract
from cajun_fast.testing.store_world import StoreWorld

pytestmark = pytest.mark.etcd


class EtcdWorld(StoreWorld):
    """One server's whole key space, wiped when the world begins; its time passes by itself."""

    ttl = 2.0  # etcd grants no less
    keeps_revisions = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def make(self) -> EtcdMetadataStore:
        return EtcdMetadataStore(self.url)

    async def wipe(self) -> None:
        store = self.make()
        await store.connect()
        wire = store._parts()[0]
        await wire.call(DELETE, wire.types.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
        await store.close()

    async def forget_history(self, store: MetadataStore) -> None:
        assert isinstance(store, EtcdMetadataStore)
        wire = store._parts()[0]
        revision = (await wire.call(RANGE, wire.types.RangeRequest(key=b"~"))).header.revision
        await wire.call(COMPACT, wire.types.CompactionRequest(revision=revision, physical=True))


class TestEtcd(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, etcd_server: EtcdCluster) -> None:
        self.server = etcd_server

    async def make_world(self, tmp_path: Path) -> StoreWorld:
        world = EtcdWorld(self.server.url)
        await world.wipe()
        return world
