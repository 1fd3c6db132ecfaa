"""A node's Unix socket lies in a folder that the next node removes once its owner is dead, and never before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.messaging.socket_folder import make_folder, sweep

OWNER = """
import socket, sys
from cajun_fast.messaging.socket_folder import make_folder
folder = make_folder()
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(folder.path(1))
    listener.listen()
    print(folder.path(1), flush=True)
    sys.stdin.read()
"""

CROWD = """
import os
from cajun_fast.messaging.socket_folder import make_folder
for _ in range(200):
    folder = make_folder()
    open(folder.path(1), "x").close()
    make_folder().close()
    assert os.path.exists(folder.path(1)), "a living one's was removed"
    folder.close()
"""


@pytest.fixture
def temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A temporary folder of this test's own, short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="cj") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield folder


@contextmanager
def owner() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with a folder and a socket in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_what_a_killed_node_left_goes_with_the_next_start_and_a_living_ones_stays(temp: str) -> None:
    with owner() as (_, lives), owner() as (victim, left):
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        assert left.exists(), "nobody was there to remove it"
        mine = make_folder()
        assert mine is not None
        assert not left.parent.exists()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(lives))
        mine.close()
        assert os.listdir(lives.parents[1]) == [lives.parent.name]


def test_many_that_start_and_sweep_at_once_never_take_a_living_ones(temp: str) -> None:
    with ExitStack() as stack:
        crowd = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", CROWD], stderr=subprocess.PIPE, text=True))
            for _ in range(3)
        ]  # fmt: skip
        for process in crowd:
            assert process.communicate(timeout=120)[1] == ""
            assert process.returncode == 0
    assert os.listdir(os.path.join(temp, f"cajun-{os.geteuid()}")) == []


def test_who_sweeps_does_not_take_its_own(temp: str) -> None:
    mine = make_folder()
    assert mine is not None
    shared = os.path.dirname(os.path.dirname(mine.path(1)))
    sweep(shared)
    assert len(os.listdir(shared)) == 1
    mine.close()
    assert os.listdir(shared) == []


@pytest.mark.parametrize("what", ["open to others", "a link", "a file"])
def test_a_shared_folder_that_others_may_have_made_is_not_used(
    temp: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Path(temp, f"cajun-{os.geteuid()}")
    if what == "a link":
        Path(temp, "theirs").mkdir(mode=0o700)
        shared.symlink_to("theirs")
    elif what == "a file":
        shared.touch()
    else:
        shared.mkdir()
        shared.chmod(0o777)
    assert make_folder() is None
    assert "talk TCP" in caplog.text


async def test_a_node_that_stops_leaves_nothing(temp: str, make_node: Any) -> None:
    node = await make_node("a", unix=True)
    shared = os.path.join(temp, f"cajun-{os.geteuid()}")
    assert len(os.listdir(shared)) == 1
    await node.stop()
    assert os.listdir(shared) == []


async def test_without_a_folder_nodes_talk_tcp(temp: str, make_node: Any) -> None:
    os.symlink("nowhere", os.path.join(temp, f"cajun-{os.geteuid()}"))
    a, b = await make_node("a", unix=True), await make_node("b", unix=True)
    assert b.address.path is None
    a.knows(b)
    log = await b.record("x")
    assert await a.pid("x", b).ask("hello") == 1
    assert log == ["hello"]
