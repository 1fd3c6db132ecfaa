"""Rendezvous hashing, beside the plain way (Cajun's: SHA-256 of key and node)."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cajun_fast._core.rendezvous import assign_key, get_top_nodes, shard_of

KEYS = [f"account-{number:06}" for number in range(100)]
CLUSTERS = {count: [f"node-{number}" for number in range(count)] for count in (3, 100)}


def sha_score(key: str, node: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{key}:{node}".encode()).digest()[:8], "big", signed=True)


def sha_assign(key: str, nodes: Sequence[str]) -> str:
    return max(nodes, key=lambda node: sha_score(key, node))


def sha_top(key: str, nodes: Sequence[str], count: int) -> list[str]:
    return heapq.nlargest(count, nodes, key=lambda node: sha_score(key, node))


def weighted(key: str, nodes: Sequence[str]) -> str:
    return assign_key(key, nodes, WEIGHTS)


WEIGHTS = {node: number % 7 + 1 for number, node in enumerate(CLUSTERS[100])}


@pytest.mark.benchmark(group="rendezvous: owners of 100 keys")
@pytest.mark.parametrize("nodes", CLUSTERS.values(), ids=lambda nodes: f"{len(nodes)} nodes")
@pytest.mark.parametrize("assign", [sha_assign, weighted, assign_key], ids=["sha256", "weighted", "plain"])
def test_assign(benchmark: Any, assign: Callable[[str, Sequence[str]], str], nodes: Sequence[str]) -> None:
    benchmark(lambda: [assign(key, nodes) for key in KEYS])


@pytest.mark.benchmark(group="rendezvous: first 3 of 100 nodes for 100 keys")
@pytest.mark.parametrize("top", [sha_top, get_top_nodes])
def test_top(benchmark: Any, top: Callable[[str, Sequence[str], int], list[str]]) -> None:
    benchmark(lambda: [top(key, CLUSTERS[100], 3) for key in KEYS])


@pytest.mark.benchmark(group="rendezvous: shards of 100 ids")
@pytest.mark.parametrize(
    "shard", [lambda key, count: sha_score(key, "") % count, shard_of], ids=["sha256", "shard_of"]
)
def test_shard(benchmark: Any, shard: Callable[[str, int], int]) -> None:
    benchmark(lambda: [shard(key, 256) for key in KEYS])


def test_ratio_of_an_owner_by_our_hash_to_one_by_sha256(costs_at_most: Any) -> None:
    nodes = CLUSTERS[3]
    costs_at_most(
        "owner among 3 nodes: against SHA-256",
        lambda: [assign_key(key, nodes) for _ in range(5) for key in KEYS],
        lambda: [sha_assign(key, nodes) for _ in range(5) for key in KEYS],
        0.25,
    )
