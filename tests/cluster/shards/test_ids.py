"""Ids of sharded actors, and what the store says of shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast.actors.registry import Registry
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards.ids import check_unsharded, is_sharded, place_of, sharded_id
from cajun_fast.cluster.shards.records import ShardRecord, agreed_count
from cajun_fast.errors import ConfigError, ProtocolError
from cajun_fast.metadata.keys import KeySpace
from tests.cluster.worlds import memory, turned


def test_an_id_says_that_it_is_sharded_and_of_what_type() -> None:
    assert sharded_id("account", "42") == "account#42"
    assert is_sharded("account#42")
    assert is_sharded("account#42/child")
    assert is_sharded("account#4#2")
    assert not is_sharded("account/4#2"), "a child of an ordinary actor may be called anything"
    assert place_of("account#42/child", 256) == place_of("account#42", 256)


def test_the_shard_of_an_id_is_the_same_in_every_version() -> None:
    assert [place_of(f"account#{n}", 256)[1] for n in range(5)] == GOLDEN


GOLDEN = [163, 19, 87, 158, 185]


@pytest.mark.parametrize("entity", ["", "a/b", 7, None, "x" * 300])
def test_what_cannot_be_an_entity_is_refused_by_name(entity: object) -> None:
    with pytest.raises(ConfigError, match="account"):
        sharded_id("account", entity)


def test_a_sharded_id_is_never_registered() -> None:
    assert check_unsharded("account") == "account"
    with pytest.raises(ConfigError, match=r"system\.sharded\('account'\)\.pid\('42'\)"):
        check_unsharded("account#42")


@pytest.mark.parametrize(
    "given_",
    [{"sharded": True, "name": "a#b"}, {"sharded": True, "name": "a/b"}, {"passivate_after": 3}, {"roles": (1,)},
     {"sharded": True, "passivate_after": -1}, {"sharded": True, "passivate_after": "soon"}],
)  # fmt: skip
def test_a_type_that_makes_no_sense_is_refused(given_: dict[str, object]) -> None:
    given_ = dict(given_)
    name = str(given_.pop("name", "t"))
    with pytest.raises(ConfigError, match="@actor"):
        Registry().actor(name, **given_)


@given(st.text(), st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.text())
def test_records_come_back(node: str, incarnation: int, epoch: int, move: str) -> None:
    record = ShardRecord(Owner(node, incarnation), epoch, 7, move)
    assert ShardRecord.decode("k", record.encode(), 7) == record


def test_a_record_that_cannot_be_read_says_so() -> None:
    with pytest.raises(ProtocolError, match="shard"):
        ShardRecord.decode("k", b"\xc1", 1)


def test_the_number_of_shards_is_agreed_on_once() -> None:
    async def story() -> None:
        store, keys = memory("agree"), KeySpace("c")
        await store.connect()
        assert await agreed_count(store, keys, None, needed=False) is None
        assert await agreed_count(store, keys, None, needed=True) == 256
        assert await agreed_count(store, keys, 256, needed=False) == 256
        with pytest.raises(ConfigError, match=r"shard_count=64.*256 shards.*shard_count=256"):
            await agreed_count(store, keys, 64, needed=False)
        await store.close()

    turned(story)
