"""Where nodes may be found: a list, and the records of the store."""

from __future__ import annotations

import pytest

from cajun_fast.cluster.records import ActorRecord, LeaderRecord, NodeRecord, Owner, decode_count
from cajun_fast.config import NodeAddress
from cajun_fast.discovery import StaticDiscovery, StoreDiscovery
from cajun_fast.errors import MetadataStoreUnavailableError, ProtocolError
from cajun_fast.metadata import KeySpace
from tests.cluster.worlds import FaultyStore, memory, turned

KEYS = KeySpace("test")


def node(name: str, port: int) -> NodeRecord:
    return NodeRecord(node=name, incarnation=3, address=NodeAddress("h", port), roles=("gpu",), client=True)


def test_a_static_list_is_a_copy() -> None:
    async def story() -> None:
        nodes = {"a": NodeAddress("h", 1)}
        discovery = StaticDiscovery(nodes)
        nodes["b"] = NodeAddress("h", 2)
        assert await discovery.find() == {"a": NodeAddress("h", 1)}

    turned(story)


def test_the_store_names_every_living_node_and_leaves_out_what_cannot_be_read() -> None:
    async def story() -> None:
        store = FaultyStore(memory())
        await store.connect()
        for n in range(1500):
            await store.inner.put(KEYS.node(f"n{n}"), node(f"n{n}", n + 1).encode())
        await store.inner.put(KEYS.node("bad"), b"\xc1")
        discovery = StoreDiscovery(store, KEYS, lambda name, value: NodeRecord.decode(name, value).address)
        found = await discovery.find()
        assert found == {f"n{n}": NodeAddress("h", n + 1) for n in range(1500)}
        store.fall()
        with pytest.raises(MetadataStoreUnavailableError):
            await discovery.find()
        await store.close()

    turned(story)


def test_records_come_back_as_they_were() -> None:
    record = node("a", 1)
    assert NodeRecord.decode("a", record.encode()) == record
    actor = ActorRecord(owner=Owner("a", 2), claim=5, epoch=7, type="t", arguments=b"x", extra={"later": 1})
    assert ActorRecord.decode("x", actor.encode()) == actor
    leader = LeaderRecord(Owner("a", 2), 9)
    assert LeaderRecord.decode(leader.encode()) == leader


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x01", b"\x80", b"\x81\xa3inc\xa1x", b"\xc7\xff"])
def test_what_is_no_record_is_a_protocol_error(value: bytes) -> None:
    with pytest.raises(ProtocolError, match="'a'"):
        NodeRecord.decode("a", value)
    with pytest.raises(ProtocolError, match="'x'"):
        ActorRecord.decode("x", value)
    with pytest.raises(ProtocolError):
        LeaderRecord.decode(value)
    with pytest.raises(ProtocolError):
        decode_count(b"x" + value)
