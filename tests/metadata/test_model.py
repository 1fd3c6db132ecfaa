"""memory:// and sqlite:// are the same machine twice: any sequence of verbs gives the same answers and
events.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cajun_fast.clock import ManualClock
from cajun_fast.errors import CompactedError, LeaseLostError
from cajun_fast.metadata.sqlite_tables import Tables
from cajun_fast.metadata.store import Compare, Delete, Put
from cajun_fast.metadata.truth import Truth

KEYS = st.sampled_from(["a", "a/", "a/b", "a/\U0010ffff", "b", "ü"])
LEASES = st.sampled_from([0, 0, 1, 2])
CHANGES = st.lists(
    st.one_of(
        st.builds(Put, KEYS, st.binary(max_size=2), LEASES),
        st.builds(Delete, KEYS),
    ),
    max_size=4,
    unique_by=lambda change: change.key,
)
STEPS = st.one_of(
    st.tuples(
        st.just("transact"), st.lists(st.builds(Compare, KEYS, st.integers(0, 6)), max_size=1), CHANGES
    ),
    st.tuples(st.just("grant"), st.sampled_from([1, 2]), st.integers(1, 5)),
    st.tuples(st.just("refresh"), st.sampled_from([1, 2]), st.integers(1, 5)),
    st.tuples(st.just("revoke"), st.sampled_from([1, 2])),
    st.tuples(st.just("wait"), st.integers(1, 6)),
    st.tuples(st.just("page"), KEYS, st.integers(1, 3), st.none() | KEYS),
    st.tuples(st.just("opening"), KEYS, st.none() | st.integers(0, 8)),
    st.tuples(st.just("changes"), KEYS, st.integers(0, 8)),
    st.tuples(st.just("difference"), KEYS, st.integers(0, 8)),
)
SECOND = 1_000_000_000


class Twins:
    """Both machines, driven by the same verbs."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.truth = Truth(history=10_000)
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.tables = Tables(connection, self.clock.now_ns, 10_000)
        self.tables.create("boot")
        self.tables.begin()
        self.granted: set[int] = set()

    def run(self, step: tuple[Any, ...]) -> tuple[Any, Any]:
        verb, *arguments = step
        if verb == "wait":
            self.clock.advance(arguments[0])
            self.truth.sweep(self.clock.now_ns())
            self.tables.sweep()
            return self.truth.next_expiry(), self.tables.next_expiry()
        if verb in ("grant", "refresh"):
            lease, ttl = arguments
            if verb == "grant" and lease in self.granted:
                return None, None
            self.granted.add(lease)
            expires = self.clock.now_ns() + ttl * SECOND
            return (
                outcome(getattr(self.truth, verb), lease, expires),
                outcome(getattr(self.tables, verb), lease, ttl * SECOND),
            )
        return outcome(getattr(self.truth, verb), *arguments), outcome(getattr(self.tables, verb), *arguments)


def outcome(verb: Any, *arguments: Any) -> Any:
    try:
        found = verb(*arguments)
    except (LeaseLostError, CompactedError) as error:
        return type(error)
    if hasattr(found, "written"):
        return found.keys, sorted(found.written, key=lambda entry: entry.key), found.revision
    return found


@given(st.lists(STEPS, max_size=30))
def test_both_machines_answer_alike(steps: list[tuple[Any, ...]]) -> None:
    twins = Twins()
    for step in steps:
        truth, tables = twins.run(step)
        assert truth == tables, step
    assert twins.truth.page("", 100, None) == twins.tables.page("", 100, None)
    assert log_of(twins.truth) == log_of(twins.tables)


def log_of(machine: Any) -> Any:
    """Expiries of one moment may come in another order: compare what each revision changed, as a set."""
    changes = machine.changes("", 0)
    return sorted((event.kind.value, event.entry.key, event.entry.value) for event in changes.events)
