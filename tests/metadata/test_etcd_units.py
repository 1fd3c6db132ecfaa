"""The parts of the etcd store without a server, and its limits with one."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.errors import (
    CompactedError,
    ConfigError,
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
    NotRunningError,
)
from cajun_fast.metadata import KeySpace, Put, open_store
from cajun_fast.metadata.etcd import EtcdMetadataStore
from cajun_fast.metadata.etcd_coding import stamp_of, stamped, unstamped
from cajun_fast.metadata.etcd_errors import Cure, diagnose, refusal
from cajun_fast.metadata.etcd_proto import messages
from cajun_fast.metadata.etcd_url import endpoints_of
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.testing.etcd import EtcdCluster, free_ports
from tests.metadata.conftest import version

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[EtcdMetadataStore]:
    store = EtcdMetadataStore(url, **settings)
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


# ---- endpoints


@pytest.mark.parametrize(
    ("given", "addresses", "secure"),
    [
        ("http://h:1", ["h:1"], False),
        ("http://h", ["h:2379"], False),
        ("etcd://h:1,i:2", ["h:1", "i:2"], False),
        ("https://h:1,https://i:2", ["h:1", "i:2"], True),
        (["https://h:1", "https://i:2/"], ["h:1", "i:2"], True),
        ("http://[::1]:5", ["[::1]:5"], False),
    ],
)
def test_endpoints_are_understood(given: Any, addresses: list[str], secure: bool) -> None:
    found = endpoints_of(given, StoreOptions())
    assert (list(found.addresses), found.secure) == (addresses, secure)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://h:1/path",
        "https://h:1,http://i:2",
        "ftp://h",
        [],
    ],
)
def test_a_bad_endpoint_is_explained(given: Any) -> None:
    with pytest.raises(ConfigError, match="etcd"):
        endpoints_of(given, StoreOptions())


def test_a_bad_endpoint_does_not_show_its_password() -> None:
    for url in ("http://u:hunter2@h:port", "http://u:hunter2@h:1/path"):
        with pytest.raises(ConfigError) as caught:
            endpoints_of(url, StoreOptions())
        assert "hunter2" not in str(caught.value)


def test_user_and_password_are_taken_out_of_the_url() -> None:
    found = endpoints_of("https://a%40b:hunter%2F2@h:1", StoreOptions())
    assert (found.options.user, found.options.password) == ("a@b", "hunter/2")
    assert found.shown == "https://h:1"


# ---- nobody there


async def test_where_nobody_listens_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    store = EtcdMetadataStore(f"http://127.0.0.1:{port}", timeout=0.5)
    with caplog.at_level(logging.DEBUG), pytest.raises(MetadataStoreUnavailableError) as caught:
        await store.connect()
    text = str(caught.value)
    assert f"127.0.0.1:{port}" in text
    assert "attempts" in text
    assert "check that etcd runs there" in text
    assert "Traceback" not in text + caplog.text
    with pytest.raises(NotRunningError):
        await store.get("a")
    await store.close()


async def test_a_host_that_does_not_exist_is_said() -> None:
    store = EtcdMetadataStore("http://no-such-host.invalid:2379", timeout=0.5)
    with pytest.raises(MetadataStoreUnavailableError, match=r"no-such-host\.invalid"):
        await store.connect()


async def test_cancelling_connect_leaves_nothing() -> None:
    (port,) = free_ports(1)
    before = asyncio.all_tasks()
    store = EtcdMetadataStore(f"http://127.0.0.1:{port}", timeout=30.0)
    task = asyncio.ensure_future(store.connect())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.close()
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before


# ---- definitions


def test_the_definitions_do_not_clash_with_another_librarys() -> None:
    """A process that has kv.proto in the default pool already, and protobuf of today."""
    code = """
from google.protobuf import descriptor_pb2, descriptor_pool
mine = descriptor_pb2.FileDescriptorProto(name="kv.proto", package="somebody.elses")
descriptor_pool.Default().Add(mine)
from cajun_fast.metadata.etcd_proto import messages
put = messages().PutRequest(key=b"k", value=b"v")
assert messages().PutRequest.FromString(put.SerializeToString()) == put
import sys
assert "etcd3" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_etcd3_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    messages.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"cajun-fast\[etcd\]"):
        messages()
    monkeypatch.undo()
    messages()


def test_a_namesake_of_etcd3_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    messages.cache_clear()
    spec = importlib.util.spec_from_file_location(
        "etcd3", tmp_path / "__init__.py", submodule_search_locations=[str(tmp_path)]
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ConfigError, match="uninstall"):
        messages()
    monkeypatch.undo()
    messages()


def test_stamps_come_off_again() -> None:
    for value in (b"", b"x", stamped(b"y", b"12345678")):
        assert unstamped(stamped(value, b"abcdefgh")) == value
        assert stamp_of(stamped(value, b"abcdefgh")) == b"abcdefgh"
    assert unstamped(b"by etcdctl") == b"by etcdctl"
    assert stamp_of(b"by etcdctl") is None


# ---- refusals


@pytest.mark.parametrize(
    ("code", "text", "cure", "unapplied"),
    [
        ("UNAVAILABLE", "etcdserver: no leader", Cure.RETRY, True),
        ("UNAVAILABLE", "etcdserver: request timed out", Cure.RETRY, False),
        ("UNAVAILABLE", "failed to connect; last error: connection refused", Cure.RETRY, True),
        ("UNAVAILABLE", "Socket closed", Cure.RETRY, False),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", Cure.RETRY, False),
        ("UNAUTHENTICATED", "etcdserver: invalid auth token", Cure.LOGIN, True),
        ("PERMISSION_DENIED", "etcdserver: permission denied", Cure.NONE, True),
        ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", Cure.NONE, True),
        ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", Cure.RETRY, True),
        ("NOT_FOUND", "etcdserver: requested lease not found", Cure.NONE, True),
        ("INVALID_ARGUMENT", "anything", Cure.NONE, True),
    ],
)
def test_what_is_tried_again(code: str, text: str, cure: Cure, unapplied: bool) -> None:
    fault = diagnose(code, text)
    assert (fault.cure, fault.unapplied) == (cure, unapplied)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("etcdserver: requested lease not found", LeaseLostError),
        ("etcdserver: mvcc: required revision has been compacted", CompactedError),
        ("etcdserver: authentication failed, invalid user ID or password", ConfigError),
        ("etcdserver: mvcc: database space exceeded", MetadataStoreError),
        ("something new", MetadataStoreError),
    ],
)
def test_refusals_have_their_types(text: str, kind: type[Exception]) -> None:
    assert type(refusal(diagnose("INVALID_ARGUMENT", text), "h:1", "Put")) is kind


# ---- limits, on a server


@pytest.mark.etcd
async def test_a_lower_limit_of_operations_is_learned(etcd_server: EtcdCluster) -> None:
    async with (
        EtcdCluster.of(1, arguments=["--max-txn-ops", "20"], binary=etcd_server.binary) as cluster,
        opened(cluster.url) as store,
    ):
        await store.put_all({f"k{n:03}": b"" for n in range(300)})
        assert len((await store.list("k")).entries) == 300
        assert store._operations <= 20
        with pytest.raises(MetadataStoreError, match="max-txn-ops"):
            await store.transact([], [Put(f"q{n}", b"") for n in range(50)])
        assert (await store.list("q")).entries == ()


@pytest.mark.etcd
async def test_what_is_too_large_for_the_server_is_said(etcd_server: EtcdCluster) -> None:
    async with (
        EtcdCluster.of(1, arguments=["--max-request-bytes", "100000"], binary=etcd_server.binary) as cluster,
        opened(cluster.url) as store,
    ):
        with pytest.raises(MetadataStoreError, match="max-request-bytes"):
            await store.put("large", bytes(900_000))
        assert await store.get("large") is None


@pytest.mark.etcd
async def test_pages_of_large_values_are_made_shorter(etcd_server: EtcdCluster) -> None:
    async with opened(etcd_server.url) as store:
        for n in range(48):
            await store.put(f"pages/{n:02}", bytes(1 << 20))
        page = await store.list("pages/", limit=100)
        assert 0 < len(page.entries) < 48
        keys, revision = [entry.key for entry in page.entries], page.revision
        while page.after:
            page = await store.list("pages/", limit=100, after=page.after, revision=revision)
            keys += [entry.key for entry in page.entries]
        assert keys == [f"pages/{n:02}" for n in range(48)]
        for key in keys:
            await store.delete(key)


@pytest.mark.etcd
async def test_two_clusters_on_one_etcd_never_meet(etcd_server: EtcdCluster) -> None:
    one, two = KeySpace("one"), KeySpace("one/two")
    async with opened(etcd_server.url) as store:
        first = await store.lock(one.leader_lock, ttl=10.0, timeout=0)
        second = await store.lock(two.leader_lock, ttl=10.0, timeout=0)
        await store.put(one.node("a"), b"1")
        await store.put(two.node("a"), b"2")
        assert [entry.value for entry in (await store.list(one.root)).entries if entry.value] == [b"1"]
        assert [entry.value for entry in (await store.list(two.root)).entries if entry.value] == [b"2"]
        await first.release()
        await second.release()


@pytest.mark.etcd
async def test_all_forms_of_the_url_reach_it(etcd_server: EtcdCluster) -> None:
    port = etcd_server.members[0].client_port
    for url in (
        f"http://127.0.0.1:{port}",
        f"etcd://localhost:{port}",
        f"http://127.0.0.1:{port},localhost:{port}",
    ):
        store = open_store(url)
        await store.connect()
        await store.ping(timeout=5.0)
        await store.close()


@pytest.mark.etcd
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_it_runs_on_the_standard_loop(etcd_server: EtcdCluster) -> None:
    async with opened(etcd_server.url) as store:
        watch = store.watch("loop/")
        await store.put("loop/a", b"1")
        assert (await asyncio.wait_for(anext(aiter(watch)), 10))[0].entry.value == b"1"
        await (await store.lease(5.0)).refresh()


@pytest.mark.etcd
async def test_the_servers_version_is_known(etcd_server: EtcdCluster) -> None:
    async with opened(etcd_server.url) as store:
        assert f"etcd Version: {await store.server_version()}" == version(etcd_server.binary)


@pytest.mark.etcd
@pytest.mark.parametrize("limit", [1, 10, 99, 100, 1000, 1001])
@pytest.mark.parametrize("prefix", ["n/", "n/00", "n/0010", ""])
async def test_pages_of_a_long_listing_ask_for_what_is_near_and_leave_nothing_out(
    etcd_server: EtcdCluster, limit: int, prefix: str
) -> None:
    """Numbers whose pages end where their neighbourhood ends, a gap, names of other lengths, and one at each border."""
    names = [
        f"n/{number:06}"
        for number in (*range(990, 1110), *range(250_000, 250_205), *range(999_999, 1_000_003))
    ]
    names += ["n/a", "n/001000/child", "n/\U0001f600", "m", "n", "o", "o/000001"]
    async with opened(etcd_server.url) as store:
        await store.put_all(dict.fromkeys(names, b"x"))
        expected = sorted(name for name in names if name.startswith(prefix))
        found: list[str] = []
        page = await store.list(prefix, limit=limit)
        while True:
            found += [entry.key for entry in page.entries if entry.key in names]
            assert len(page.entries) <= limit
            if page.after is None:
                break
            assert len(page.entries) == limit
            page = await store.list(prefix, limit=limit, after=page.after, revision=page.revision)
        assert found == expected
        assert (await store.list("n/25", limit=5, after="n/001000")).entries[0].key == "n/250000"
