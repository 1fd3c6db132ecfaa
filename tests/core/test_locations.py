"""The location cache: its rules one by one, and every interleaving held against a plain model."""

import gc
import random
from collections import OrderedDict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cajun_fast._core.locations import LocationCache

SECOND = 1_000_000_000
TTL = 5 * SECOND
MISSING_TTL = SECOND // 5
NEVER = 2**63 - 1
LIMIT = 6
COUNTERS = ["hits", "stale_hits", "misses", "evictions", "expirations", "invalidations"]

ids = st.sampled_from([f"actor-{number}" for number in range(9)])
nodes = st.sampled_from(["a", "b", "c"])
epochs = st.integers(0, 4)


class Fact:
    """What the model knows of one actor."""

    def __init__(self, node, epoch, entry, expires):
        self.node, self.epoch, self.entry, self.expires = node, epoch, entry, expires
        self.refresh = NEVER if node is None else expires - TTL // 5


class CacheAgainstModel(RuleBasedStateMachine):
    """An OrderedDict, the last used at its end, and the order of knowledge spelled out."""

    def __init__(self):
        super().__init__()
        self.cache = LocationCache(max_entries=LIMIT)
        self.facts = OrderedDict()
        self.held = []
        self.now = 1_000
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.generations = set()

    def drop(self, actor_id):
        fact = self.facts.pop(actor_id)
        assert not fact.entry.live

    def learn(self, actor_id, node, epoch, put):
        """What put and put_missing must do; `put` does it."""
        fact = self.facts.get(actor_id)
        life = MISSING_TTL if node is None else TTL
        if fact is not None:
            order = (fact.epoch, fact.node is None) > (epoch, node is None)
            if order and not (epoch == -1 and self.now >= fact.expires):
                before = repr(fact.entry), fact.entry.expires_ns
                assert put() is fact.entry
                assert (repr(fact.entry), fact.entry.expires_ns) == before
                return
            if (fact.epoch, fact.node) == (epoch, node):
                generation = fact.entry.generation
                assert put() is fact.entry
                assert fact.entry.generation == generation
                # keeps its place in the order of use
                self.facts[actor_id] = Fact(node, epoch, fact.entry, self.now + life)
                return
        entry = put()
        if fact is not None:
            self.drop(actor_id)
        elif len(self.facts) == LIMIT:
            self.counts["evictions"] += 1
            self.drop(next(iter(self.facts)))
        assert entry.generation not in self.generations
        self.generations.add(entry.generation)
        self.held.append(entry)
        self.facts[actor_id] = Fact(node, epoch, entry, self.now + life)

    @rule(actor_id=ids, node=nodes, epoch=epochs)
    def put(self, actor_id, node, epoch):
        self.learn(actor_id, node, epoch, lambda: self.cache.put(actor_id, node, epoch, self.now))

    @rule(actor_id=ids, epoch=st.one_of(st.just(-1), epochs))
    def put_missing(self, actor_id, epoch):
        self.learn(actor_id, None, epoch, lambda: self.cache.put_missing(actor_id, self.now, epoch))

    @rule(actor_id=ids)
    def get(self, actor_id):
        entry, fact = self.cache.get(actor_id, self.now), self.facts.get(actor_id)
        if fact is None:
            self.counts["misses"] += 1
            assert entry is None
        elif self.now >= fact.expires and not (self.cache.serve_expired and fact.node):
            self.counts["misses"] += 1
            self.counts["expirations"] += 1
            assert entry is None
            self.drop(actor_id)
        else:
            self.counts["hits"] += 1
            self.counts["stale_hits"] += self.now >= fact.expires
            assert entry is fact.entry
            self.facts.move_to_end(actor_id)

    @rule(actor_id=ids)
    def claim_refresh(self, actor_id):
        if fact := self.facts.get(actor_id):
            assert fact.entry.claim_refresh(self.now) == (self.now >= fact.refresh)
            fact.refresh = NEVER if self.now >= fact.refresh else fact.refresh

    @rule(actor_id=ids, chance=st.integers(0, 3))
    def invalidate(self, actor_id, chance):
        fact = self.facts.get(actor_id)
        current = fact.entry.generation if fact else 1
        generation = [0, current, 2**63, max(self.generations, default=1)][chance]
        wanted = fact is not None and generation in (0, fact.entry.generation)
        assert self.cache.invalidate(actor_id, generation) == wanted
        if wanted:
            self.counts["invalidations"] += 1
            self.drop(actor_id)

    @rule(node=nodes)
    def invalidate_node(self, node):
        lost = [actor_id for actor_id, fact in self.facts.items() if fact.node == node]
        assert self.cache.invalidate_node(node) == len(lost)
        self.counts["invalidations"] += len(lost)
        for actor_id in lost:
            self.drop(actor_id)

    @rule()
    def clear(self):
        assert self.cache.clear() == len(self.facts)
        self.counts["invalidations"] += len(self.facts)
        for actor_id in list(self.facts):
            self.drop(actor_id)

    @rule(serve=st.booleans())
    def degrade(self, serve):
        self.cache.serve_expired = serve

    @rule(step=st.sampled_from([1, MISSING_TTL, SECOND, TTL - 1, TTL]))
    def wait(self, step):
        self.now += step

    @invariant()
    def the_order_of_use_is_the_same(self):
        assert self.cache.recent() == list(reversed(self.facts))
        assert len(self.cache) == len(self.facts) <= LIMIT
        assert set(self.cache.nodes()) == {fact.node for fact in self.facts.values()} - {None}

    @invariant()
    def every_entry_says_what_is_known(self):
        for actor_id, fact in self.facts.items():
            entry = self.cache.peek(actor_id)
            assert entry is fact.entry
            assert (entry.actor_id, entry.node, entry.epoch) == (actor_id, fact.node, fact.epoch)
            assert (entry.missing, entry.expires_ns) == (fact.node is None, fact.expires)
            assert entry.refresh_ns == fact.refresh

    @invariant()
    def an_entry_is_live_exactly_while_it_is_the_caches(self):
        current = {id(fact.entry) for fact in self.facts.values()}
        assert all(entry.live == (id(entry) in current) for entry in self.held)

    @invariant()
    def the_counters_agree(self):
        assert {name: getattr(self.cache, name) for name in self.counts} == self.counts


TestCacheAgainstModel = CacheAgainstModel.TestCase
TestCacheAgainstModel.settings = settings(stateful_step_count=30)


def test_the_least_recently_used_entry_is_evicted_and_a_hit_counts_as_use():
    cache = LocationCache(max_entries=3)
    for actor_id in "xyz":
        cache.put(actor_id, "a", 1, 0)
    cache.get("x", 0)
    cache.put("new", "a", 1, 0)
    assert cache.recent() == ["new", "x", "z"]
    assert cache.evictions == 1


def test_peeking_is_not_use_and_sees_what_has_expired():
    cache = LocationCache(max_entries=2)
    cache.put("x", "a", 1, 0)
    cache.put("y", "a", 1, 0)
    assert cache.peek("x").expires_ns == TTL
    cache.put("z", "a", 1, 0)
    assert cache.peek("x") is None
    assert cache.hits == cache.misses == 0


def test_an_entry_serves_until_the_nanosecond_it_expires():
    cache = LocationCache()
    entry = cache.put("x", "a", 1, 100)
    assert cache.get("x", 100 + TTL - 1) is entry
    assert cache.get("x", 100 + TTL) is None
    assert not entry.live


def test_an_older_epoch_never_overwrites_a_newer_one_not_even_one_that_has_expired():
    cache = LocationCache()
    newer = cache.put("x", "b", 2, 0)
    assert cache.put("x", "a", 1, 1) is newer
    assert cache.put("x", "a", 1, TTL + 1) is newer
    assert (newer.node, newer.expires_ns, newer.live) == ("b", TTL, True)


def test_the_end_of_an_ownership_outdates_what_was_read_before_it_but_not_the_next_owner():
    cache = LocationCache()
    cache.put("x", "a", 3, 0)
    gone = cache.put_missing("x", 1, epoch=3)
    assert gone.missing
    assert gone.node is None
    assert cache.put("x", "a", 3, 2) is gone
    assert cache.put("x", "b", 4, 3).node == "b"


def test_a_not_found_without_an_epoch_gives_way_to_a_location_that_came_meanwhile():
    cache = LocationCache()
    entry = cache.put("x", "a", 0, 0)
    assert cache.put_missing("x", 1) is entry
    assert cache.put_missing("x", TTL).missing


def test_a_known_absence_lives_briefly_and_is_never_served_late():
    cache = LocationCache()
    cache.serve_expired = True
    cache.put_missing("x", 0)
    assert cache.get("x", MISSING_TTL - 1).missing
    assert cache.get("x", MISSING_TTL) is None


def test_without_a_store_an_expired_location_is_served_and_counted_as_stale():
    cache = LocationCache()
    entry = cache.put("x", "a", 1, 0)
    cache.serve_expired = True
    assert cache.get("x", 10 * TTL) is entry
    cache.serve_expired = False
    assert cache.get("x", 10 * TTL) is None
    assert (cache.stale_hits, cache.hits, cache.misses, cache.expirations) == (1, 1, 1, 1)


def test_the_same_answer_again_renews_the_entry_so_that_its_holders_keep_it():
    cache = LocationCache()
    entry = cache.put("x", "a", 1, 0)
    assert cache.put("x", "a", 1, SECOND) is entry
    assert (entry.live, entry.generation, entry.expires_ns) == (True, 1, SECOND + TTL)


def test_a_move_there_and_back_is_another_entry():
    cache = LocationCache()
    first = cache.put("x", "a", 1, 0)
    cache.put("x", "b", 2, 0)
    third = cache.put("x", "a", 3, 0)
    assert (first.live, third.live) == (False, True)
    assert cache.invalidate("x", first.generation) is False
    assert cache.invalidate("x", third.generation) is True


def test_the_hint_to_refresh_is_given_once_in_the_last_fifth_and_again_after_a_renewal():
    cache = LocationCache()
    entry = cache.put("x", "a", 1, 0)
    due = TTL * 4 // 5
    assert [entry.claim_refresh(now) for now in (due - 1, due, TTL - 1)] == [False, True, False]
    cache.put("x", "a", 1, TTL - 1)
    assert [entry.claim_refresh(now) for now in (TTL, 2 * TTL - 2)] == [False, True]


def test_a_dropped_entry_gives_no_hint():
    cache = LocationCache()
    entry = cache.put("x", "a", 1, 0)
    cache.invalidate("x")
    assert entry.claim_refresh(TTL - 1) is False


def test_losing_a_node_drops_its_entries_and_no_others():
    cache = LocationCache()
    chance = random.Random(7)
    homes = {f"actor-{number}": chance.choice("abcde") for number in range(500)}
    entries = {actor_id: cache.put(actor_id, node, 1, 0) for actor_id, node in homes.items()}
    assert cache.invalidate_node("c") == sum(node == "c" for node in homes.values())
    assert all(entry.live == (homes[actor_id] != "c") for actor_id, entry in entries.items())
    assert cache.invalidate_node("c") == 0
    assert cache.invalidate_node("unheard of") == 0


def test_evicting_the_last_entry_of_a_node_while_another_comes_for_it_loses_nothing():
    cache = LocationCache(max_entries=1)
    cache.put("x", "a", 1, 0)
    cache.put("y", "a", 1, 0)
    assert cache.invalidate_node("a") == 1
    assert len(cache) == 0


def test_entries_that_outlive_their_cache_know_that_they_are_dropped():
    cache = LocationCache()
    entries = [cache.put(str(number), "a", 1, 0) for number in range(10)]
    del cache
    assert not any(entry.live for entry in entries)
    assert entries[3].node == "a"


def test_the_garbage_collector_has_no_work_with_a_full_cache():
    cache = LocationCache()
    entry = cache.put("x", "a", 1, 0)
    assert not gc.is_tracked(cache)
    assert not gc.is_tracked(entry)


@pytest.mark.parametrize("name", ["max_entries", "ttl_ns", "missing_ttl_ns"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-5, ValueError), (1.5, TypeError)])
def test_a_setting_that_cannot_be_is_refused_by_name_and_value(name, value, error):
    with pytest.raises(error, match=f"{name}={value}"):
        LocationCache(**{name: value})


def test_ids_and_epochs_that_cannot_be_are_refused_and_nothing_is_kept():
    cache = LocationCache()
    with pytest.raises(ValueError, match="actor_id=''"):
        cache.put("", "a", 1, 0)
    with pytest.raises(ValueError, match="actor_id=''"):
        cache.put_missing("", 0)
    with pytest.raises(ValueError, match="node=''"):
        cache.put("x", "", 1, 0)
    with pytest.raises(ValueError, match="epoch=-1 of actor 'x'"):
        cache.put("x", "a", -1, 0)
    with pytest.raises(TypeError, match="actor_id"):
        cache.put(7, "a", 1, 0)
    assert len(cache) == 0
