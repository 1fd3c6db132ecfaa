"""``cajun-fast bench``: every workload runs tiny, its ratios and its JSON come out. Nothing here asks how fast."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cajun_fast.management.bench import bench_command, plan
from cajun_fast.management.bench.curve import point
from cajun_fast.management.bench.plan import Case, Goal, Side, alone, chosen
from cajun_fast.management.bench.process import BenchError, Pair, Worker
from cajun_fast.management.bench.report import as_json, figure_lines, ratio_lines
from cajun_fast.management.bench.rounds import Bench, Result, quartiles, rotated

TRANSPORTS = ("unix", "tcp")
COMMANDS = [{"do": "tell", "size": 64}, {"do": "tell", "size": 100_000}, {"do": "asks", "size": 64}]


def tiny(case: Case, count: int = 20) -> Result:
    """One round of a few messages."""
    return Bench(1, 0.001).run(dataclasses.replace(case, command=case.command | {"count": count}, cores=None))


@pytest.mark.processes
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("command", COMMANDS, ids=["tell", "tell of 100 kB", "asks"])
def test_engine_and_floor_run_beside_each_other(transport: str, command: dict[str, Any]) -> None:
    sides = (
        Side("engine", "engine", {"transport": transport}),
        Side("floor", "frames", {"transport": transport}),
    )
    result = tiny(Case("W", "tiny", command, sides, (Goal("floor", "rate", at_least=0.0),)))
    assert not result.missing
    assert [ratio.reached for ratio in result.ratios()] == [True]
    assert all(run.get("lost", 0) == 0 for runs in result.runs.values() for run in runs)


@pytest.mark.processes
@pytest.mark.parametrize(
    "options",
    [
        {"links": 3},
        {"actors": 130},
        {"handler": "async"},
        {"guarantee": "AT_MOST_ONCE"},
        {"guarantee": "AT_LEAST_ONCE"},
    ],
    ids=str,
)
def test_each_way_of_using_the_engine_loses_nothing(options: dict[str, Any]) -> None:
    side = Side("engine", "engine", {"transport": "unix"} | options)
    result = tiny(Case("W", "tiny", {"do": "tell", "size": 16}, (side,)), count=300)
    assert [run["lost"] for run in result.runs["engine"]] == [0]


@pytest.mark.processes
def test_the_floors_run() -> None:
    kinds = [
        Side("acked", "frames", {"transport": "unix", "acked": True}),
        Side("msgspec", "frames", {"transport": "unix", "codec": "msgspec"}),
        Side("bytes", "pump", {"transport": "unix"}),
    ]
    result = tiny(Case("W", "tiny", {"do": "tell", "size": 64}, tuple(kinds)))
    assert sorted(result.runs) == ["acked", "bytes", "msgspec"]
    asked = tiny(Case("W", "tiny", {"do": "ask", "size": 64}, (Side("echo", "echo", {"transport": "unix"}),)))
    assert asked.runs["echo"][0]["p50_us"] > 0


@pytest.mark.processes
def test_what_happens_within_one_process_is_measured_too() -> None:
    sides = tuple(alone(who, who=who) for who in ("engine", "deque", "queue", "engine-async"))
    assert len(tiny(Case("W5", "tiny", {"do": "tell"}, sides)).runs) == 4
    parts = tuple(alone(who, who=who) for who in ("cache", "breaker", "dict"))
    assert len(tiny(Case("parts", "tiny", {"do": "part"}, parts)).runs) == 3
    idle = tiny(Case("memory", "tiny", {"do": "idle_actors"}, (alone("engine"),)), count=50)
    assert "bytes" in idle.runs["engine"][0]


@pytest.mark.processes
def test_paced_asks_count_from_when_they_were_due(tmp_path: Path) -> None:
    pair = Pair("frames", {"transport": "unix", "joined": 1}, tmp_path)
    try:
        found = point(pair, rate=2000.0, rounds=2, seconds=0.02)
    finally:
        pair.close()
    assert found["answers"] == 80
    assert found["failed"] == 0
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["p99.9_us"]


@pytest.mark.processes
def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    worker = Worker("receive", "frames", {"transport": "unix", "codec": "msgpack"}, tmp_path / "nowhere")
    try:
        with pytest.raises(BenchError, match="frames receive ended; it wrote"):
            worker.hear()
    finally:
        worker.close()


def runs(*rates: float) -> list[dict[str, Any]]:
    return [{"rate": rate} for rate in rates]


def planted() -> Result:
    goals = (Goal("floor", "rate", at_least=2.5), Goal("floor", "rate", at_most=1.0), Goal("gone", "rate"))
    case = Case("W1", "planted", {"do": "tell"}, (Side("engine", "engine"), Side("floor", "frames")), goals)
    return Result(case, {"engine": runs(30, 60, 10), "floor": runs(10, 10, 5)}, {"gone": "no such thing"})


def test_a_ratio_is_the_median_of_neighbours_and_says_whether_it_is_enough() -> None:
    enough, too_much = planted().ratios()
    assert (enough.low, enough.median, enough.high) == (2.5, 3.0, 4.5)
    assert enough.reached is True
    assert too_much.reached is False


def test_the_report_shows_ratios_first_and_names_what_is_missing() -> None:
    assert any("NOT REACHED" in line for line in ratio_lines([planted()]))
    assert any("not measured: no such thing" in line for line in figure_lines([planted()]))


def test_the_json_has_its_shape() -> None:
    found = json.loads(json.dumps(as_json([planted()], [], rounds=3)))
    assert set(found) == {"schema", "date", "machine", "rounds", "cases", "curves"}
    assert found["schema"] == 1
    (case,) = found["cases"]
    assert set(case) == {"workload", "name", "command", "cores", "sides", "missing", "ratios"}
    assert [len(side["runs"]) for side in case["sides"]] == [3, 3]
    assert case["ratios"][0] == {
        "of": "engine",
        "over": "floor",
        "figure": "rate",
        "median": 3.0,
        "quartiles": [2.5, 4.5],
        "at_least": 2.5,
        "at_most": None,
        "reached": True,
    }


def test_the_plan_covers_what_was_asked_for() -> None:
    every = chosen([], quick=False)
    assert {case.workload for case in every} >= {"W1", "W2", "W3", "W4", "W5", "links", "actors", "payload"}
    assert {case.command.get("size") for case in every} >= {16, 64, 1024, 65536, 1048576}
    assert {side.options.get("transport") for case in every for side in case.sides} >= {"unix", "tcp"}
    assert {side.options.get("actors") for case in every for side in case.sides} >= {100_000}
    assert {case.workload for case in chosen([], quick=True)} >= {"W1", "W2", "W3", "W4", "W5"}
    for case in every:
        labels = [side.label for side in case.sides]
        assert len(set(labels)) == len(labels), case.name
        assert all(goal.over in labels for goal in case.goals if isinstance(goal.over, str)), case.name


def test_every_side_begins_some_round() -> None:
    assert [rotated(["a", "b", "c"], turn)[0] for turn in range(4)] == ["a", "b", "c", "a"]
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_the_command_refuses_a_workload_that_does_not_exist() -> None:
    app = typer.Typer()
    app.command()(bench_command)
    found = CliRunner().invoke(app, ["w9"])
    assert found.exit_code == 2
    assert "w9" in found.output
    assert plan.workloads()[0] == "W1"
