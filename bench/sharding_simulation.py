"""How evenly ids spread over nodes, and how little moves: the production placement, on paper-size clusters.

    python bench/sharding_simulation.py [--nodes 1000] [--ids 10000000] [--shards 16384] [--json]

Nothing is started: ids are hashed to shards and shards placed on nodes by the code that clusters run. Movement is
counted in ids, beside the least that any placement must move: a newcomer's fair share, or all that a lost node had.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from cajun_fast._core.rendezvous import assign_key
from cajun_fast.cluster.shards.ids import place_of
from cajun_fast.cluster.shards.plan import Planner

TYPE = "account"


def ids_by_shard(ids: int, shards: int) -> list[int]:
    """How many of ``account#0`` … lie in each shard."""
    counts = [0] * shards
    for number in range(ids):
        counts[place_of(f"{TYPE}#{number}", shards)[1]] += 1
    return counts


def level(planner: Planner, owners: dict[int, str], hosts: Sequence[str]) -> tuple[dict[int, str], list[int]]:
    """As the leader does, until nothing moves any more: the owners then, and the shards that moved."""
    moved: list[int] = []
    while moves := planner.rebalance(owners, hosts):
        owners = {**owners, **{move.shard: move.target for move in moves}}
        moved += [move.shard for move in moves]
    return owners, moved


def load(owners: Mapping[int, str], weights: Sequence[int], hosts: Sequence[str]) -> Counter[str]:
    """Ids of each node."""
    loads: Counter[str] = Counter(dict.fromkeys(hosts, 0))
    for shard, node in owners.items():
        loads[node] += weights[shard]
    return loads


def spread(loads: Counter[str]) -> dict[str, float]:
    """Of ids over nodes: least, mean, most, most to mean, standard deviation in percent of the mean."""
    values = list(loads.values())
    mean = fmean(values)
    return {
        "least": min(values),
        "mean": round(mean),
        "most": max(values),
        "most_to_mean": round(max(values) / mean, 4),
        "deviation_percent": round(100 * pstdev(values) / mean, 2),
    }


def movement(shards: Sequence[int], weights: Sequence[int], total: int, least: float) -> dict[str, float]:
    """Ids that moved, in percent of all, beside the least that must."""
    moved = sum(weights[shard] for shard in shards)
    return {
        "moved_ids": moved,
        "moved_percent": round(100 * moved / total, 4),
        "least_percent": round(100 * least / total, 4),
        "moved_to_least": round(moved / least, 3) if least else 0.0,
    }


def join(
    owners: dict[int, str], hosts: Sequence[str], weights: Sequence[int], new: Sequence[str]
) -> dict[str, Any]:
    """``new`` nodes join."""
    after = [*hosts, *new]
    final, moved = level(Planner(TYPE), dict(owners), after)
    total = sum(weights)
    return {
        **movement(moved, weights, total, total * len(new) / len(after)),
        **spread(load(final, weights, after)),
    }


def lose(
    owners: dict[int, str], hosts: Sequence[str], weights: Sequence[int], lost: Sequence[str]
) -> dict[str, Any]:
    """``lost`` nodes are gone."""
    rest = [node for node in hosts if node not in set(lost)]
    gone = [shard for shard, node in owners.items() if node in set(lost)]
    kept = {shard: node for shard, node in owners.items() if node not in set(lost)}
    planner = Planner(TYPE)
    final, moved = level(planner, {**kept, **planner.place(gone, kept, rest)}, rest)
    least = sum(weights[shard] for shard in gone)
    return {
        **movement([*gone, *moved], weights, sum(weights), least),
        **spread(load(final, weights, rest)),
    }


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), round(time.perf_counter() - began, 3)


def simulate(nodes: int, ids: int, shards: int) -> dict[str, Any]:
    """All figures."""
    hosts = [f"node-{number:04}" for number in range(nodes)]
    weights, hashing = timed(lambda: ids_by_shard(ids, shards))
    planner = Planner(TYPE)
    placed, placing = timed(lambda: planner.place(range(shards), {}, hosts))
    (owners, moved), levelling = timed(lambda: level(planner, placed, hosts))
    plain = {shard: assign_key(f"{TYPE}#{shard}", hosts) for shard in range(shards)}
    few = max(1, nodes // 100)
    return {
        "nodes": nodes,
        "ids": ids,
        "shards": shards,
        "ids_per_shard": {"least": min(weights), "most": max(weights)},
        "seconds": {"hash_all_ids": hashing, "place_all_shards": placing, "level": levelling},
        "levelled_shards": len(moved),
        "spread": spread(load(owners, weights, hosts)),
        "spread_of_plain_rendezvous": spread(load(plain, weights, hosts)),
        "one_joins": join(owners, hosts, weights, ["new-0"]),
        "one_percent_joins": join(owners, hosts, weights, [f"new-{number}" for number in range(few)]),
        "one_lost": lose(owners, hosts, weights, hosts[7:8] or hosts[:1]),
        "one_percent_lost": lose(owners, hosts, weights, hosts[::100]),
    }


def table(figures: Mapping[str, Any], indent: str = "") -> str:
    """The figures as plain text."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name.replace('_', ' ')}:", table(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name.replace('_', ' '):<28}{value:>14,}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=16_384)
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)
    if given.nodes < 2 or given.ids < 1 or given.shards < 1:
        parser.error("give at least 2 nodes, 1 id and 1 shard")
    figures = simulate(given.nodes, given.ids, given.shards)
    print(json.dumps(figures, indent=2) if given.json else table(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
