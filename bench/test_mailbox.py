"""The mailbox ring from Python, beside a deque; actors use it from C (bench/test_actors.py has those)."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import pytest

from cajun_fast._core.mailbox import Mailbox

BURSTS = [1, 64, 10_000]
MESSAGES = 20_000


@pytest.mark.benchmark(group="mailbox: push and pop with a sender, 20,000 a round")
@pytest.mark.parametrize("burst", BURSTS)
def test_deque(benchmark: Any, burst: int) -> None:
    queue: deque[tuple[object, object, object, int]] = deque()
    message, sender = object(), object()

    def work() -> None:
        append, popleft = queue.append, queue.popleft
        for _ in range(MESSAGES // burst):
            for tag in range(burst):
                append((message, sender, None, tag))
            for _ in range(burst):
                popleft()

    benchmark(work)


@pytest.mark.benchmark(group="mailbox: push and pop with a sender, 20,000 a round")
@pytest.mark.parametrize("burst", BURSTS)
def test_mailbox(benchmark: Any, burst: int) -> None:
    mailbox = Mailbox(100_000)
    message, sender = object(), object()

    def work() -> None:
        push, pop = mailbox.push, mailbox.pop
        for _ in range(MESSAGES // burst):
            for tag in range(burst):
                push(message, sender, None, tag)
            for _ in range(burst):
                pop()

    benchmark(work)


def test_ratio_of_an_idle_mailboxs_memory_to_a_deques() -> None:
    mailbox, queue = Mailbox(100_000), deque[object]()
    for n in range(5_000):
        mailbox.push(n)
        queue.append(n)
    while mailbox.pop():
        queue.popleft()
    ratio = sys.getsizeof(mailbox) / sys.getsizeof(queue)
    print(f"\nan idle mailbox takes {sys.getsizeof(mailbox)} bytes, {ratio:.2f} × those of a deque")
    assert ratio <= 0.5
