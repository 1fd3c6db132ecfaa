"""The location cache, beside a bare dict and beside an OrderedDict with expiry."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from cajun_fast._core.locations import LocationCache

NOW = 123_456_789_012_345
TTL = 5_000_000_000
IDS = [f"account-{number:06}" for number in range(100_000)]


class PlainCache:
    """As one writes it by hand: least recently used, expiring; no epochs, no generations, no lists of a node."""

    def __init__(self, max_entries: int) -> None:
        self.entries: OrderedDict[str, tuple[str, int, int]] = OrderedDict()
        self.max_entries = max_entries

    def get(self, actor_id: str, now: int) -> tuple[str, int, int] | None:
        entry = self.entries.get(actor_id)
        if entry is None or now >= entry[2]:
            return None
        self.entries.move_to_end(actor_id)
        return entry

    def put(self, actor_id: str, node: str, epoch: int, now: int) -> None:
        self.entries[actor_id] = (node, epoch, now + TTL)
        self.entries.move_to_end(actor_id)
        if len(self.entries) > self.max_entries:
            self.entries.popitem(last=False)

    def invalidate_node(self, node: str) -> int:
        lost = [actor_id for actor_id, entry in self.entries.items() if entry[0] == node]
        for actor_id in lost:
            del self.entries[actor_id]
        return len(lost)


class Hits:
    """Random hits on so many actors; each way of doing it walks the same ones."""

    def __init__(self, actors: int) -> None:
        self.order = random.Random(1).choices(IDS[:actors], k=20_000)
        self.cache, self.plain, self.bare = LocationCache(actors), PlainCache(actors), dict[str, object]()
        for actor_id in IDS[:actors]:
            self.bare[actor_id] = self.cache.put(actor_id, "node-b", 1, NOW)
            self.plain.put(actor_id, "node-b", 1, NOW)

    def of_the_cache(self) -> None:
        get, now = self.cache.get, NOW
        for actor_id in self.order:
            get(actor_id, now)

    def of_a_dict(self) -> None:
        get = self.bare.get
        for actor_id in self.order:
            get(actor_id)

    def of_an_ordered_dict(self) -> None:
        get, now = self.plain.get, NOW
        for actor_id in self.order:
            get(actor_id, now)


WAYS = [Hits.of_a_dict, Hits.of_an_ordered_dict, Hits.of_the_cache]


@pytest.mark.benchmark(group="locations: hit, 20,000 a round")
@pytest.mark.parametrize("actors", [100, 5_000, 100_000])
@pytest.mark.parametrize("way", WAYS)
def test_hit(benchmark: Any, way: Callable[[Hits], None], actors: int) -> None:
    hits = Hits(actors)
    benchmark(lambda: way(hits))


@pytest.mark.parametrize("actors", [100, 5_000])
def test_ratio_of_a_hit_to_a_dict_look_up(actors: int, costs_at_most: Any) -> None:
    hits = Hits(actors)
    costs_at_most(
        f"hit among {actors} locations: against a dict look-up", hits.of_the_cache, hits.of_a_dict, 2.0
    )


@pytest.mark.benchmark(group="locations: put with an eviction each, 20,000 a round")
@pytest.mark.parametrize("make", [PlainCache, LocationCache])
def test_put(benchmark: Any, make: Callable[[int], Any]) -> None:
    cache = make(5_000)

    def puts() -> None:
        put = cache.put
        for actor_id in IDS[:20_000]:
            put(actor_id, "node-b", 1, NOW)

    benchmark(puts)


@pytest.mark.benchmark(group="locations: a node of 100 entries is lost, among 100,000")
@pytest.mark.parametrize("make", [PlainCache, LocationCache])
def test_losing_a_node(benchmark: Any, make: Callable[[int], Any]) -> None:
    cache = make(100_000)
    for actor_id in IDS:
        cache.put(actor_id, "node-b", 1, NOW)

    def place() -> None:
        for actor_id in IDS[:100]:
            cache.put(actor_id, "lost", 1, NOW)

    lost = benchmark.pedantic(cache.invalidate_node, ("lost",), setup=place, rounds=50)
    assert lost == 100
