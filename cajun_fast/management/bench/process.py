"""A contestant's processes, seen from outside.

Laws: a process that does not answer within its time, or dies, is an error with what it wrote; all are gone
after ``close``.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds
LOAD_TRIAL = 200_000  # messages, to see what a neighbour can do


class BenchError(Exception):
    """A contestant could not be measured; says why."""


class Worker:
    """One process, spoken to in lines."""

    def __init__(self, role: str, kind: str, options: dict[str, Any], folder: Path) -> None:
        self._name = f"{kind} {role}"
        # A file, not a pipe that nobody empties; buffering would hide lines from the selector.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cajun_fast.management.bench.worker", role, kind, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            env=os.environ | {"CAJUN_BENCH_FOLDER": str(folder)},
        )
        self.pid = self._process.pid

    def say(self, line: Any) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    def hear(self) -> Any:
        """The next line. Raises BenchError for one that says so, for the end, and after PATIENCE."""
        assert self._process.stdout is not None
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(PATIENCE):
                    raise BenchError(f"{self._name} was silent for {PATIENCE:g} s{self._words()}")
                more = os.read(self._process.stdout.fileno(), 1 << 16)
                if not more:
                    raise BenchError(f"{self._name} ended{self._words()}")
                found += more
        answer = json.loads(found)
        if "error" in answer:
            raise BenchError(f"{self._name}: {answer['error']}{self._words()}")
        return answer

    def _words(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace").strip()
        return f"; it wrote:\n{text[-2000:]}" if text else ""

    def pin(self, cores: list[int] | None) -> None:
        """Let it run on these cores only, all of its threads; on any for None."""
        if hasattr(os, "sched_setaffinity"):
            for thread in threads(self.pid):
                with contextlib.suppress(ProcessLookupError):  # it may end meanwhile
                    os.sched_setaffinity(thread, cores or range(os.cpu_count() or 1))

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


def threads(pid: int) -> list[int]:
    """Of a process: a new one runs where the one runs that starts it, those that are there are asked one by one."""
    try:
        return [int(each) for each in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return [pid]


def resident_mib(pid: int) -> float | None:
    """Memory of a process that is in use; None where the system has no /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    except OSError:
        return None


class Pair:
    """A receiver and the sender that is connected to it."""

    def __init__(self, kind: str, options: dict[str, Any], folder: Path) -> None:
        if kind == "engine":
            options = options | {"store": tempfile.mktemp(suffix=".db", dir=folder)}
        self.options = options
        self._receiver = Worker("receive", kind, options, folder)
        self._sender: Worker | None = None
        try:
            self.address = self._receiver.hear()["address"]
            self._sender = Worker("send", kind, options, folder)
            self._sender.say(self.address)
            self._sender.hear()
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> tuple[int, int]:
        """Of the sender and the receiver, for a profiler."""
        assert self._sender is not None
        return self._sender.pid, self._receiver.pid

    def run(self, **command: Any) -> Any:
        """One run; its figures, and what both processes hold in memory after it."""
        assert self._sender is not None
        self._sender.say(command)
        figures = self._sender.hear()
        sizes = zip(("send_mib", "receive_mib"), map(resident_mib, self.pids), strict=True)
        return figures | {name: size for name, size in sizes if size is not None}

    def pin(self, cores: list[list[int]] | None) -> None:
        """The sender's cores and the receiver's."""
        assert self._sender is not None
        self._sender.pin(cores[0] if cores else None)
        self._receiver.pin(cores[1] if cores else None)

    def close(self) -> None:
        """End both."""
        if self._sender is not None:
            self._sender.close()
        self._receiver.close()


class Loaded(Pair):
    """A pair with a second sender, which tells the same receiver ``share`` of what it could while the first asks."""

    def __init__(self, kind: str, options: dict[str, Any], folder: Path, share: float) -> None:
        self._neighbour: Worker | None = None  # `close` may be called before it stands
        super().__init__(kind, options, folder)
        try:
            self._neighbour = Worker("send", kind, self.options | {"name": "neighbour"}, folder)
            self._neighbour.say(self.address)
            self._neighbour.hear()
            for _ in range(2):  # the first one warms it up
                self._neighbour.say({"do": "tell", "count": LOAD_TRIAL, "size": 64})
                self._rate = share * self._neighbour.hear()["rate"]
        except BaseException:
            self.close()
            raise

    def run(self, **command: Any) -> Any:
        """As a pair's, while the neighbour tells."""
        assert self._neighbour is not None
        self._neighbour.say({"do": "load", "size": 64, "rate": self._rate})
        self._neighbour.hear()
        began = time.perf_counter()
        figures = super().run(**command)
        seconds = time.perf_counter() - began
        self._neighbour.say({"do": "rest"})
        return figures | {"beside": self._neighbour.hear()["told"] / seconds}

    def close(self) -> None:
        """End all three."""
        if self._neighbour is not None:
            self._neighbour.close()
        super().close()


class Alone:
    """One process that measures what happens within it."""

    def __init__(self, kind: str, options: dict[str, Any], folder: Path) -> None:
        self._worker = Worker("local", kind, options, folder)
        self._worker.hear()

    def run(self, **command: Any) -> Any:
        """One run; its figures."""
        self._worker.say(command)
        return self._worker.hear()

    def pin(self, cores: list[list[int]] | None) -> None:
        """Its cores."""
        self._worker.pin(cores[0] if cores else None)

    def close(self) -> None:
        """End it."""
        self._worker.close()
