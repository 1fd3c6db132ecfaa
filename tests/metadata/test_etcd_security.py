"""TLS with client certificates, passwords, roles, and tokens that run out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cajun_fast.errors import ConfigError, MetadataStoreError, MetadataStoreUnavailableError
from cajun_fast.metadata import KeySpace, open_store
from cajun_fast.metadata.etcd import EtcdMetadataStore
from cajun_fast.metadata.etcd_errors import diagnose
from cajun_fast.metadata.etcd_wire import Call
from cajun_fast.testing.etcd import EtcdCluster, Tls

trustme = pytest.importorskip("trustme")
pytestmark = [pytest.mark.etcd, pytest.mark.timeout(60)]


class Papers:
    """An authority, a server's certificate and a client's, as files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        self.server = self._issue(folder / "server", authority, "127.0.0.1", "localhost")
        self.client = self._issue(folder / "client", authority, "node.example", common_name="node")
        trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
        self.other_ca = str(folder / "other-ca.pem")

    @staticmethod
    def _issue(path: Path, authority: Any, *names: str, common_name: str | None = None) -> tuple[str, str]:
        paper = authority.issue_cert(*names, common_name=common_name)
        paper.private_key_pem.write_to_path(f"{path}.key")
        paper.cert_chain_pems[0].write_to_path(f"{path}.pem")
        return f"{path}.pem", f"{path}.key"

    @property
    def settings(self) -> dict[str, str]:
        return {"ca_file": self.ca, "cert_file": self.client[0], "key_file": self.client[1]}


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


@pytest.fixture
async def secured(etcd_server: EtcdCluster, papers: Papers) -> AsyncIterator[str]:
    tls = Tls(papers.ca, *papers.server)
    async with EtcdCluster.of(1, tls=tls, binary=etcd_server.binary) as cluster:
        yield cluster.url


async def refused(url: str, kind: type[Exception], **settings: Any) -> str:
    store = open_store(url, timeout=1.5, **settings)
    with pytest.raises(kind) as caught:
        await store.connect()
    await store.close()
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


async def test_client_certificates_are_shown_and_asked_for(secured: str, papers: Papers) -> None:
    store = open_store(secured, **papers.settings)
    await store.connect()
    watch = store.watch("k")
    await store.put("k", b"1")
    assert (await asyncio.wait_for(anext(aiter(watch)), 10))[0].entry.value == b"1"
    lease = await store.lease(5.0)
    await lease.refresh()
    await store.close()


async def test_without_papers_the_remedy_is_said(secured: str, papers: Papers) -> None:
    for settings in ({}, {"ca_file": papers.ca}, papers.settings | {"ca_file": papers.other_ca}):
        message = await refused(secured, MetadataStoreUnavailableError, **settings)
        assert "127.0.0.1" in message
    message = await refused(secured.replace("https", "http"), MetadataStoreUnavailableError)
    assert "127.0.0.1" in message


async def test_a_certificate_for_another_name_is_not_taken(secured: str, papers: Papers) -> None:
    message = await refused(
        secured.replace("127.0.0.1", "127.0.0.2"), MetadataStoreUnavailableError, **papers.settings
    )
    assert "127.0.0.2" in message


async def test_a_missing_file_is_named(papers: Papers) -> None:
    message = await refused("https://127.0.0.1:1", ConfigError, **papers.settings | {"ca_file": "/no/ca.pem"})
    assert "/no/ca.pem" in message


# ---- passwords and roles

ADD_USER = Call("/etcdserverpb.Auth/UserAdd", "AuthUserAddRequest", "AuthUserAddResponse")
ADD_ROLE = Call("/etcdserverpb.Auth/RoleAdd", "AuthRoleAddRequest", "AuthRoleAddResponse")
GRANT_ROLE = Call("/etcdserverpb.Auth/UserGrantRole", "AuthUserGrantRoleRequest", "AuthUserGrantRoleResponse")
PERMIT = Call(
    "/etcdserverpb.Auth/RoleGrantPermission",
    "AuthRoleGrantPermissionRequest",
    "AuthRoleGrantPermissionResponse",
)
ENABLE = Call("/etcdserverpb.Auth/AuthEnable", "AuthEnableRequest", "AuthEnableResponse")
KEYS = KeySpace("orders")


@pytest.fixture
async def guarded(etcd_server: EtcdCluster) -> AsyncIterator[str]:
    """An etcd with a root, and a user who may touch one cluster's prefix only."""
    async with EtcdCluster.of(1, binary=etcd_server.binary) as cluster:
        store = EtcdMetadataStore(cluster.url)
        await store.connect()
        wire, _, _ = store._parts()
        types = wire.types
        end = KEYS.root[:-1] + "0"
        permission = types.Permission(permType=2, key=KEYS.root.encode(), range_end=end.encode())
        for call, request in (
            (ADD_USER, types.AuthUserAddRequest(name="root", password="root-secret")),
            (GRANT_ROLE, types.AuthUserGrantRoleRequest(user="root", role="root")),
            (ADD_ROLE, types.AuthRoleAddRequest(name="orders")),
            (PERMIT, types.AuthRoleGrantPermissionRequest(name="orders", perm=permission)),
            (ADD_USER, types.AuthUserAddRequest(name="node", password="hunter2")),
            (GRANT_ROLE, types.AuthUserGrantRoleRequest(user="node", role="orders")),
            (ENABLE, types.AuthEnableRequest()),
        ):
            if call is GRANT_ROLE and request.role == "root":
                await wire.call(ADD_ROLE, types.AuthRoleAddRequest(name="root"))
            await wire.call(call, request)
        await store.close()
        yield cluster.url


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[EtcdMetadataStore]:
    store = EtcdMetadataStore(url, **settings)
    await store.connect()
    try:
        yield store
    finally:
        await store.close()


async def test_a_user_works_inside_his_prefix_only(guarded: str) -> None:
    async with opened(guarded, user="node", password="hunter2") as store:
        await store.ping(timeout=5.0)
        await store.put(KEYS.node("a"), b"1")
        lock = await store.lock(KEYS.leader_lock, ttl=5.0)
        await lock.refresh()
        await lock.release()
        other = KeySpace("billing")
        for call in (
            store.put(other.node("a"), b"1"),
            store.get(other.node("a")),
            store.list("/cajun/"),
            store.delete(other.node("a")),
        ):
            with pytest.raises(MetadataStoreError, match="role"):
                await call
        with pytest.raises(MetadataStoreError, match=r"(role|permission)"):
            await asyncio.wait_for(anext(aiter(store.watch(other.nodes))), 10)


async def test_user_and_password_may_stand_in_the_url(guarded: str) -> None:
    url = guarded.replace("http://", "http://node:hunter2@")
    async with opened(url) as store:
        assert "hunter2" not in store.url + repr(store)
        await store.put(KEYS.node("a"), b"1")


@pytest.mark.parametrize(("user", "password"), [("node", "wrong-one"), ("nobody", "wrong-one")])
async def test_a_wrong_password_is_said_at_once_and_not_shown(guarded: str, user: str, password: str) -> None:
    begun = asyncio.get_running_loop().time()
    message = await refused(guarded, ConfigError, user=user, password=password)
    assert "check user and password" in message
    assert password not in message
    assert asyncio.get_running_loop().time() - begun < 1.4


async def test_without_a_user_the_server_refuses(guarded: str) -> None:
    assert "give user and password" in await refused(guarded, ConfigError)


async def test_a_spent_token_is_renewed_for_calls_and_streams(guarded: str) -> None:
    async with opened(guarded, user="node", password="hunter2") as store:
        wire = store._parts()[0]
        watch = store.watch(KEYS.nodes)
        await store.put(KEYS.node("a"), b"1")
        assert (await anext(aiter(watch)))[0].entry.value == b"1"
        wire._token = "spent.1"
        results = await asyncio.gather(*(store.put(KEYS.node("a"), str(n).encode()) for n in range(20)))
        assert len(set(results)) == 20
        lease = await store.lease(10.0)
        wire._token = "spent.2"
        store._parts()[1]._break(diagnose("CANCELLED", "by the test"))
        await lease.refresh()
        wire._token = "spent.3"
        watch._drop()  # type: ignore[attr-defined]
        seen: list[bytes] = []
        while len(seen) < 20:
            seen += [event.entry.value for event in await asyncio.wait_for(anext(aiter(watch)), 10)]
        assert len(seen) == 20


async def test_a_user_where_none_is_needed_is_warned_of(
    etcd_server: EtcdCluster, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cajun_fast.metadata"):
        async with opened(etcd_server.url, user="node", password="hunter2") as store:
            await store.ping(timeout=5.0)
    assert "authentication is not enabled" in caplog.text
    assert "hunter2" not in caplog.text
