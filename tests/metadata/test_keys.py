"""The key space: nothing reaches into another's place, and every id comes back."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cajun_fast.errors import ConfigError
from cajun_fast.metadata import KeySpace
from cajun_fast.metadata.checks import check_key, prefix_end

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
HARD = IDS | st.text("/%.\0a", min_size=1)


def test_the_layout_is_what_the_documentation_says() -> None:
    keys = KeySpace("orders")
    assert keys.node("a") == "/cajun/orders/v1/nodes/a"
    assert keys.incarnation("a") == "/cajun/orders/v1/incarnations/a"
    assert keys.actor("parent/child") == "/cajun/orders/v1/actors/parent/child"
    assert keys.children("parent") == "/cajun/orders/v1/actors/parent/"
    assert keys.shard("account", 7) == "/cajun/orders/v1/shards/account/00000007"
    assert keys.leader == "/cajun/orders/v1/leader"
    assert keys.leader_lock == "/cajun/orders/v1/locks/leader"
    assert keys.lock("drain") == "/cajun/orders/v1/locks/drain"
    assert keys.setting("shards") == "/cajun/orders/v1/settings/shards"


@given(HARD)
def test_ids_come_back(name: str) -> None:
    keys = KeySpace("c")
    assert keys.node_of(keys.node(name)) == name
    assert keys.node_of(keys.incarnation(name)) == name
    assert keys.actor_of(keys.actor(name)) == name
    assert "/" not in keys.node(name).removeprefix(keys.nodes)
    check_key(keys.actor(name))


@given(HARD, HARD)
def test_two_clusters_never_meet(one: str, two: str) -> None:
    assume(one != two)
    first, second = KeySpace(one), KeySpace(two)
    assert not first.root.startswith(second.root)
    assert not second.root.startswith(first.root)
    assert first.actor("../x").startswith(first.root)


@given(st.integers(0, 99_999_999), st.integers(0, 99_999_999))
def test_shards_are_listed_in_order(one: int, two: int) -> None:
    keys = KeySpace("c")
    assert (keys.shard("t", one) < keys.shard("t", two)) == (one < two)
    assert keys.shard_of(keys.shard("a/b%", one)) == ("a/b%", one)


def test_a_cluster_has_a_name() -> None:
    with pytest.raises(ConfigError):
        KeySpace("")


@given(st.binary(max_size=4), st.binary(max_size=6))
def test_a_prefix_ends_where_it_should(prefix: bytes, key: bytes) -> None:
    end = prefix_end(prefix)
    inside = key >= prefix and (end is None or key < end)
    assert inside == key.startswith(prefix)
