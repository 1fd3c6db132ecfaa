"""What of W1 is the application's own: its loop and its dict at the sender, its handler and its dict at the receiver.

    .venv/bin/python bench/application.py [rounds]

CPU time a message of the workload's own code around C that does nothing: what is left of `cajun-fast bench W1` if an
engine cost nothing. Beside it stand W1's figures; their sum divided by this sum is how much faster W1 could be at most.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from cajun_fast.management.bench.contestant import JOINED, Counter, payload
from cajun_fast.management.bench.engine import Target

COUNT = 200_000
MAKE = payload(64)


def sender() -> None:
    """The loop of the bench's sender; in the place of `tell` a C function that does nothing."""
    tells: list[Callable[[Any], object]] = [callable] * JOINED
    for start in range(0, COUNT, JOINED):
        i = start
        for tell in tells[: COUNT - start]:
            tell(MAKE(i))
            i += 1


def receiver() -> None:
    """A dict that C has made, into the bench's handler. Its values are not made anew: they are the codec's share."""
    dicts = map(dict.copy, itertools.repeat(MAKE(70_000), COUNT))
    deque(map(Target(Counter()).receive, dicts, itertools.repeat(None)), 0)


def ns(work: Callable[[], None]) -> float:
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / COUNT


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    found = [(ns(sender), ns(receiver)) for _ in range(rounds)]
    print("sender {:.0f} ns, receiver {:.0f} ns".format(*map(statistics.median, zip(*found, strict=True))))
