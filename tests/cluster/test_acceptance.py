"""The programs that users were promised, unchanged, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cajun_fast.errors import ConfigError
from cajun_fast.testing.etcd import etcd_binary, throwaway_etcd

ACCEPTANCE = Path(__file__).resolve().parents[1] / "acceptance"


@pytest.fixture
async def etcd_url() -> AsyncIterator[str]:
    """An etcd of its own; the test is skipped where there is none."""
    try:
        etcd_binary()
    except ConfigError as error:
        pytest.skip(str(error))
    async with throwaway_etcd() as url:
        yield url


@pytest.mark.processes
@pytest.mark.parametrize("store", ["memory://quickstart", "sqlite:///{folder}/cluster.db"])
def test_quickstart(store: str, tmp_path: Path) -> None:
    run_quickstart(store.format(folder=tmp_path))


@pytest.mark.etcd
@pytest.mark.processes
async def test_quickstart_on_etcd(etcd_url: str) -> None:
    await asyncio.to_thread(run_quickstart, etcd_url)


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_survive() -> None:
    run_survive()


@pytest.mark.etcd
@pytest.mark.processes
@pytest.mark.timeout(120)
async def test_survive_on_etcd(etcd_url: str) -> None:
    await asyncio.to_thread(run_survive, etcd_url)


def run_survive(*store: str) -> None:
    """It starts ``cajun-fast``, which stands beside the interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, str(ACCEPTANCE / "survive.py"), *store],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "survive: ok\n"


def run_quickstart(store: str) -> None:
    command = [sys.executable, str(ACCEPTANCE / "quickstart.py"), store]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "quickstart: ok\n"
    assert done.stderr == ""
