"""Commands as real processes: started in a folder of their own, gone at the end of the test whatever happens."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

READY = 20.0
PATIENCE = 20.0


class Command:
    """A running ``cajun-fast``."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cajun_fast.management.cli", *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def line(self, patience: float = READY) -> str:
        """The next line on standard output."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], patience)
        assert readable, "nothing came on standard output"
        return self.process.stdout.readline()

    def until(self, text: str) -> None:
        """Read standard output up to a line with ``text``."""
        while text not in (line := self.line()):
            assert line, self.end()

    def ready(self) -> dict[str, Any]:
        """What it announces once it can serve."""
        line = self.line()
        assert line, self.end()
        event: dict[str, Any] = json.loads(line)
        assert event["event"] == "ready"
        return event

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Status, and the rest of its standard output and error."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def abandon(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        self.process.wait()


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``cajun-fast`` with the given words; keywords are environment variables."""
    commands: list[Command] = []

    def begin(*arguments: str, **environment: str) -> Command:
        commands.append(Command(arguments, tmp_path, environment))
        return commands[-1]

    yield begin
    for command in commands:
        command.abandon()


@pytest.fixture
def start_node(start: Start) -> Callable[..., Command]:
    """Starts a node on a store that the nodes of one test share."""

    def begin(name: str, *more: str, **environment: str) -> Command:
        return start(
            "node", "--id", name, "--store", "sqlite:///cluster.db", "--port", "0", *more, **environment
        )

    return begin


def processes_with(text: str) -> list[str]:
    """Command lines of living processes that contain ``text`` in their environment or words."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = (folder / "environ").read_bytes().decode(errors="replace")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (text in words or text in inside):
            found.append(f"{folder.name} {words}")
    return found


def eventually(check: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Whether ``check`` comes true in time: for what another process does at its own pace."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.02)
    return check()
