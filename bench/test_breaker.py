"""The circuit breaker's check, beside a dict look-up and beside the same class in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cajun_fast._core.breaker import CircuitBreaker

CALLS = range(10_000)
NOW = 123_456_789_012_345
BREAKERS = {f"node-{number}": CircuitBreaker(f"node-{number}") for number in range(100)}


class PlainBreaker:
    """As one writes it by hand: a state, a count, a time; no tickets."""

    def __init__(self) -> None:
        self.state, self.failures, self.retry_at = "closed", 0, 0

    def allows(self, now: int) -> bool:
        return self.state == "closed" or now >= self.retry_at

    def record_success(self) -> None:
        self.state, self.failures = "closed", 0


def look_up() -> None:
    breakers = BREAKERS
    for _ in CALLS:
        breakers["node-7"]


def check() -> None:
    breaker, now = BREAKERS["node-7"], NOW
    for _ in CALLS:
        breaker.allows(now)


def take_a_ticket() -> None:
    breaker, now = BREAKERS["node-7"], NOW
    for _ in CALLS:
        breaker.acquire(now)


def call_and_record() -> None:
    breaker, now = BREAKERS["node-7"], NOW
    for _ in CALLS:
        breaker.record_success(breaker.acquire(now))


def plain_check() -> None:
    breaker, now = PlainBreaker(), NOW
    for _ in CALLS:
        breaker.allows(now)


def plain_call_and_record() -> None:
    breaker, now = PlainBreaker(), NOW
    for _ in CALLS:
        breaker.allows(now)
        breaker.record_success()


@pytest.mark.benchmark(group="breaker: check, 10,000 a round")
@pytest.mark.parametrize("work", [look_up, plain_check, check, take_a_ticket])
def test_check(benchmark: Any, work: Callable[[], None]) -> None:
    benchmark(work)


@pytest.mark.benchmark(group="breaker: check and record a success, 10,000 a round")
@pytest.mark.parametrize("work", [plain_call_and_record, call_and_record])
def test_call(benchmark: Any, work: Callable[[], None]) -> None:
    benchmark(work)


@pytest.mark.parametrize("work", [check, take_a_ticket])
def test_ratio_of_a_check_to_a_dict_look_up(work: Callable[[], None], costs_at_most: Any) -> None:
    costs_at_most(f"breaker, {work.__name__}: against a dict look-up", work, look_up, 2.0)
