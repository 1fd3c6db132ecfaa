"""What doctor says of an etcd server's version, and of a node's settings that come true only when it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

import cajun_fast as cf
from cajun_fast.management.diagnosis import (
    Findings,
    check_imports,
    check_node,
    check_persistence,
    check_server,
)


def node(**settings: object) -> cf.ClusterConfig:
    return cf.ClusterConfig.load(None, system_id="n", store=("memory://doctor",), **settings)


@pytest.mark.parametrize(
    ("version", "levels"),
    [
        (None, []),
        ("3.4.23", ["hint"]),
        ("3.5.0", ["bad"]),
        ("3.5.5", ["bad"]),
        ("3.5.6", ["ok"]),
        ("3.6.0-rc.1", ["ok"]),
        ("3.5.21", ["ok"]),
    ],
)
def test_an_etcd_that_can_lose_data_is_bad_and_an_old_one_a_hint(
    version: str | None, levels: list[str]
) -> None:
    findings = Findings()
    check_server(version, findings)
    assert [each["level"] for each in findings.plain()] == levels
    assert all(each["level"] == "ok" or "3.5.6" in each["remedy"] for each in findings.plain())


def test_a_module_that_is_not_there_is_found_before_the_node_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "there_it_is.py").write_text("raise SystemExit('a look must not run it')")
    findings = Findings()
    check_imports(node(imports=("there_it_is", "nowhere_at_all", "nowhere_at_all.actors")), findings)
    assert [each["text"].split("'")[1] for each in findings.plain()] == [
        "nowhere_at_all",
        "nowhere_at_all.actors",
    ]


async def test_a_persistence_that_does_not_answer_is_bad(tmp_path: Path) -> None:
    for url, level in (
        (f"sqlite:///{tmp_path}/state.db", "ok"),
        (f"sqlite:///{tmp_path}/no/such/folder/state.db", "bad"),
        ("postgresql://someone:secret@127.0.0.1:1/state", "bad"),
        ("pigeon://loft", "bad"),
    ):
        findings = Findings()
        await check_persistence(node(persistence=url), findings)
        (found,) = findings.plain()
        assert (found["subject"], found["level"]) == ("persistence", level)
        assert "secret" not in found["text"]


def test_a_node_that_fails_at_its_report_is_not_called_silent() -> None:
    findings = Findings()
    check_node("b", cf.RemoteActorError("cajun:inspect@b", "KeyError", "'x'", node="b"), findings)
    (found,) = findings.plain()
    assert "it cannot say how it is: KeyError" in found["text"]
    assert "firewall" not in found["remedy"]


def test_a_node_whose_loop_stands_is_called_stuck() -> None:
    findings = Findings()
    check_node("b", cf.NodeUnavailableError("no answer", "b"), findings, is_stuck=True)
    (found,) = findings.plain()
    assert "its event loop stands" in found["text"]
