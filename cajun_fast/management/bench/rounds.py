"""Turns of the sides of one case, and the ratios that come of them.

Laws: each side's run takes about the same time; a ratio is taken between runs of the same round, which lie
next to each other; the median of those ratios is the result, its quartiles the spread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cajun_fast.management.bench.plan import Case, Goal, Side
from cajun_fast.management.bench.process import Alone, BenchError, Loaded, Pair

FIRST_COUNT = {"tell": 20_000, "ask": 200, "asks": 2_000, "part": 50_000, "idle_actors": 10_000}
LARGE = 64 << 20  # bytes: a first run of large messages sends no more
Figures = dict[str, Any]


class Ratio(NamedTuple):
    """What a goal asks about, answered."""

    goal: Goal
    median: float
    low: float  # quartiles over the rounds
    high: float

    @property
    def reached(self) -> bool | None:
        """None where nothing was asked for."""
        if self.goal.at_least is not None:
            return self.median >= self.goal.at_least
        if self.goal.at_most is not None:
            return self.median <= self.goal.at_most
        return None


class Result(NamedTuple):
    """All runs of one case, by the labels of its sides."""

    case: Case
    runs: dict[str, list[Figures]]
    missing: dict[str, str]  # sides that could not be measured, and why

    def median(self, label: str, figure: str) -> float | None:
        """Of one figure of one side; None where it has none."""
        found = [run[figure] for run in self.runs.get(label, ()) if figure in run]
        return statistics.median(found) if found else None

    def ratios(self) -> list[Ratio]:
        """What each goal comes to, as far as its sides were measured."""
        return [ratio for goal in self.case.goals if (ratio := self._ratio(goal)) is not None]

    def _ratio(self, goal: Goal) -> Ratio | None:
        first = self.runs.get(self.case.sides[0].label, [])
        if isinstance(goal.over, str):
            found = [
                mine[goal.figure] / other[goal.figure]
                for mine, other in zip(first, self.runs.get(goal.over, []), strict=False)
                if other.get(goal.figure)
            ]
        else:
            found = [mine[goal.figure] / goal.over for mine in first]
        if not found:
            return None
        low, middle, high = quartiles(found)
        return Ratio(goal, middle, low, high)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """First, second and third; of a single value, three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


class Bench:
    """Runs cases. ``seconds`` is about what one run takes, ``rounds`` how often each side has its turn."""

    def __init__(self, rounds: int, seconds: float, say: Callable[[str], None] = lambda _: None) -> None:
        self._rounds = rounds
        self._seconds = seconds
        self._say = say

    def run(self, case: Case) -> Result:
        """All rounds of one case. A side that cannot be measured is left out and named."""
        result = Result(case, {}, {})
        with tempfile.TemporaryDirectory(prefix="cajun-bench-", ignore_cleanup_errors=True) as folder:
            processes: dict[str, Any] = {}
            try:
                counts = self._open(case, Path(folder), processes, result)
                for turn in range(self._rounds):
                    for label in rotated(list(counts), turn):
                        self._run_once(case, label, processes[label], counts[label], result)
            finally:
                for process in {id(each): each for each in processes.values()}.values():
                    process.close()
        return result

    def _open(self, case: Case, folder: Path, processes: dict[str, Any], result: Result) -> dict[str, int]:
        counts: dict[str, int] = {}
        shared: Alone | None = None
        for side in case.sides:
            self._say(f"{case.workload} {case.name}: {side.label}")
            try:
                if side.kind == "local":
                    shared = processes[side.label] = shared or Alone(side.kind, side.options, folder)
                elif side.beside:
                    processes[side.label] = Loaded(side.kind, side.options, folder, side.beside)
                else:
                    processes[side.label] = Pair(side.kind, side.options, folder)
                processes[side.label].pin(case.cores)
                counts[side.label] = self._count(case, side, processes[side.label])
                result.runs[side.label] = []
            except BenchError as error:
                result.missing[side.label] = str(error)
        return counts

    def _count(self, case: Case, side: Side, process: Any) -> int:
        """How many messages take about the time of a run; what was not yet warm is, afterwards."""
        command = case.command | side.command
        if "count" in command:
            return int(command["count"])
        count: int = max(4, min(FIRST_COUNT[command["do"]], LARGE // command.get("size", 1)))
        for _ in range(2):
            began = time.perf_counter()
            process.run(**command | {"count": count})
            count = max(4, int(count * self._seconds / max(time.perf_counter() - began, 1e-3)))
        return count

    def _run_once(self, case: Case, label: str, process: Any, count: int, result: Result) -> None:
        side = next(side for side in case.sides if side.label == label)
        figures = process.run(**case.command | side.command | {"count": count})
        figures.pop("histogram", None)
        result.runs[label].append(figures | {"count": count})


def rotated(labels: list[str], turn: int) -> list[str]:
    """A different one begins each round."""
    start = turn % len(labels) if labels else 0
    return labels[start:] + labels[:start]
