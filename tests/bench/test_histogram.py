"""Histograms: every value is found again, to a percent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cajun_fast.management.bench.histogram import Histogram, bucket_of, top_of

latencies = st.lists(st.integers(0, 1 << 40), min_size=1, max_size=200)


@given(st.integers(0, 1 << 50))
def test_a_value_lies_in_its_bucket_which_is_a_percent_wide(value: int) -> None:
    bucket = bucket_of(value)
    assert value <= top_of(bucket) <= value * 1.01
    assert bucket_of(top_of(bucket)) == bucket
    assert bucket_of(top_of(bucket) + 1) == bucket + 1


@given(latencies, st.sampled_from([1, 50, 99, 99.9, 100]))
def test_percentiles_are_those_of_the_sorted_values(values: list[int], percent: float) -> None:
    ordered = sorted(values)
    due = percent / 100 * len(values)
    exact = next(value for rank, value in enumerate(ordered, start=1) if rank >= due)
    assert exact <= Histogram(values).percentile(percent) <= exact * 1.01


@given(latencies, latencies)
def test_merging_is_counting_both_and_json_keeps_the_buckets(first: list[int], second: list[int]) -> None:
    merged = Histogram(first)
    merged.merge(Histogram(second))
    both = Histogram(first + second)
    assert (merged.count, merged.largest, merged.to_json()) == (both.count, both.largest, both.to_json())
    again = Histogram.from_json(both.to_json())
    assert (again.count, again.to_json()) == (both.count, both.to_json())


def test_an_empty_one_has_no_latency() -> None:
    assert Histogram().percentile(99) == 0
    assert Histogram.from_json({}).largest == 0
