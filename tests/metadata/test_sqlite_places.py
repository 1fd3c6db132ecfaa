"""Where the file of sqlite:// may lie, on which boot of the machine, and what a user reads who chose badly."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from cajun_fast.clock import ManualClock
from cajun_fast.errors import CajunError, ConfigError, MetadataStoreUnavailableError, NotRunningError
from cajun_fast.metadata import EventKind, open_store
from cajun_fast.metadata.sqlite import SqliteMetadataStore
from cajun_fast.metadata.sqlite_place import boot_id, check_place, file_system


@asynccontextmanager
async def opened(path: Path, **settings: object) -> AsyncIterator[SqliteMetadataStore]:
    store = SqliteMetadataStore(path, **settings)  # type: ignore[arg-type]
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


# ---- the boot of the machine


async def test_after_a_start_of_the_machine_every_lease_is_over(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path / "c.db", boot="one", lease_clock=clock) as store:
        lease = await store.lease(1000.0)
        await store.put("leased", b"", lease=lease.id)
        revision = await store.put("free", b"")
    async with opened(tmp_path / "c.db", boot="two", lease_clock=clock) as store:
        assert [entry.key for entry in (await store.list("")).entries] == ["free"]
        (event,) = await anext(aiter(store.watch("", revision=revision)))
        assert (event.kind, event.entry.key) == (EventKind.DELETE, "leased")
    async with opened(tmp_path / "c.db", boot="two", lease_clock=clock) as store:
        lease = await store.lease(1000.0)
        await store.put("leased", b"", lease=lease.id)
    async with opened(tmp_path / "c.db", boot="two", lease_clock=clock) as store:
        assert await store.get("leased") is not None


async def test_a_clock_that_began_again_ends_leases_where_no_boot_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.db", boot="unknown", lease_clock=ManualClock(10**15)) as store:
        lease = await store.lease(10.0)
        await store.put("leased", b"", lease=lease.id)
    async with opened(tmp_path / "c.db", boot="unknown", lease_clock=ManualClock(10**9)) as store:
        assert await store.get("leased") is None


def test_this_machine_tells_its_boot() -> None:
    assert boot_id() == boot_id() != "unknown"


# ---- places


async def refused(path: Path, kind: type[CajunError] = ConfigError) -> str:
    store = SqliteMetadataStore(path)
    with pytest.raises(kind) as caught:
        await store.connect()
    assert str(path) in str(caught.value)
    with pytest.raises(NotRunningError):
        await store.get("a")
    await store.close()
    return str(caught.value)


async def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "create it" in await refused(tmp_path / "no" / "c.db")


async def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    assert "name a file" in await refused(tmp_path)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and dear to me\n" * 100)
    assert "not a database" in await refused(path)
    assert path.read_text().startswith("these are my notes")


async def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    assert "another program" in await refused(path)
    assert path.read_bytes() == before


async def test_a_later_layout_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "upgrade" in await refused(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where root cannot write either")
async def test_a_place_where_nothing_can_be_written() -> None:
    await refused(Path("/proc/cluster.db"), CajunError)


def test_a_folder_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "access", lambda place, mode: False
    )  # the tests may run as root, who may everything
    with pytest.raises(ConfigError, match="not writable"):
        check_place(tmp_path / "c.db")


def test_a_network_file_system_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    folder = tmp_path / "a b"
    folder.mkdir()
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:40 / {str(tmp_path).replace(' ', chr(92) + '040')}/a\\040b rw shared:1 - nfs4 server:/x rw\n"
        "broken line\n"
    )
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(folder, mounts) == "nfs4"
    with pytest.raises(ConfigError, match=r"nfs4.*etcd"):
        check_place(folder / "c.db", mounts)
    assert file_system(folder, tmp_path / "absent") == ""


async def test_a_file_taken_away_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with opened(path) as store:
        await store.put("k", b"")
        path.rename(tmp_path / "moved.db")
        with pytest.raises(MetadataStoreUnavailableError, match="removed or replaced"):
            await store.put("k", b"")


async def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.db") as store:
        await store.put("k", b"")

        def limit(pages: int) -> Awaitable[object]:
            assert store._worker is not None
            return store._worker.submit(
                lambda tables: store._file.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone(),
                writes=False,
            )

        await limit(30)
        with pytest.raises(MetadataStoreUnavailableError, match="make room"):
            await store.put("large", bytes(900_000))
        assert await store.get("large") is None
        await limit(100_000)
        await store.put("large", bytes(900_000))


async def test_a_fork_is_told_to_open_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path / "c.db") as store:
        child = os.fork()
        if child == 0:
            try:
                store.get("a").send(None)  # type: ignore[attr-defined]
            except MetadataStoreUnavailableError as error:
                os._exit(0 if "after the fork" in str(error) else 2)
            os._exit(1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        await store.put("a", b"")


# ---- urls


async def test_three_slashes_are_relative_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("sqlite:///c.db").path == tmp_path / "c.db"  # type: ignore[attr-defined]
    assert open_store(f"sqlite:///{tmp_path}/c.db").path == tmp_path / "c.db"  # type: ignore[attr-defined]
    store = open_store("sqlite:///a%20b.db?synchronous=full&history=7")
    assert store.path == tmp_path / "a b.db"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("sqlite://c.db", "three slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///c.db?sync=off", "sync"),
        ("sqlite:///c.db?history=-1", "history"),
        ("sqlite:///c.db?history=0", "history"),
        ("sqlite:///c.db?synchronous=sometimes", "sometimes"),
    ],
)
def test_a_bad_url_is_explained(url: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        open_store(url)
