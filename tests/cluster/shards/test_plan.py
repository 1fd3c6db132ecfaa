"""Which node gets a shard: even, steady, the same everywhere, and little moves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from cajun_fast.cluster.shards.plan import CANDIDATES, Planner

NODES = st.lists(st.text("abcdefgh-0123", min_size=1, max_size=8), min_size=1, max_size=12, unique=True)


def placed(count: int, hosts: list[str]) -> dict[int, str]:
    return Planner("t").place(range(count), {}, hosts)


def after(owners: dict[int, str], hosts: list[str]) -> tuple[dict[int, str], int]:
    moves = Planner("t").rebalance(owners, hosts)
    return {**owners, **{move.shard: move.target for move in moves}}, len(moves)


@settings(max_examples=60, deadline=None)
@given(NODES, st.integers(1, 300))
def test_every_shard_gets_one_of_its_candidates_and_always_the_same(hosts: list[str], count: int) -> None:
    owners = placed(count, sorted(hosts))
    assert list(owners) == list(range(count))
    planner = Planner("t")
    for shard, node in owners.items():
        assert node in planner.of_shard(shard, sorted(hosts))
    assert placed(count, sorted(hosts)) == owners


@settings(max_examples=60, deadline=None)
@given(NODES, st.integers(1, 300), st.data())
def test_a_plan_makes_the_spread_no_worse_and_then_rests(
    hosts: list[str], count: int, data: st.DataObject
) -> None:
    hosts = sorted(hosts)
    owners = {shard: data.draw(st.sampled_from([*hosts, "gone"])) for shard in range(min(count, 40))}
    level, _ = after(owners, hosts)
    assert set(level.values()) <= set(hosts)
    assert set(level) == set(owners)
    for _ in range(5):
        level, moved = after(level, hosts)
    assert moved == 0


def test_the_spread_comes_near_to_even() -> None:
    for nodes, shards in ((3, 256), (10, 256), (100, 1024)):
        hosts = [f"node-{n}" for n in range(nodes)]
        owners, moved = after(placed(shards, hosts), hosts)
        loads = Counter(dict.fromkeys(hosts, 0))
        loads.update(owners.values())
        assert moved <= shards // 50
        assert max(loads.values()) - min(loads.values()) <= 2


def test_a_node_that_joins_gets_its_share_and_nothing_else_moves() -> None:
    hosts = [f"node-{n}" for n in range(10)]
    owners, _ = after(placed(1000, hosts), hosts)
    moves = Planner("t").rebalance(owners, [*hosts, "new"])
    share = 1000 // 11
    assert share - 3 <= len([move for move in moves if move.target == "new"])
    assert len(moves) <= share + 10


def test_a_node_that_is_lost_moves_its_own_shards_only() -> None:
    hosts = [f"node-{n}" for n in range(10)]
    owners, _ = after(placed(1000, hosts), hosts)
    lost = [shard for shard, node in owners.items() if node == "node-3"]
    left = {shard: node for shard, node in owners.items() if node != "node-3"}
    rest = [node for node in hosts if node != "node-3"]
    chosen = Planner("t").place(lost, left, rest)
    assert sorted(chosen) == sorted(lost)
    _, moved = after({**left, **chosen}, rest)
    assert moved <= 10


def test_a_cordoned_node_is_emptied_first() -> None:
    owners = {shard: "ab"[shard % 2] for shard in range(10)}
    moves = Planner("t").rebalance(owners, ["a", "c"])
    assert [move.source for move in moves[:5]] == ["b"] * 5
    level, _ = after(owners, ["a", "c"])
    assert Counter(level.values()) == {"a": 5, "c": 5}


def test_other_types_break_ties() -> None:
    chosen = Planner("t").place([0], {}, ["a", "b"], {"a": 10})
    assert chosen == {0: "b"}


def test_the_choice_is_the_same_in_every_version() -> None:
    hosts = [f"node-{n}" for n in range(CANDIDATES + 2)]
    assert [placed(8, hosts)[shard] for shard in range(8)] == GOLDEN


GOLDEN = ["node-0", "node-2", "node-6", "node-5", "node-4", "node-3", "node-1", "node-1"]
