"""The circuit breaker: its transcripts, and all its answers held against a plain model."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast._core import breaker as module
from cajun_fast._core.breaker import TRANSITIONS, CircuitBreaker, State

SECOND = 1_000_000_000
RESET = 30 * SECOND


def opened(threshold=5, now=0):
    """A breaker that has just opened, and a ticket from before."""
    breaker = CircuitBreaker("node-b", threshold, 30.0)
    ticket = breaker.acquire(now)
    for _ in range(threshold):
        breaker.record_failure(ticket, now)
    assert breaker.state is State.OPEN
    return breaker, ticket


class Model:
    """The same, written out state by state, with each call remembered by the period in which it began."""

    def __init__(self, threshold):
        self.threshold, self.state, self.failures, self.retry_at, self.period = threshold, "closed", 0, 0, 0

    def go(self, state, retry_at=0):
        self.state, self.retry_at, self.period = state, retry_at, self.period + 1

    def acquire(self, now):
        if self.state == "closed":
            return self.period
        if now < self.retry_at:
            return None
        self.go("half-open", now + RESET)
        return self.period

    def success(self, period):
        if period != self.period:
            return False
        self.failures = 0
        closes = self.state == "half-open"
        if closes:
            self.go("closed")
        return closes

    def failure(self, period, now):
        if period != self.period:
            return False
        self.failures += 1
        opens = self.state == "half-open" or self.failures == self.threshold
        if opens:
            self.go("open", now + RESET)
        return opens

    def abandoned(self, period, now):
        was_probe = period == self.period and self.state == "half-open"
        if was_probe:
            self.go("open", now)
        return was_probe

    def reset(self):
        was_open, self.failures = self.state != "closed", 0
        self.go("closed")
        return was_open


actions = st.lists(
    st.tuples(
        st.sampled_from(["acquire"] * 3 + ["failure"] * 4 + ["success", "abandoned", "reset"]),
        st.sampled_from([0, 1, SECOND, RESET - 1, RESET]),
        st.randoms(use_true_random=False),
    ),
    max_size=80,
)


@given(st.integers(1, 4), actions)
def test_it_answers_like_the_model_whatever_comes(threshold, actions):
    breaker, model, now, calls = CircuitBreaker("node-b", threshold, 30.0), Model(threshold), 0, []
    for action, step, chance in actions:
        now += step
        assert breaker.allows(now) == (model.state == "closed" or now >= model.retry_at)
        if action == "acquire":
            ticket, period = breaker.acquire(now), model.acquire(now)
            assert bool(ticket) == (period is not None)
            calls += [(ticket, period)] * bool(ticket)
        elif action == "reset":
            assert breaker.reset() == model.reset()
        elif calls:
            ticket, period = calls.pop(chance.randrange(len(calls)))
            if action == "success":
                assert breaker.record_success(ticket) == model.success(period)
            elif action == "failure":
                assert breaker.record_failure(ticket, now) == model.failure(period, now)
            else:
                assert breaker.record_abandoned(ticket, now) == model.abandoned(period, now)
        assert (breaker.state, breaker.failures) == (model.state, model.failures)
        assert breaker.retry_at == model.retry_at
        assert breaker.remaining_ns(now) == max(0, model.retry_at - now)


def test_it_opens_at_the_threshold_and_not_before():
    breaker = CircuitBreaker("node-b")
    answers = [breaker.record_failure(breaker.acquire(0), 0) for _ in range(5)]
    assert answers == [False, False, False, False, True]
    assert breaker.acquire(0) == 0
    assert not breaker.allows(0)


def test_a_success_in_between_begins_the_count_anew():
    breaker = CircuitBreaker("node-b", failure_threshold=2)
    for _ in range(5):
        breaker.record_failure(breaker.acquire(0), 0)
        breaker.record_success(breaker.acquire(0))
    assert breaker.state is State.CLOSED


def test_while_open_every_call_is_refused_and_told_when_to_try_again():
    breaker, _ = opened(now=7)
    assert breaker.retry_at == 7 + RESET
    assert breaker.remaining_ns(7 + SECOND) == 29 * SECOND
    assert breaker.acquire(7 + RESET - 1) == 0
    assert breaker.acquire(7 + RESET) != 0


def test_after_the_timeout_exactly_one_probe_of_many_callers_passes():
    breaker, _ = opened()
    tickets = [breaker.acquire(RESET + nanosecond) for nanosecond in range(100)]
    assert [bool(ticket) for ticket in tickets] == [True] + [False] * 99
    assert breaker.state is State.HALF_OPEN
    assert breaker.refused == 99


def test_asking_whether_a_call_would_pass_takes_no_probe_away():
    breaker, _ = opened()
    assert breaker.allows(RESET)
    assert breaker.allows(RESET)
    assert breaker.state is State.OPEN
    assert breaker.acquire(RESET)


def test_the_probe_decides():
    healed, _ = opened()
    assert healed.record_success(healed.acquire(RESET)) is True
    assert (healed.state, healed.failures, healed.retry_at) == (State.CLOSED, 0, 0)

    sick, _ = opened()
    assert sick.record_failure(sick.acquire(RESET), RESET + SECOND) is True
    assert (sick.state, sick.retry_at) == (State.OPEN, RESET + SECOND + RESET)


def test_a_late_success_of_a_call_that_began_before_it_opened_does_not_close_it():
    breaker, early = opened()
    assert breaker.record_success(early) is False
    assert breaker.state is State.OPEN
    probe = breaker.acquire(RESET)
    assert breaker.record_success(early) is False
    assert breaker.state is State.HALF_OPEN
    assert breaker.record_success(probe) is True
    assert breaker.late == 2


def test_a_late_failure_neither_fails_the_probe_nor_counts_against_a_healed_peer():
    breaker, early = opened(threshold=1)
    probe = breaker.acquire(RESET)
    assert breaker.record_failure(early, RESET) is False
    assert breaker.state is State.HALF_OPEN
    breaker.record_success(probe)
    assert breaker.record_failure(early, RESET) is False
    assert (breaker.state, breaker.failures) == (State.CLOSED, 0)


def test_an_abandoned_probe_lets_the_next_call_probe_at_once():
    breaker, _ = opened()
    first = breaker.acquire(RESET)
    assert breaker.record_abandoned(first, RESET + 5) is True
    assert breaker.state is State.OPEN
    second = breaker.acquire(RESET + 5)
    assert second not in (0, first)
    assert breaker.record_success(first) is False
    assert breaker.record_success(second) is True


def test_an_abandoned_call_says_nothing_about_the_peer():
    breaker = CircuitBreaker("node-b", failure_threshold=2)
    breaker.record_failure(breaker.acquire(0), 0)
    assert breaker.record_abandoned(breaker.acquire(0), 0) is False
    assert breaker.failures == 1


def test_a_probe_that_is_never_heard_of_makes_room_for_another_after_the_timeout():
    breaker, _ = opened()
    lost = breaker.acquire(RESET)
    assert breaker.acquire(2 * RESET - 1) == 0
    other = breaker.acquire(2 * RESET)
    assert other not in (0, lost)
    assert breaker.record_success(lost) is False
    assert breaker.state is State.HALF_OPEN
    assert breaker.record_success(other) is True


def test_a_new_incarnation_inherits_neither_the_open_state_nor_the_failures_under_way():
    breaker, early = opened(threshold=2)
    assert breaker.reset() is True
    assert breaker.acquire(0)
    for _ in range(5):
        breaker.record_failure(early, 0)
    assert (breaker.state, breaker.failures) == (State.CLOSED, 0)
    assert breaker.reset() is False


def test_the_counters_say_what_happened():
    breaker, early = opened(threshold=3)
    breaker.acquire(1)
    breaker.record_success(early)
    breaker.record_success(breaker.acquire(RESET))
    assert breaker.counters() == {"successes": 2, "failed": 3, "refused": 1, "opened": 1, "late": 1}


def test_the_table_is_what_the_machine_does_and_what_the_documentation_shows():
    seen, now, breaker, chance = set(), 0, CircuitBreaker("node-b", 1, 30.0), random.Random(1)
    calls = {
        "probe": lambda: breaker.acquire(now),
        "recover": lambda: breaker.record_success(breaker.epoch),
        "relapse": lambda: breaker.record_failure(breaker.epoch, now),
        "abandon": lambda: breaker.record_abandoned(breaker.epoch, now),
        "reset": lambda: breaker.reset(),
    }
    for _ in range(2000):
        event = chance.choice(list(calls))
        before, epoch, now = breaker.state, breaker.epoch, now + RESET
        if before == "open" and event in ("recover", "relapse", "abandon"):
            continue  # nobody holds a ticket of an open period
        calls[event]()
        if breaker.epoch != epoch:
            event = "trip" if (before, event) == ("closed", "relapse") else event
            seen.add((str(before), event, str(breaker.state)))
    assert seen == {row[:3] for row in TRANSITIONS}
    shown = [line.split() for line in module.__doc__.splitlines()]
    for state, event, following, why in TRANSITIONS:
        assert [state, "──", event, "─▶", following, *why.split()] in shown


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("b", 0), ValueError, "failure_threshold=0 is out of range"),
        (("b", 2.0), TypeError, r"failure_threshold=2.0 must be an int"),
        (("b", 5, 0), ValueError, "reset_timeout=0 is out of range"),
        (("b", 5, -1.5), ValueError, "reset_timeout=-1.5 is out of range"),
        (("b", 5, float("nan")), ValueError, "reset_timeout=nan is out of range"),
        (("b", 5, "30"), TypeError, "reset_timeout='30' must be a number of seconds"),
        ((None,), TypeError, "name"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name_and_value(arguments, error, text):
    with pytest.raises(error, match=text):
        CircuitBreaker(*arguments)


def test_the_defaults_are_five_failures_and_thirty_seconds():
    breaker = CircuitBreaker("node-b")
    assert (breaker.name, breaker.failure_threshold, breaker.reset_ns) == ("node-b", 5, RESET)
