"""What the command says without doing anything: help, version, words that do not exist; and how it logs."""

from __future__ import annotations

import json
import logging
import re
from importlib import metadata

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.management.cli import main
from cajun_fast.management.demo.show import DemoOptions
from cajun_fast.management.logs import HumanFormatter, JsonFormatter


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(str(ended.value.code or 0))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"cajun-fast {metadata.version('cajun-fast')}\n"


@pytest.mark.parametrize("words", [["--help"], ["node", "--help"], ["demo", "-h"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 0
    captured = capsys.readouterr()
    assert "Usage: cajun-fast" in captured.out
    assert captured.err == ""


def test_every_option_of_a_node_has_a_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    run("node", "--help")
    text = capsys.readouterr().out
    for option in ("--id", "--store", "--port", "--host", "--import", "--config", "--set", "--log-json"):
        assert re.search(rf"{option} .*[A-Za-z]{{3,}}", text), option


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demoo"], "cajun-fast: No such command 'demoo'. Did you mean 'demo'?; cajun-fast --help"),
        (["demo", "--nodes", "1"], "cajun-fast demo: Invalid value for '--nodes'"),
        (["demo", "--nodes", "x"], "cajun-fast demo: Invalid value for '--nodes'"),
        (["demo", "--store", "memory"], "cajun-fast demo: --store 'memory' lives inside one process"),
        (["demo", "--store", "disk"], "cajun-fast demo: --store 'disk' is no store: give sqlite"),
        (["demo", "--guarantee", "twice"], "cajun-fast demo: --guarantee 'twice' is unknown: give one of"),
        (["demo", "--nodes", "5", "--actors", "3"], "cajun-fast demo: --actors 3 leaves nodes without"),
    ],
)
def test_wrong_words_end_as_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(said)
    assert captured.err.count("\n") == 1


def test_a_seed_is_drawn_where_none_is_given() -> None:
    rest = {"nodes": 3, "actors": 6, "seconds": 1.0, "kill": True, "as_json": False, "verbose": False}
    options = DemoOptions.checked(guarantee="at-most-once", seed=None, store="sqlite", **rest)
    assert 0 <= options.seed < 10_000
    assert DemoOptions.checked(guarantee="at-most-once", seed=7, store="etcd", **rest).seed == 7
    with pytest.raises(ConfigError, match="memory://x"):
        DemoOptions.checked(guarantee="at-most-once", seed=7, store="memory://x", **rest)


def record(**extra: object) -> logging.LogRecord:
    made = {"name": "cajun_fast.x", "levelname": "WARNING", "msg": "%s is late", "args": ("b",), **extra}
    return logging.makeLogRecord(made)


def test_a_line_for_people_has_time_level_room_and_text() -> None:
    line = HumanFormatter().format(record())
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d\d\d warning cajun_fast\.x: b is late", line)


def test_a_line_for_machines_has_every_field_of_its_record() -> None:
    line = json.loads(JsonFormatter(node="a").format(record(actor="account-1")))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "cajun_fast.x",
        "message": "b is late",
        "node": "a",
        "actor": "account-1",
    }
