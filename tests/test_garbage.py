"""Full collections stay short where many objects live on, and garbage is found all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from cajun_fast.garbage import SHARE, ShortCollections, short_collections


class Turned:
    """A clock that a collection makes go on by ``takes`` seconds."""

    def __init__(self, takes: float) -> None:
        self.takes = takes
        self.now = 100.0

    def __call__(self) -> float:
        now, self.now = self.now, self.now + self.takes
        return now


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def clock() -> Turned:
    return Turned(1.0)


@pytest.fixture
def collections(clock: Turned) -> Iterator[ShortCollections]:
    gc.collect()
    before = gc.get_freeze_count()
    made = ShortCollections(clock)
    made.start()
    yield made
    made.stop()
    assert gc.get_freeze_count() <= before


@pytest.mark.usefixtures("collections")
def test_what_outlives_a_long_full_collection_is_looked_at_no_more() -> None:
    kept = [[number] for number in range(1000)]
    before = gc.get_freeze_count()
    gc.collect()
    assert gc.get_freeze_count() >= before + len(kept)
    assert len(gc.get_objects()) < len(kept)


@pytest.mark.usefixtures("collections")
def test_short_collections_and_those_of_the_young_set_nothing_aside(clock: Turned) -> None:
    before = gc.get_freeze_count()
    gc.collect(1)
    clock.takes = 0.01
    gc.collect()
    assert gc.get_freeze_count() == before


@pytest.mark.usefixtures("collections")
def test_garbage_that_was_set_aside_is_found_once_that_costs_a_thousandth_of_the_time(clock: Turned) -> None:
    knot = Knot()
    seen = weakref.ref(knot)
    gc.collect()
    del knot
    gc.collect()
    assert seen() is not None
    clock.now += 1 / SHARE
    gc.collect()
    assert seen() is None


def test_it_ends_with_the_program_that_asked_for_it() -> None:
    before = list(gc.callbacks)
    with short_collections():
        assert len(gc.callbacks) == len(before) + 1
    assert gc.callbacks == before
