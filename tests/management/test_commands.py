"""The operator's commands against two real nodes: what they print, for people and for programs, and their status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.errors import (
    AskTimeoutError,
    ConfigError,
    MetadataStoreUnavailableError,
    NodeUnavailableError,
)
from cajun_fast.management.commands.joining import status_of
from cajun_fast.management.commands.showing import amount, seconds
from tests.management.conftest import PATIENCE, Command

pytestmark = pytest.mark.processes

STORE = ("--store", "sqlite:///cluster.db")
Run = Callable[..., subprocess.CompletedProcess[str]]

ACTORS = """
import cajun_fast as cf

@cf.actor("echo")
def echo(message, context):
    return message
"""

CREATE = """
import cajun_fast as cf

async def main():
    config = cf.ClusterConfig.Builder("maker", "sqlite:///cluster.db").with_messaging_port(0).as_client().build()
    async with cf.ClusterFactory.create_cluster_system(config) as system:
        for n in range(6):
            pid = await system.create_actor_on_node("echo", f"echo-{n}", "ab"[n % 2])
            await pid.ask(n)

cf.run(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where two nodes run, with six actors."""
    place = tmp_path_factory.mktemp("commands")
    (place / "echoes.py").write_text(ACTORS)
    nodes = [
        Command(("node", "--id", name, *STORE, "--port", "0", "--import", "echoes"), place, {})
        for name in "ab"
    ]
    try:
        for node in nodes:
            node.ready()
        subprocess.run([sys.executable, "-c", CREATE], cwd=place, check=True, timeout=PATIENCE)
        yield place
    finally:
        for node in nodes:
            node.abandon()


@pytest.fixture
def run(folder: Path) -> Run:
    def run(*words: str, store: tuple[str, ...] = STORE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cajun_fast.management.cli", *words, *store],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
        )

    return run


def test_nodes_for_people_and_for_programs(run: Run) -> None:
    shown = run("nodes")
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["node", "a", "b"]
    assert shown.stdout.count("leader") == 1
    rows = json.loads(run("nodes", "--json").stdout)["nodes"]
    assert [(row["node"], row["is_client"]) for row in rows] == [("a", False), ("b", False)]


def test_actors_in_pages_and_one_of_them(run: Run) -> None:
    page = json.loads(run("actors", "--limit", "4", "--json").stdout)
    assert [row["actor_id"] for row in page["actors"]] == ["echo-0", "echo-1", "echo-2", "echo-3"]
    rest = run("actors", "--after", page["after"])
    assert [line.split()[0] for line in rest.stdout.splitlines()] == ["actor", "echo-4", "echo-5"]
    on_b = json.loads(run("actors", "--node", "b", "--json").stdout)["actors"]
    assert {row["node"] for row in on_b} == {"b"}
    one = json.loads(run("actor", "echo-1", "--json").stdout)
    assert (one["node"], one["here"]["handled"]) == ("b", 1)


def test_what_does_not_exist_is_status_3_and_one_line(run: Run) -> None:
    missing = run("actor", "nobody")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert missing.stderr.count("\n") == 1
    assert "'nobody'" in missing.stderr
    assert run("dead-letters", "--node", "zz").returncode == 3
    nowhere = run("actors", "--node", "zz")
    assert (nowhere.returncode, nowhere.stdout) == (3, "")
    assert nowhere.stderr.endswith("no node 'zz' lives in this cluster (living: a, b)\n")


def test_an_empty_cluster_says_where_it_was_looked_for(run: Run) -> None:
    empty = run("nodes", "--cluster", "other")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "no node of cluster 'other' lives on sqlite:///cluster.db" in empty.stderr
    assert json.loads(run("nodes", "--json", "--cluster", "other").stdout) == {"nodes": []}


def test_a_node_is_cordoned_and_taken_back_in_words_and_in_json(run: Run) -> None:
    assert json.loads(run("cordon", "b", "--json").stdout) == {"node": "b", "cordoned": True, "changed": True}
    assert run("cordon", "b").stdout == "b: was cordoned already\n"
    assert run("uncordon", "b").stdout == "b: takes actors again\n"


def test_what_stands_there_already_is_not_moved(run: Run) -> None:
    moved = run("migrate", "echo-1", "b")
    assert (moved.returncode, moved.stdout) == (0, "echo-1: lives on b already\n")
    assert run("drain", "b", "--timeout", "-1").returncode == 2


def test_top_draws_and_prints_lines_for_programs(run: Run) -> None:
    (line,) = run("top", "--looks", "1", "--interval", "0.3", "--json").stdout.splitlines()
    seen = json.loads(line)
    assert {row["node"] for row in seen["nodes"]} == {"a", "b"}
    assert seen["seconds"] > 0
    drawn = run("top", "--looks", "1", "--interval", "0.3")
    assert drawn.returncode == 0, drawn.stderr
    assert "2 nodes" in drawn.stdout
    assert "a → b" in drawn.stdout


def test_doctor_finds_nothing_here_and_a_store_that_is_not_there(run: Run) -> None:
    well = run("doctor", "--json")
    assert well.returncode == 0, well.stdout
    subjects = {each["subject"]: each["level"] for each in json.loads(well.stdout)["findings"]}
    assert subjects["store"] == subjects["leader"] == subjects["node a"] == subjects["clocks"] == "ok"
    ill = run("doctor", "--json", store=("--store", "sqlite:////none/cluster.db"))
    assert ill.returncode == 1
    (bad,) = (each for each in json.loads(ill.stdout)["findings"] if each["level"] == "bad")
    assert bad["subject"] == "store"
    assert bad["remedy"]


def test_doctor_reads_a_nodes_file(run: Run, folder: Path) -> None:
    (folder / "bad.toml").write_text(
        'system_id = "c"\nstore = "sqlite:///cluster.db"\n[messaging]\nport = 1\nhost = "127.0.0.1"\n'
        '[http]\nlisten = "0.0.0.0:80"\n'
    )
    found = run("doctor", "--json", "--config", "bad.toml", store=())
    bad = {each["subject"]: each for each in json.loads(found.stdout)["findings"] if each["level"] == "bad"}
    assert "http.token_file" in bad["http"]["text"]


def test_an_election_that_is_forced_is_told(run: Run) -> None:
    answer = run("elect", "--json")
    outcome = json.loads(answer.stdout)
    assert (answer.returncode == 0) == outcome["resigned"]
    assert outcome["reason"]


def test_each_kind_of_error_has_its_status() -> None:
    assert status_of(NodeUnavailableError("x")) == 3
    assert status_of(MetadataStoreUnavailableError("x")) == status_of(AskTimeoutError("x")) == 4
    assert status_of(ConfigError("x")) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "–"),
        (4e-6, "4 µs"),
        (0.0123, "12.3 ms"),
        (3.4, "3.4 s"),
        (600, "10 min"),
        (36_000, "10 h"),
        (1e6, "11.6 d"),
    ],
)
def test_times_are_read_at_a_glance(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (2.5, "2.5"), (950, "950"), (12_300, "12.3k"), (3.4e6, "3.4M")]
)
def test_amounts_too(value: Any, text: str) -> None:
    assert amount(value) == text
