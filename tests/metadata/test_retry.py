"""The retry policy: full jitter, a cap, a deadline that no attempt begins behind."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cajun_fast.metadata.retry import Retry, RetryPolicy, backoff

POLICIES = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 20),
    first_delay=st.floats(0.001, 1.0),
    cap=st.floats(0.001, 5.0),
    budget=st.floats(0.01, 30.0),
)


class Least(random.Random):
    def random(self) -> float:
        return 0.0


class Most(random.Random):
    def random(self) -> float:
        return 1.0


def story(policy: RetryPolicy, chance: random.Random, each: float, begin: float = 100.0) -> list[float]:
    """The delays of an operation whose attempts all fail after ``each`` seconds."""
    retry, now, delays = Retry(policy, begin), begin, []
    while True:
        retry.attempt()
        now += each
        delay = retry.delay(now, chance)
        if delay is None:
            return delays
        delays.append(delay)
        now += delay
        assert now < begin + policy.budget, "no attempt begins behind the deadline"


@given(POLICIES, st.integers(), st.floats(0.0, 1.0))
def test_attempts_end_by_number_or_by_time(policy: RetryPolicy, seed: int, each: float) -> None:
    delays = story(policy, random.Random(seed), each)
    assert len(delays) <= policy.max_retries
    assert all(0 <= delay <= policy.cap for delay in delays)
    assert sum(delays) <= policy.budget


@given(POLICIES, st.integers())
def test_the_same_chance_tells_the_same_story(policy: RetryPolicy, seed: int) -> None:
    assert story(policy, random.Random(seed), 0.01) == story(policy, random.Random(seed), 0.01)


def test_the_longest_delays_double_up_to_the_cap() -> None:
    policy = RetryPolicy(max_retries=6, first_delay=0.1, cap=1.0, budget=60.0)
    assert story(policy, Most(), 0.0) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_the_jitter_is_full() -> None:
    policy = RetryPolicy(max_retries=3, first_delay=0.1, cap=1.0, budget=60.0)
    assert story(policy, Least(), 0.0) == [0.0, 0.0, 0.0]


@given(st.integers(-5, 10**6), st.floats(0.001, 10.0), st.floats(0.001, 10.0))
def test_no_number_overflows(number: int, first: float, cap: float) -> None:
    assert 0 < backoff(number, first, cap) <= cap


def test_what_remains_is_never_negative() -> None:
    retry = Retry(RetryPolicy(3, 0.1, 1.0, 2.0), now=10.0)
    assert retry.remaining(11.5) == 0.5
    assert retry.remaining(99.0) == 0.0
