"""The node processes of the demo: started, waited for, killed, stopped; none outlives the conductor.

Laws: each child holds the read end of a pipe that the conductor never writes to and stops when it closes,
so even a SIGKILL of the conductor leaves no orphan. A child is in a session of its own: Ctrl-C reaches the
conductor alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import cajun_fast as cf

READY_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
#: The lease of the demo's nodes in seconds: shorter than the default, so that ten seconds show a failover.
LEASE_TTL = 2.0


class NodeProcess:
    """One of them. ``state``: starting, serving, killed, stopped, died."""

    def __init__(self, name: str, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.state = "starting"
        self.address = self.url = ""
        self.process = process
        self._folder = folder

    @property
    def log(self) -> Path:
        """Where its log lines go."""
        return self._folder / f"{self.name}.log"

    async def ready(self) -> None:
        """Until it serves. Raises ConfigError with its own words if it does not."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise cf.ConfigError(
                f"node {self.name!r} was not ready within {READY_TIMEOUT:g} s: {self.last_words()}"
            ) from None
        if not line:
            await self.process.wait()
            raise cf.ConfigError(f"node {self.name!r} did not start: {self.last_words()}")
        said = json.loads(line)
        self.address, self.url = said["address"], said.get("http", "")
        self.state = "serving"

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").split("\n") if self.log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    async def kill(self) -> None:
        """SIGKILL: no handler, no farewell."""
        self.state = "killed"
        self._signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """In order; by force if that takes too long."""
        if self.process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await self.process.wait()
            except TimeoutError:
                self._signal(signal.SIGKILL)
                await self.process.wait()
        if self.state != "killed":
            self.state = "stopped" if self.process.returncode == 0 else "died"

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Nodes:
    """All of them: an asynchronous context manager."""

    def __init__(
        self,
        names: Sequence[str],
        store: str,
        cluster: str,
        folder: Path,
        *,
        verbose: bool,
        imports: str = "cajun_fast.management.demo.accounts",
        more: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """``imports``: the module with their actors. ``more``: further words for the command of some of them."""
        self._imports, self._more = imports, more
        self._names = names
        self._arguments = ["--store", store, "--cluster", cluster, "--port", "0"]
        self._folder = folder
        self._verbose = verbose
        self.all: list[NodeProcess] = []

    async def __aenter__(self) -> Nodes:
        try:
            for name in self._names:
                self.all.append(await self._start(name))
            await asyncio.gather(*(node.ready() for node in self.all))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start(self, name: str) -> NodeProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "cajun_fast.management.cli", "node", "--id", name),
            *(*self._arguments, "--import", self._imports, *self._more.get(name, ())),
            *("--set", f"membership.lease_ttl={LEASE_TTL}", "--stop-on-eof"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if self._verbose else self._log(name),
            start_new_session=True,
            env=environment(os.environ),
        )
        return NodeProcess(name, self._folder, process)

    def _log(self, name: str) -> int:
        return os.open(self._folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def stop(self) -> None:
        """Stop those that live; returns when none does."""
        stopping = asyncio.gather(*(node.stop() for node in self.all))
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:  # impatience: no more waiting
            for node in self.all:
                if node.process.returncode is None:
                    node._signal(signal.SIGKILL)
            await stopping
            raise

    @property
    def living(self) -> list[NodeProcess]:
        """Those that run."""
        return [node for node in self.all if node.process.returncode is None and node.state == "serving"]


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of a node: this very package, and none of the settings of another cluster."""
    kept = {
        name: value
        for name, value in ours.items()
        if not name.startswith("CAJUN_") or name.startswith("CAJUN_DEMO_")
    }
    package = str(Path(cf.__file__).resolve().parents[1])
    path = [package, *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}
