"""The batch queues, beside lists and dicts by hand: 10,000 registrations in batches of 50."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cajun_fast._core.batch import BatchQueue, KeyedBatchQueue, Verdict

KEYS = [f"account-{number:06}" for number in range(10_000)]
NOW, AGE = 123_456_789_012_345, 5_000_000


def by_count() -> int:
    queue: BatchQueue[str] = BatchQueue(50, 1_000_000, AGE)
    batches = 0
    for key in KEYS:
        if queue.add(key, 40, NOW) is Verdict.READY:
            batches += len(queue.take()) == 50
    return batches


def by_key() -> int:
    queue: KeyedBatchQueue[str] = KeyedBatchQueue(50, 1_000_000, AGE)
    batches = 0
    for key in KEYS:
        if queue.put(key, key, 40, NOW)[0] is Verdict.READY:
            taken = queue.take()
            for each in taken:
                queue.settle(each, NOW)
            batches += len(taken) == 50
    return batches


def list_by_hand() -> int:
    """Count alone: no bytes, no age, no bound."""
    queue: list[str] = []
    batches = 0
    for key in KEYS:
        queue.append(key)
        if len(queue) >= 50:
            taken, queue = queue[:50], queue[50:]
            batches += len(taken) == 50
    return batches


def dict_by_hand() -> int:
    """One item a key, bytes counted; nothing held back, handed back or restored."""
    queue: dict[str, tuple[str, int, int]] = {}
    batches = size = 0
    for key in KEYS:
        older = queue.get(key)
        size += 40 - (older[1] if older else 0)
        queue[key] = (key, 40, NOW)
        if len(queue) >= 50 or size >= 1_000_000:
            taken = [item for item, _, _ in queue.values()]
            queue.clear()
            size = 0
            batches += len(taken) == 50
    return batches


@pytest.mark.benchmark(group="batch: 10,000 items in batches of 50")
@pytest.mark.parametrize("work", [list_by_hand, by_count, dict_by_hand, by_key])
def test_batches(benchmark: Any, work: Callable[[], int]) -> None:
    assert benchmark(work) == 200
