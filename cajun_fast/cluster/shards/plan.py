"""Which node gets a shard: rendezvous hashing names a few candidates, the least loaded of them is chosen.

Laws: pure, and deterministic: the same table and hosts give the same plan in every process. A shard that has an owner
among the hosts stays there unless the spread is uneven; then no more move than evenness needs. Loads are counted from
the table and from this very plan, never from what nodes report of themselves: a stale load would send everything to
one node. Decided by the leader only, and written by compare-and-set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cajun_fast._core.rendezvous import get_top_nodes

#: Candidates of each shard: with five the spread comes within one shard of even, also where few nodes share few shards;
#: more only cost hashing.
CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class Move:
    """A shard that goes from one node to another."""

    shard: int
    source: str
    target: str


@dataclass(slots=True)
class Planner:
    """Plans for one actor type; remembers the candidates of each shard while the hosts stay the same."""

    type_name: str
    candidates: int = CANDIDATES
    _hosts: tuple[str, ...] = ()
    _known: dict[int, list[str]] = field(default_factory=dict)

    def of_shard(self, shard: int, hosts: Sequence[str]) -> list[str]:
        """The candidates of a shard among ``hosts`` (not empty), best first."""
        key = tuple(hosts)
        if key != self._hosts:
            self._hosts, self._known = key, {}
        found = self._known.get(shard)
        if found is None:
            found = get_top_nodes(f"{self.type_name}#{shard}", hosts, min(self.candidates, len(hosts)))
            self._known[shard] = found
        return found

    def place(
        self,
        shards: Iterable[int],
        owners: Mapping[int, str],
        hosts: Sequence[str],
        others: Mapping[str, int] | None = None,
    ) -> dict[int, str]:
        """A node for each of ``shards``, which have none. ``others``: shards of other types by node, for ties."""
        others = others or {}
        load = Counter(owners.values())
        chosen = {}
        for shard in shards:
            ranked = self.of_shard(shard, hosts)
            node = min(ranked, key=lambda node: (load[node], others.get(node, 0), ranked.index(node)))
            chosen[shard] = node
            load[node] += 1
        return chosen

    def rebalance(self, owners: Mapping[int, str], hosts: Sequence[str]) -> list[Move]:
        """The moves that make the spread even, in the order in which to make them.

        First all that lies on nodes that are no hosts any more (cordoned, leaving), then what evenness needs.
        """
        if not hosts:
            return []
        moves = self._off(owners, hosts)
        now = {**owners, **{move.shard: move.target for move in moves}}
        return [*moves, *self._level(now, hosts)]

    def _off(self, owners: Mapping[int, str], hosts: Sequence[str]) -> list[Move]:
        living = set(hosts)
        stuck = [shard for shard in sorted(owners) if owners[shard] not in living]
        staying = {shard: node for shard, node in owners.items() if node in living}
        placed = self.place(stuck, staying, hosts)
        return [Move(shard, owners[shard], placed[shard]) for shard in stuck]

    def _level(self, owners: dict[int, str], hosts: Sequence[str]) -> list[Move]:
        """First to those that have too little, from whoever has more than that; then from those that have too much."""
        load = Counter(dict.fromkeys(hosts, 0))
        load.update(owners.values())
        fair, rest = divmod(len(owners), len(hosts))
        moves = self._pour(owners, hosts, load, fair, fair)
        for move in moves:
            owners[move.shard] = move.target
        most = fair + (rest > 0)
        return moves + self._pour(owners, hosts, load, most, most)

    def _pour(
        self, owners: Mapping[int, str], hosts: Sequence[str], load: Counter[str], above: int, below: int
    ) -> list[Move]:
        """From nodes with more than ``above`` to candidates with less than ``below``, the fullest node first."""
        held: defaultdict[str, list[int]] = defaultdict(list)
        for shard in sorted(owners):
            held[owners[shard]].append(shard)
        moves: list[Move] = []
        needy = {node for node in hosts if load[node] < below}
        for source in sorted(hosts, key=lambda node: (-load[node], node)):
            for shard in held[source]:
                if load[source] <= above or not needy:
                    break
                ranked = [node for node in self.of_shard(shard, hosts) if node in needy]
                if ranked:
                    target = min(ranked, key=lambda node: load[node])
                    load[source] -= 1
                    load[target] += 1
                    if load[target] >= below:
                        needy.discard(target)
                    moves.append(Move(shard, source, target))
        return moves
