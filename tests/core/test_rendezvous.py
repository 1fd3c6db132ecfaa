"""Rendezvous hashing: the published hash, golden answers, a plain-Python reference, Cajun's scheme beside it.

data/rendezvous.json is never made anew: its answers are part of the wire protocol. A change that breaks it
breaks clusters in which two releases meet.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast._core.rendezvous import assign_key, get_top_nodes, score, shard_of, xxh64

GOLDEN = json.loads((Path(__file__).parent / "data" / "rendezvous.json").read_text("utf-8"))
KEYS = [f"account-{number}" for number in range(20_000)]
NODES = [f"node-{letter}" for letter in "abcdefgh"]
# Ids that XXH64 cannot tell apart, made for the purpose: both of a pair draw the same for every key.
TWINS = ("node-a0-czq2l1yl", "node-b0-ltyrb6jb")
PREFIX_TWINS = ("ghf5v27v-eu-west", "ghf5v27v-eu-westt0v1pvhs")
# And a key for which this node draws nothing at all.
ZERO = ("]waMyCD)", "node-7271")

# ---- The same, the plain way ----------------------------------------------------------------------------

MASK = 2**64 - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotate(value, bits):
    return (value << bits | value >> (64 - bits)) & MASK


def one_round(total, lane):
    return rotate((total + lane * P2) & MASK, 31) * P1 & MASK


def plain_xxh64(data, seed=0):
    """XXH64 as its specification reads."""
    lanes = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - len(data) % 8, 8)]
    if len(data) < 32:
        total = seed + P5
    else:
        sums = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        while len(lanes) >= 4:
            sums = [one_round(each, lanes.pop(0)) for each in sums]
        total = sum(rotate(each, bits) for each, bits in zip(sums, (1, 7, 12, 18), strict=True)) & MASK
        for each in sums:
            total = ((total ^ one_round(0, each)) * P1 + P4) & MASK
    total = (total + len(data)) & MASK
    for lane in lanes:
        total = (rotate(total ^ one_round(0, lane), 27) * P1 + P4) & MASK
    rest = data[len(data) - len(data) % 8 :]
    if len(rest) >= 4:
        total = (rotate(total ^ int.from_bytes(rest[:4], "little") * P1 & MASK, 23) * P2 + P3) & MASK
        rest = rest[4:]
    for byte in rest:
        total = rotate(total ^ byte * P5 & MASK, 11) * P1 & MASK
    total = (total ^ total >> 33) * P2 & MASK
    total = (total ^ total >> 29) * P3 & MASK
    return total ^ total >> 32


def plain_score(key, node):
    return plain_xxh64(key.encode(), plain_xxh64(node.encode()))


def plain_depth(drawn):
    """-log2(drawn / 2**64) in units of 2**-32, one binary place after the other."""
    value = Fraction(max(drawn, 1))
    whole = int(value).bit_length() - 1
    mantissa, places = int(value * 2**63 / 2**whole) >> 32, 0
    for _ in range(32):
        square = mantissa * mantissa
        above = square >= 2**63
        places, mantissa = places * 2 + above, square >> (32 if above else 31)
    return 64 * 2**32 - (whole * 2**32 + places)


def plain_top(key, nodes, weights=None):
    def rank(node):
        drawn = plain_score(key, node)
        share = Fraction(weights.get(node, 1), plain_depth(drawn)) if weights is not None else 0
        return -share, -drawn, node.encode()

    return sorted(set(nodes), key=rank)


def cajun_owner(key, nodes):
    """Cajun's scheme: the first 8 bytes of SHA-256(key:node) as a signed number, the first of equals."""
    return max(
        nodes,
        key=lambda node: int.from_bytes(
            hashlib.sha256(f"{key}:{node}".encode()).digest()[:8], "big", signed=True
        ),
    )


# ---- The answers that must never change -----------------------------------------------------------------


def published_bytes(length):
    """The bytes that the test vectors of xxHash are made of."""
    state, data = 2654435761, bytearray()
    for _ in range(length):
        data.append(state >> 56)
        state = state * 11400714785074694797 & MASK
    return bytes(data)


@pytest.mark.parametrize(("length", "seed", "expected"), GOLDEN["published xxh64"])
def test_the_hash_is_the_published_one(length, seed, expected):
    assert f"{xxh64(published_bytes(length), seed):016x}" == expected
    assert f"{plain_xxh64(published_bytes(length), seed):016x}" == expected


@given(st.binary(max_size=200), st.integers(0, MASK))
def test_the_hash_agrees_with_its_specification_for_all_bytes_and_seeds(data, seed):
    assert xxh64(data, seed) == plain_xxh64(data, seed)


def test_the_golden_scores_stand():
    assert [(row, f"{score(*row[:2]):016x}") for row in GOLDEN["scores"]] == [
        (row, row[2]) for row in GOLDEN["scores"]
    ]


def test_the_golden_orders_of_nodes_stand():
    for row in GOLDEN["orders"]:
        assert get_top_nodes(row["key"], row["nodes"], 99, row["weights"]) == row["order"]
        assert assign_key(row["key"], row["nodes"], row["weights"]) == row["order"][0]


def test_the_golden_shards_stand():
    assert [
        [actor_id, count, shard_of(actor_id, count)] for actor_id, count, _ in GOLDEN["shards"]
    ] == GOLDEN["shards"]


def test_another_process_with_another_hash_seed_gives_the_same_answers():
    script = (
        "from cajun_fast._core.rendezvous import *\n"
        f"print([assign_key(f'k{{n}}', set({NODES!r})) for n in range(50)], shard_of('ü', 7))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert answers == {f"{[assign_key(f'k{n}', NODES) for n in range(50)]} {shard_of('ü', 7)}\n"}


# ---- Against the reference ------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
groups = st.lists(texts, min_size=1, max_size=8)


@given(texts, groups, st.integers(1, 10), st.data())
def test_the_order_of_nodes_agrees_with_the_reference_in_any_order_given(key, nodes, count, data):
    expected = plain_top(key, nodes)
    shuffled = data.draw(st.permutations(nodes))
    assert get_top_nodes(key, shuffled, count) == expected[:count]
    assert assign_key(key, iter(shuffled)) == expected[0]
    assert score(key, nodes[0]) == plain_score(key, nodes[0])


@given(texts, groups, st.data())
def test_weighted_draws_agree_with_exact_fractions(key, nodes, data):
    weights = data.draw(st.dictionaries(st.sampled_from(nodes), st.integers(1, 1_000_000)))
    assert get_top_nodes(key, nodes, 10, weights) == plain_top(key, nodes, weights)
    assert assign_key(key, nodes, weights) == plain_top(key, nodes, weights)[0]


@given(texts, groups, st.integers(1, 1_000_000))
def test_equal_weights_are_no_weights(key, nodes, weight):
    assert get_top_nodes(key, nodes, 10, dict.fromkeys(nodes, weight)) == get_top_nodes(key, nodes, 10)


@given(texts, st.integers(1, 10_000))
def test_a_shard_is_the_hash_modulo_their_number(actor_id, count):
    assert shard_of(actor_id, count) == plain_xxh64(actor_id.encode()) % count


# ---- What it is for: even spread, little movement ---------------------------------------------------------


def unevenness(counts, places):
    """Chi-square over its degrees of freedom: about 1 for a fair draw."""
    fair = sum(counts.values()) / places
    return (
        (sum((n - fair) ** 2 for n in counts.values()) + (places - len(counts)) * fair**2)
        / fair
        / (places - 1)
    )


@pytest.mark.parametrize("owner", [assign_key, cajun_owner], ids=["ours", "Cajun's"])
def test_keys_spread_as_chance_would_over_whatever_nodes(owner):
    groups = [[f"10.0.{group}.{number}:7400" for number in range(8)] for group in range(30)]
    found = [unevenness(Counter(owner(key, nodes) for key in KEYS[:800]), 8) for nodes in groups]
    assert 0.5 < sum(found) / len(found) < 1.5  # five standard deviations either way


def test_the_second_choice_of_a_lost_nodes_keys_is_spread_over_all_the_others():
    heirs = Counter(
        second for first, second in (get_top_nodes(key, NODES, 2) for key in KEYS) if first == "node-c"
    )
    assert "node-c" not in heirs
    assert unevenness(heirs, len(NODES) - 1) < 2.5


def test_ids_spread_over_shards_evenly():
    assert unevenness(Counter(shard_of(key, 256) for key in KEYS), 256) < 1.5


def test_losing_a_node_moves_its_keys_and_no_others():
    rest = [node for node in NODES if node != "node-c"]
    for key in KEYS[:3000]:
        before = assign_key(key, NODES)
        assert (assign_key(key, rest) == before) == (before != "node-c")


def test_a_new_node_takes_its_share_and_nothing_else_moves():
    moved = [key for key in KEYS if assign_key(key, [*NODES, "new"]) != assign_key(key, NODES)]
    assert all(assign_key(key, [*NODES, "new"]) == "new" for key in moved)
    assert 0.9 < len(moved) / (len(KEYS) / 9) < 1.1


def test_a_weight_is_a_share_and_changing_it_moves_keys_to_or_from_that_node_only():
    light, heavy = {"node-a": 1, "node-b": 2, "node-c": 5}, {"node-a": 1, "node-b": 4, "node-c": 5}
    nodes = list(light)
    before = {key: assign_key(key, nodes, light) for key in KEYS}
    after = {key: assign_key(key, nodes, heavy) for key in KEYS}
    assert {after[key] for key in KEYS if before[key] != after[key]} == {"node-b"}
    for held, weights in ((before, light), (after, heavy)):
        shares = Counter(held.values())
        for node, weight in weights.items():
            fair = len(KEYS) * weight / sum(weights.values())
            assert abs(shares[node] - fair) < 5 * fair**0.5


# ---- Edges ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("twins", [TWINS, PREFIX_TWINS])
def test_equal_draws_are_decided_by_the_smaller_id(twins):
    assert score("any key", twins[0]) == score("any key", twins[1])
    for nodes in (twins, twins[::-1]):
        assert assign_key("any key", nodes) == twins[0]
        assert get_top_nodes("any key", nodes, 2) == list(twins)
        assert get_top_nodes("any key", nodes, 2, dict.fromkeys(nodes, 3)) == list(twins)


def test_a_node_that_draws_zero_comes_last_and_only_a_huge_weight_could_help_it():
    key, node = ZERO
    assert score(key, node) == plain_score(key, node) == 0
    assert get_top_nodes(key, [node, *NODES], 9)[-1] == node
    other = get_top_nodes(key, NODES, 8)[-1]
    enough = 1000 * 64 * 2**32 // plain_depth(plain_score(key, other)) + 1
    assert assign_key(key, [node, other], {other: 1000, node: enough - 1}) == other
    assert assign_key(key, [node, other], {other: 1000, node: enough}) == node


def test_a_node_without_a_weight_counts_as_one():
    for key in KEYS[:200]:
        assert get_top_nodes(key, NODES, 8, {"node-a": 1}) == get_top_nodes(key, NODES, 8)


def test_a_node_named_twice_counts_once():
    assert get_top_nodes("key", ["b", "a", "b", "a", "b"], 5) == get_top_nodes("key", ["a", "b"], 5)


def test_the_separator_of_cajuns_scheme_makes_different_pairs_one_and_ours_has_none():
    assert cajun_owner("x:y", ["z"]) == "z"
    assert hashlib.sha256(b"a:b" + b":" + b"c").digest() == hashlib.sha256(b"a" + b":" + b"b:c").digest()
    assert score("a:b", "c") != score("a", "b:c")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: assign_key("k", []), ValueError, "nodes is empty"),
        (lambda: get_top_nodes("k", iter(()), 1), ValueError, "nodes is empty"),
        (lambda: assign_key("k", "abc"), TypeError, "nodes='abc' is one str"),
        (lambda: assign_key("k", ["a", 7]), TypeError, "str"),
        (lambda: assign_key("k", ["a", None]), TypeError, "None"),
        (lambda: assign_key(None, ["a"]), TypeError, "None"),
        (lambda: get_top_nodes("k", ["a"], 0), ValueError, "count=0"),
        (lambda: assign_key("k", ["a"], {"a": 0}), ValueError, "weight of node 'a'=0"),
        (lambda: assign_key("k", ["a"], {"a": 1_000_001}), ValueError, "weight of node 'a'=1000001"),
        (lambda: assign_key("k", ["a"], {"a": 0.5}), TypeError, r"weight of node 'a'=0.5"),
        (lambda: shard_of("k", 0), ValueError, "shard_count=0"),
        (lambda: shard_of("k", -1), ValueError, "shard_count=-1"),
        (lambda: score("\ud800", "a"), UnicodeEncodeError, "surrogates"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name_and_value(call, error, text):
    with pytest.raises(error, match=text):
        call()
