"""`cajun-fast cert`: three commands, and two nodes that are processes talk in private."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.management.certificates import Folder, make_authority, make_node
from cajun_fast.management.cli import main
from cajun_fast.messaging.auth import KeyRing
from cajun_fast.messaging.tls import TlsFiles, papers_of, seconds_left


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(str(ended.value.code or 0))


def test_three_commands_make_what_a_node_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "certs")
    assert run("cert", "ca", "--out", out) == 0
    assert (
        run("cert", "node", "a", "--out", out, "--host", "db.example", "--host", "10.0.0.1", "--days", "30")
        == 0
    )
    assert run("cert", "key", "--out", out) == 0
    assert capsys.readouterr().err == ""
    folder = Folder(Path(out))
    papers = papers_of(TlsFiles(str(folder.cert("a")), str(folder.key("a")), str(folder.ca)), "a")
    assert seconds_left(papers.expires) == pytest.approx(30 * 86_400, abs=60)
    assert len(KeyRing.parse(folder.secret.read_text())) == 1
    for private in (folder.ca_key, folder.key("a"), folder.secret):
        assert stat.S_IMODE(os.stat(private).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    assert {path.name for path in folder.path.iterdir()} == {
        "ca.pem",
        "ca.key",
        "a.pem",
        "a.key",
        "cluster.key",
    }


def test_a_second_key_stands_in_front_and_keeps_the_first(tmp_path: Path) -> None:
    out = str(tmp_path)
    run("cert", "key", "--out", out)
    first = KeyRing.parse(Folder(tmp_path).secret.read_text())
    run("cert", "key", "--out", out)
    both = KeyRing.parse(Folder(tmp_path).secret.read_text())
    assert (len(both), both.holds(first.first), both.first == first.first) == (2, True, False)


def test_what_cannot_be_is_said_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "certs")
    assert run("cert", "node", "a", "--out", out) == 2
    assert "cajun-fast cert ca" in capsys.readouterr().err
    assert run("cert", "ca", "--out", out) == 0
    assert run("cert", "ca", "--out", out) == 2
    assert "exists" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run("cert", "ca", "--out", str(tmp_path / "file" / "x")) == 2
    assert run("cert", "node", "--out", out) == 2
    with pytest.raises(ConfigError, match="taken for others"):
        make_node(Folder(Path(out)), "ca")


def test_a_node_id_with_signs_in_it_has_files_and_a_name(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "c")
    make_authority(folder)
    make_node(folder, "zoë:1#x")
    papers_of(TlsFiles(str(folder.cert("zoë:1#x")), str(folder.key("zoë:1#x")), str(folder.ca)), "zoë:1#x")
    with pytest.raises(ConfigError, match=r"cajun:node/zo%C3%AB%3A1%23x"):
        papers_of(TlsFiles(str(folder.cert("zoë:1#x")), str(folder.key("zoë:1#x")), str(folder.ca)), "zoe")
