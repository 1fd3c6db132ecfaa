"""The command ``cajun-fast bench``: options, progress, tables.

Laws: progress goes to standard error, results to standard output or into files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cajun_fast.management.bench.curve import curve
from cajun_fast.management.bench.plan import chosen, workloads
from cajun_fast.management.bench.plot import plot
from cajun_fast.management.bench.report import as_json, figure_lines, ratio_lines
from cajun_fast.management.bench.rounds import Bench, Result

QUICK = (5, 0.25)  # rounds, seconds a run
FULL = (11, 0.5)


def bench_command(
    workload: Annotated[
        list[str] | None,
        typer.Argument(help="W1 … W5, links, actors, handlers, TLS, payload, parts, memory."),
    ] = None,
    quick: Annotated[bool, typer.Option(help="A few minutes: the main cases only.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Turns of each side.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.01, help="Of one run.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything there.")] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Latency against load, as .svg or .png (extra bench).")
    ] = None,
) -> None:
    """Measure this machine: each workload beside the plain way of doing the same, in turns."""
    names = [each.lower() for each in workload or []]
    known = [each.lower() for each in workloads()]
    if unknown := [each for each in names if each not in known]:
        raise typer.BadParameter(f"no workload {unknown[0]!r}; there are: {', '.join(workloads())}")
    default_rounds, default_seconds = QUICK if quick else FULL
    rounds, seconds = rounds or default_rounds, seconds or default_seconds
    results = run_all(names, quick, rounds, seconds)
    curves = [curve(min(rounds, 3), seconds)] if plot_file is not None else []
    tell_all(results)
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(results, curves, rounds), indent=1), encoding="utf-8")
    if plot_file is not None:
        plot(curves, plot_file)


def run_all(names: list[str], quick: bool, rounds: int, seconds: float) -> list[Result]:
    """Case after case."""
    bench = Bench(rounds, seconds, say=progress)
    try:
        return [bench.run(case) for case in chosen(names, quick)]
    finally:
        progress("")


def progress(text: str) -> None:
    """On the terminal's last line; nothing where it is a file."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{text[:100]}", err=True, nl=False)


def tell_all(results: list[Result]) -> None:
    """Ratios, then figures."""
    for lines in (ratio_lines(results), [""], figure_lines(results)):
        for line in lines:
            typer.echo(line)


def main(arguments: list[str] | None = None) -> Any:
    """For ``python -m cajun_fast.management.bench``."""
    app = typer.Typer(add_completion=False)
    app.command()(bench_command)
    return app(arguments)
