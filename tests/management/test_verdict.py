"""The verdict, held against a plain look at each transfer."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.management.demo.books import Books, InRow, Note, OutRow, amount_of
from cajun_fast.management.demo.screen import words_of
from cajun_fast.management.demo.verdict import Verdict, judge

EXACTLY, LEAST, MOST = (
    DeliveryGuarantee.EXACTLY_ONCE,
    DeliveryGuarantee.AT_LEAST_ONCE,
    DeliveryGuarantee.AT_MOST_ONCE,
)
STREAM = 5


@dataclass(frozen=True)
class Fate:
    """Of one transfer: what its sender was told, and which lives of its receiver handled it."""

    told: str = ""
    by_killed: bool = False
    by_living: bool = False


fates = st.lists(
    st.builds(
        Fate,
        st.sampled_from(["", "", "", "failed", "unknown", "vouched by nobody"]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


def in_row(numbers: list[int], life: int) -> tuple[tuple[InRow, ...], tuple[Note, ...]]:
    if not numbers:
        return (), ()
    gaps = sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    row = InRow(STREAM, life, numbers[0], numbers[-1], sum(map(amount_of, numbers)))
    return (row,), tuple(Note("gap", STREAM, number, number, life) for number in gaps)


def books_of(course: list[Fate], open_from: int | None = None, *, sender_killed: bool = False) -> list[Books]:
    """What three processes write when transfers 1, 2, 3 … fare so; from ``open_from`` on none is settled."""
    settled = len(course) if open_from is None else min(open_from, len(course))
    told = tuple(Note(fate.told, STREAM, n, n) for n, fate in enumerate(course, 1) if fate.told)
    sender = Books("a", sender_killed, (OutRow(STREAM, 1, len(course), settled),), (), told)
    rows, gaps = in_row([n for n, fate in enumerate(course, 1) if fate.by_killed], 2)
    killed = Books("b", True, (), rows, gaps)
    rows, gaps = in_row([n for n, fate in enumerate(course, 1) if fate.by_living], 3)
    return [sender, killed, Books("c", False, (), rows, gaps)]


@given(fates, st.sampled_from([EXACTLY, LEAST, MOST]))
def test_each_transfer_is_judged_as_a_plain_look_would(
    course: list[Fate], guarantee: DeliveryGuarantee
) -> None:
    verdict = judge(books_of(course), guarantee)
    handled = [fate for fate in course if fate.by_killed or fate.by_living]
    twice = sum(fate.by_killed and fate.by_living for fate in course)
    lost = sum(not fate.told and fate not in handled for fate in course)
    wrongly = sum(fate.told == "failed" and fate in handled for fate in course)
    wrongly += sum(fate.told == "unknown" and fate.by_living for fate in course)
    assert verdict.sent == len(course)
    assert verdict.handled == len(handled)
    assert verdict.delivered == sum(not fate.told for fate in course)
    assert verdict.failed == sum(fate.told == "failed" for fate in course)
    assert verdict.unknown == sum(fate.told in ("unknown", "vouched by nobody") for fate in course)
    expected = {"lost": lost, "doubled across the crash": twice, "told wrongly": wrongly}
    assert verdict.sins == {sin: count for sin, count in expected.items() if count}
    allowed = {EXACTLY: set(), LEAST: {"doubled across the crash"}, MOST: {"lost"}}[guarantee]
    assert verdict.balanced == (bool(handled) and verdict.sins.keys() <= allowed)


@given(fates, st.integers(0, 12), st.booleans())
def test_what_is_open_is_a_sin_only_of_a_sender_that_lives(
    course: list[Fate], open_from: int, sender_killed: bool
) -> None:
    verdict = judge(books_of(course, open_from, sender_killed=sender_killed), EXACTLY)
    still_open = course[open_from:]
    assert verdict.open == len(still_open)
    assert verdict.open_handled == sum(fate.by_killed or fate.by_living for fate in still_open)
    assert verdict.sins["unsettled"] == (0 if sender_killed else len(still_open))
    assert verdict.sent == verdict.delivered + verdict.failed + verdict.unknown + verdict.open


GOOD = [Fate(by_killed=True)] * 3 + [Fate(told="unknown")] + [Fate(by_living=True)] * 3


def test_a_good_course_balances_and_is_told_in_words() -> None:
    verdict = judge(books_of(GOOD), EXACTLY)
    assert verdict.balanced
    text = "\n".join(words_of(verdict))
    assert "The books balance" in text
    assert "none lost, none doubled between living nodes" in text


def test_two_living_nodes_that_handle_the_same_are_a_double() -> None:
    living = InRow(STREAM, 4, 1, 1, amount_of(1))
    verdict = judge([*books_of(GOOD), Books("d", False, (), (living,))], LEAST)
    assert verdict.sins == {"doubled across the crash": 1}
    other = InRow(STREAM, 4, 7, 7, amount_of(7))
    verdict = judge([*books_of(GOOD), Books("d", False, (), (other,))], LEAST)
    assert verdict.sins == {"doubled": 1}
    assert not verdict.balanced
    assert "THE BOOKS DO NOT BALANCE" in words_of(verdict)[-1]


def test_what_nobody_sent_is_invented() -> None:
    beyond = Books("d", False, (), (InRow(STREAM, 4, 8, 9, amount_of(8) + amount_of(9)),))
    assert judge([*books_of(GOOD), beyond], EXACTLY).sins == {"invented": 2}
    foreign = Books("d", False, (), (InRow(99, 4, 1, 2, amount_of(1) + amount_of(2)),))
    assert judge([*books_of(GOOD), foreign], EXACTLY).sins == {"invented": 2}


@pytest.mark.parametrize(("field", "sin"), [("doubles", "doubled"), ("late", "out of order")])
def test_what_a_receiver_counted_itself_is_a_sin(field: str, sin: str) -> None:
    rows = {"doubles": InRow(STREAM, 3, 1, 2, 5, doubles=2), "late": InRow(STREAM, 3, 1, 2, 5, late=2)}
    sender = Books("a", False, (OutRow(STREAM, 1, 2, 2),), ())
    assert judge([sender, Books("c", False, (), (rows[field],))], MOST).sins == {sin: 2}


def test_nothing_handled_proves_nothing() -> None:
    assert not judge([], EXACTLY).balanced
    assert "prove nothing" in words_of(Verdict(EXACTLY))[-1]


@pytest.mark.parametrize(
    ("killed", "surplus", "sins"),
    [
        (True, 0, {}),
        (True, amount_of(3), {}),  # killed between the sum and the number
        (True, 101, {"mangled": 1}),
        (True, -1, {"mangled": 1}),
        (False, amount_of(3), {"mangled": 1}),
    ],
)
def test_only_a_killed_life_may_be_one_transfer_ahead_in_its_sum(
    killed: bool, surplus: int, sins: dict[str, int]
) -> None:
    row = InRow(STREAM, 3, 1, 2, amount_of(1) + amount_of(2) + surplus)
    sender = Books("a", False, (OutRow(STREAM, 1, 2, 2),), ())
    assert judge([sender, Books("c", killed, (), (row,))], EXACTLY).sins == sins
