"""When to try again, and when to stop: exponential back-off with full jitter, a cap, and one deadline for all
attempts.

Laws: sans-IO: time and chance are arguments, waiting is the caller's. What may be tried again at all is the
caller's knowledge, too: a policy only counts and measures.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Advice: a cap near the time that the other side needs to recover (etcd elects a leader in 1 to 2 s)."""

    max_retries: int
    #: Seconds; the n-th delay lies between 0 and ``first_delay * 2**n``, or ``cap``.
    first_delay: float
    cap: float
    #: Seconds for all attempts and delays together.
    budget: float

    def start(self, now: float) -> Retry:
        return Retry(self, now)


class Retry:
    """One operation's attempts."""

    __slots__ = ("attempts", "began", "policy")

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self.policy = policy
        self.began = now
        self.attempts = 0

    def remaining(self, now: float) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.began + self.policy.budget - now)

    def attempt(self) -> None:
        """Count an attempt that begins."""
        self.attempts += 1

    def delay(self, now: float, chance: random.Random) -> float | None:
        """Seconds to wait before the next attempt; None: give up."""
        policy = self.policy
        if self.attempts > policy.max_retries:
            return None
        # Full jitter: clients that failed together must not come back together.
        delay = chance.random() * backoff(self.attempts - 1, policy.first_delay, policy.cap)
        return delay if delay < self.remaining(now) else None


def backoff(number: int, first: float, cap: float) -> float:
    """``first * 2**number``, at most ``cap``; for any number without overflow."""
    return min(cap, first * 2.0 ** min(max(number, 0), 64))
