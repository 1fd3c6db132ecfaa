"""The core's histogram and sampler, held against plain arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast._core.instruments import Histogram, Sampler, bucket_top
from cajun_fast.metrics.histogram import EMPTY_SECONDS, HistogramSnapshot, numbers_of, seconds_of

VALUES = st.integers(0, 1 << 42)


@given(VALUES)
def test_a_value_is_found_again_within_three_percent(value: int) -> None:
    histogram = Histogram()
    histogram.record(value)
    ((index, count),) = histogram.filled()
    assert count == 1
    assert value <= bucket_top(index) <= value * 1.0323
    assert index == 0 or bucket_top(index - 1) < value


@given(st.lists(st.tuples(VALUES, st.integers(1, 1000)), min_size=1))
def test_counts_and_sums_are_those_of_the_values(pairs: list[tuple[int, int]]) -> None:
    histogram = Histogram()
    for value, times in pairs:
        histogram.record(value, times)
    assert histogram.count == sum(times for _, times in pairs)
    assert histogram.total == pytest.approx(sum(value * times for value, times in pairs))
    assert histogram.largest == max(value for value, _ in pairs)
    assert sum(count for _, count in histogram.filled()) == histogram.count


def test_what_is_too_large_or_below_zero_is_counted_all_the_same() -> None:
    histogram = Histogram()
    for value in (-1, 0, 1 << 43, (1 << 63) - 1):
        histogram.record(value)
    assert histogram.count == 4
    assert histogram.largest == (1 << 63) - 1
    histogram.clear()
    assert (histogram.count, histogram.filled()) == (0, [])


@given(st.lists(VALUES, min_size=1, max_size=300), st.sampled_from([50.0, 90.0, 99.0, 100.0]))
def test_percentiles_are_those_of_the_sorted_values(values: list[int], percent: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    rank = max(0, -(-len(values) * percent // 100) - 1)
    true = sorted(values)[int(rank)]
    assert true * 0.999 <= numbers_of(histogram).percentile(percent) <= true * 1.0323


@given(st.lists(VALUES), st.lists(VALUES))
def test_a_later_picture_without_an_earlier_one_is_what_came_between(
    first: list[int], then: list[int]
) -> None:
    histogram, fresh = Histogram(), Histogram()
    for value in first:
        histogram.record(value)
    before = seconds_of(histogram)
    for value in then:
        histogram.record(value)
        fresh.record(value)
    between = seconds_of(histogram).since(before)
    assert between.buckets == seconds_of(fresh).buckets
    assert between.count == len(then)
    assert before.plus(between).buckets == seconds_of(histogram).buckets


def test_an_empty_one_has_no_surprises() -> None:
    assert EMPTY_SECONDS.mean == EMPTY_SECONDS.percentile(99) == 0.0
    assert HistogramSnapshot.from_dict(EMPTY_SECONDS.to_dict()) == EMPTY_SECONDS


def test_a_budget_of_none_measures_nothing() -> None:
    assert Sampler(0).every == 0


def test_times_are_shown_in_seconds() -> None:
    histogram = Histogram()
    histogram.record(2_000_000_000)
    assert seconds_of(histogram).largest == 2.0
    assert seconds_of(histogram).mean == 2.0
