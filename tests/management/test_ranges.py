"""Sets as spans, held against Python's own sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cajun_fast.management.demo.ranges import Ranges

spans = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 42)), max_size=8)


def members(given_spans: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in given_spans for number in range(first, last + 1)}


def as_set(ranges: Ranges) -> set[int]:
    return members(list(ranges))


@given(spans, spans)
def test_the_operations_are_those_of_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    a, b = Ranges(one), Ranges(other)
    assert as_set(a | b) == members(one) | members(other)
    assert as_set(a & b) == members(one) & members(other)
    assert as_set(a - b) == members(one) - members(other)
    assert len(a) == len(members(one))
    assert bool(a) == bool(members(one))
    assert {number for number in range(45) if number in a} == members(one)


@given(spans)
def test_equal_sets_are_equal_however_they_came_about(given_spans: list[tuple[int, int]]) -> None:
    added = Ranges()
    for first, last in given_spans:
        added.add(first, last)
    assert added == Ranges(reversed(given_spans))
    gaps = [later[0] - earlier[1] for earlier, later in zip(list(added), list(added)[1:], strict=False)]
    assert all(gap > 1 for gap in gaps)


def test_a_long_run_is_one_span() -> None:
    ranges = Ranges()
    for number in range(1, 10_000):
        ranges.add(number, number)
    assert list(ranges) == [(1, 9999)]
    assert repr(ranges) == "Ranges(1…9999)"
