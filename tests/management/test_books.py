"""Books in their files: what an account writes about what it handles, and what a reader finds after a SIGKILL."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.management.demo import books
from cajun_fast.management.demo.accounts import Account, Plan
from cajun_fast.management.demo.books import IN, OUT, Ledger, Note, amount_of, sum_of_amounts
from cajun_fast.management.demo.verdict import judge

STREAM = 1 << 16


def handle(ledger: Ledger, numbers: Sequence[int], *, life: int = 7) -> Account:
    """An account that handles these transfers of one stream, in this order."""
    account = Account(Plan("", ["a"], 0, [], "EXACTLY_ONCE", 0).as_plain())
    desk: Any = SimpleNamespace(ledger=ledger)
    account.desk, account.life = desk, life
    for number in numbers:
        account.receive([STREAM, number, amount_of(number)], None)  # type: ignore[arg-type]
    return account


@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
@example([3, 1, 2, 3, 1])
@example([1, 2, 5, 3, 3])
def test_an_account_writes_down_each_gap_repetition_and_late_one(numbers: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "a.book", 16)
        ledger.new_row(OUT, STREAM, 1, max(numbers), max(numbers))
        handle(ledger, numbers)
        verdict = judge([ledger.read("a")], DeliveryGuarantee.EXACTLY_ONCE)
        ledger.close()
    seen: set[int] = set()
    doubled = late = 0
    for number in numbers:
        doubled += number in seen
        late += number not in seen and number < max(seen, default=0)
        seen.add(number)
    assert verdict.handled == len(seen)
    assert verdict.sins["doubled"] == doubled
    assert verdict.sins["out of order"] == late
    assert verdict.sins["lost"] == max(numbers) - len(seen)
    assert verdict.sins["mangled"] == 0
    assert verdict.balanced == (numbers == list(range(1, max(numbers) + 1)))


def test_a_mangled_amount_shows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a.book", 16)
    ledger.new_row(OUT, STREAM, 1, 2, 2)
    account = handle(ledger, [1])
    account.receive([STREAM, 2, amount_of(2) + 1], None)  # type: ignore[arg-type]
    verdict = judge([ledger.read("a")], DeliveryGuarantee.EXACTLY_ONCE)
    assert verdict.sins == {"mangled": 1}
    ledger.close()


def test_a_receipt_says_who_answers_and_what_it_has_handled(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a.book", 16)
    account = handle(ledger, [4, 5, 6])
    assert account.receive([STREAM], None) == [7, 4, 6]  # type: ignore[arg-type]
    assert account.receive([STREAM + 1], None) == [7, 0, 0]  # type: ignore[arg-type]
    ledger.close()


def test_what_was_written_outlives_a_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "a.book"
    child = os.fork()
    if child == 0:
        ledger = Ledger(path, 16)
        handle(ledger, [1, 2, 3, 5])
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    reader = Ledger(path)
    read = reader.read("a", killed=True)
    assert [(row.start, row.watermark) for row in read.ins] == [(1, 5)]
    assert read.notes == (Note("gap", STREAM, 4, 4, 7),)
    assert reader.handled() == 5
    reader.close()


def test_a_book_without_room_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a.book", 3)
    places = [ledger.new_row(IN, number, 1, 1) for number in range(5)]
    assert len(set(places)) == 3
    read = ledger.read("a")
    assert read.overflow == 3
    assert judge([read], DeliveryGuarantee.AT_MOST_ONCE).sins["unrecorded"] == 3
    ledger.close()


def test_half_a_line_at_the_end_is_no_note(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a.book", 3)
    ledger.note(Note("failed", 1, 2, 3))
    with open(tmp_path / "a.notes", "ab") as file:
        file.write(b'["failed", 1, 9')
    assert ledger.read("a").notes == (Note("failed", 1, 2, 3),)
    ledger.close()


@given(st.integers(0, 2**34))
def test_a_bucket_holds_what_is_within_a_sixteenth(value: int) -> None:
    bucket = books.bucket_of(value)
    assert value <= books.top_of(bucket) <= value + value // 16 + 1
    assert bucket == 0 or books.top_of(bucket - 1) < value


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_those_of_the_sorted_list(values: list[int], share: float) -> None:
    histogram = [0] * books.BUCKETS
    for value in values:
        histogram[books.bucket_of(value)] += 1
    rank = max(1, -int(-share * len(values) // 1))
    exact = sorted(values)[rank - 1]
    found = books.percentile(histogram, share)
    assert found is not None
    assert books.bucket_of(found) == books.bucket_of(exact)
    assert books.percentile([0] * books.BUCKETS, share) is None


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 99), (1, 100), (57, 1234), (100, 199), (5, 4)])
def test_amounts_add_up(first: int, last: int) -> None:
    assert sum_of_amounts(first, last) == sum(map(amount_of, range(first, last + 1)))
