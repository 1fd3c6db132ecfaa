"""The demo as its users run it: real processes, a real SIGKILL, and an end without orphans."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command, Start, eventually, processes_with

pytestmark = pytest.mark.processes

SHORT = ("demo", "--seconds", "3", "--actors", "6", "--seed", "1")
MARK = "CAJUN_DEMO_TEST_MARK"


def verdict_of(command: Command, expected: int) -> dict[str, Any]:
    status, out, err = command.end()
    assert status == expected, out + err
    verdict: dict[str, Any] = json.loads(out)
    return verdict


def nothing_is_left(mark: str, folder: Path) -> bool:
    return eventually(lambda: not processes_with(f"{MARK}={mark}")) and not list(folder.glob("cajun-demo-*"))


def test_a_node_is_killed_and_the_books_balance(start: Start, tmp_path: Path) -> None:
    command = start(*SHORT, **{MARK: str(tmp_path), "TMPDIR": str(tmp_path)})
    status, out, err = command.end()
    assert status == 0, out + err
    assert err == ""
    assert "is killed with SIGKILL" in out
    assert "accounts are back on other nodes after" in out
    assert "The books balance" in out
    assert nothing_is_left(str(tmp_path), tmp_path)


@pytest.mark.parametrize("guarantee", ["at-least-once", "at-most-once"])
def test_the_other_guarantees_balance_too(start: Start, guarantee: str) -> None:
    verdict = verdict_of(start(*SHORT, "--json", "--guarantee", guarantee), 0)
    assert verdict["balanced"]
    assert verdict["handled"] > 10_000
    assert verdict["sent"] == sum(verdict[fate] for fate in ("delivered", "failed", "unknown", "open"))


def test_without_a_killing_all_is_delivered(start: Start) -> None:
    verdict = verdict_of(
        start("demo", "--seconds", "1", "--actors", "4", "--nodes", "2", "--no-kill", "--json"), 0
    )
    assert verdict["sent"] == verdict["delivered"] == verdict["handled"] > 0


def test_a_planted_fault_is_found(start: Start) -> None:
    arguments = ("demo", "--seconds", "1", "--actors", "4", "--nodes", "2", "--no-kill", "--json")
    verdict = verdict_of(start(*arguments, CAJUN_DEMO_PLANT="double"), 1)
    assert not verdict["balanced"]
    assert verdict["sins"] == {"doubled": verdict["streams"]}


def test_interrupted_it_ends_everything_and_says_so(start: Start, tmp_path: Path) -> None:
    command = start("demo", "--seconds", "30", **{MARK: str(tmp_path), "TMPDIR": str(tmp_path)})
    command.until("trading")
    command.signal(signal.SIGINT)
    status, _, err = command.end()
    assert status == 130
    assert err == "demo: interrupted; all nodes are stopped\n"
    assert nothing_is_left(str(tmp_path), tmp_path)


def test_look_told_to_stop_leaves_nothing(start: Start, tmp_path: Path) -> None:
    command = start("look", "--nodes", "1", **{MARK: str(tmp_path), "TMPDIR": str(tmp_path)})
    command.until("dashboard")
    assert list(tmp_path.glob("cajun-look-*"))
    command.signal(signal.SIGTERM)
    status, _, err = command.end()
    assert status == 143, err
    assert nothing_is_left(str(tmp_path), tmp_path)
    assert not list(tmp_path.glob("cajun-look-*"))


def test_killed_itself_it_leaves_no_process_behind(start: Start, tmp_path: Path) -> None:
    command = start("demo", "--seconds", "30", **{MARK: str(tmp_path), "TMPDIR": str(tmp_path)})
    command.until("trading")
    assert len(processes_with(f"{MARK}={tmp_path}")) == 4
    command.signal(signal.SIGKILL)
    command.end()
    assert eventually(lambda: not processes_with(f"{MARK}={tmp_path}"))


def test_an_unreachable_store_ends_as_one_line(start: Start, tmp_path: Path) -> None:
    command = start(
        "demo", "--store", "sqlite:////none/c.db", **{MARK: str(tmp_path), "TMPDIR": str(tmp_path)}
    )
    status, _, err = command.end()
    assert status == 2
    assert err.startswith("cajun-fast demo: node '")
    assert "did not start: " in err
    assert "/none" in err
    assert err.count("\n") == 1
    assert nothing_is_left(str(tmp_path), tmp_path)
