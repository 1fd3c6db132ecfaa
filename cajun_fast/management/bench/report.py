"""What was measured, for people and for programs.

Laws: ratios first, absolute figures second; a goal that was not reached is said as plainly as one that was.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from cajun_fast.management.bench.rounds import Ratio, Result

SCHEMA = 1
PACKAGES = ("cajun-fast", "uvloop", "msgpack", "msgspec", "pyzmq")
UNITS = {
    "rate": "/s",
    "send_us": "µs sender CPU",
    "receive_us": "µs receiver CPU",
    "p50_us": "µs p50",
    "p99_us": "µs p99",
    "p99.9_us": "µs p99.9",
    "ns": "ns",
    "bytes": "bytes",
    "beside": "/s beside it",
    "lost": "lost",
    "send_mib": "MiB sender",
    "receive_mib": "MiB receiver",
}


def ratio_lines(results: Sequence[Result]) -> list[str]:
    """One line a goal."""
    rows = [
        (f"{result.case.workload} {result.case.name}", *ratio_cells(result, ratio))
        for result in results
        for ratio in result.ratios()
    ]
    return table([("workload", "what", "ratio", "quartiles", "goal", ""), *rows])


def ratio_cells(result: Result, ratio: Ratio) -> tuple[str, ...]:
    goal = ratio.goal
    over = goal.over if isinstance(goal.over, str) else f"{goal.over:g}"
    what = f"{result.case.sides[0].label} / {over}, {UNITS[goal.figure].lstrip('/')}".replace(
        ", s", ", msgs/s"
    )
    wanted = (
        f"≥ {goal.at_least:g}"
        if goal.at_least is not None
        else f"≤ {goal.at_most:g}"
        if goal.at_most is not None
        else ""
    )
    verdict = {None: "", True: "reached", False: "NOT REACHED"}[ratio.reached]
    return what, f"{ratio.median:.3g}", f"{ratio.low:.3g} – {ratio.high:.3g}", wanted, verdict


def figure_lines(results: Sequence[Result]) -> list[str]:
    """One line a side: medians of all its figures."""
    rows = [("workload", "side", "medians")]
    for result in results:
        name = f"{result.case.workload} {result.case.name}"
        for label in result.runs:
            cells = (cell(figure, result.median(label, figure)) for figure in UNITS)
            rows.append((name, label, ", ".join(each for each in cells if each)))
        rows += [
            (name, label, f"not measured: {why.splitlines()[-1]}") for label, why in result.missing.items()
        ]
    return table(rows)


def cell(figure: str, value: float | None) -> str:
    if value is None or (figure == "lost" and not value):
        return ""
    return (
        f"{value:,.0f}{UNITS[figure]}" if value >= 1000 else f"{value:.3g} {UNITS[figure]}".replace(" /", "/")
    )


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(each.ljust(width) for each, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def as_json(results: Sequence[Result], curves: Sequence[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Everything, with each single run."""
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": rounds,
        "cases": [case_json(result) for result in results],
        "curves": list(curves),
    }


def case_json(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "workload": case.workload,
        "name": case.name,
        "command": case.command,
        "cores": case.cores,
        "sides": [
            {
                "label": side.label,
                "kind": side.kind,
                "options": side.options,
                "runs": result.runs.get(side.label, []),
            }
            for side in case.sides
        ],
        "missing": result.missing,
        "ratios": [ratio_json(result, ratio) for ratio in result.ratios()],
    }


def ratio_json(result: Result, ratio: Ratio) -> dict[str, Any]:
    return {
        "of": result.case.sides[0].label,
        "over": ratio.goal.over,
        "figure": ratio.goal.figure,
        "median": ratio.median,
        "quartiles": [ratio.low, ratio.high],
        "at_least": ratio.goal.at_least,
        "at_most": ratio.goal.at_most,
        "reached": ratio.reached,
    }


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := version_of(name))},
    }


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
