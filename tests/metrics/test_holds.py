"""The longest holds of a loop, lately."""

from __future__ import annotations

from cajun_fast.metrics.holds import NONE, WINDOW, Hold, Holds

SECOND = 10**9


def test_the_longest_since_a_moment_and_within_the_window() -> None:
    news: list[tuple[str | None, int]] = []
    holds = Holds(lambda: news.pop() if news else (None, 0))

    def told(at: float, actor: str, seconds: float) -> None:
        news.append((actor, round(seconds * SECOND)))
        holds.look(round(at * SECOND))

    assert holds.longest() == NONE
    told(1, "short", 0.1)
    told(2, "long", 0.5)
    told(3, "short", 0.2)
    assert holds.longest() == Hold("long", 0.5)
    assert holds.longest(2 * SECOND) == Hold("short", 0.2)
    assert holds.longest(3 * SECOND) == NONE
    holds.look(round((2 + WINDOW) * SECOND) + 1)
    assert holds.longest() == Hold("short", 0.2)

    told(4 + WINDOW, "new", 0.01)
    assert holds.longest() == Hold("new", 0.01)
