"""The two classes that come from Cajun: by address, without a cluster, and both kinds of security together."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.messaging.tls import papers_of


def contexts(office: Any, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    papers = papers_of(office.files(name), name)
    return papers.server, papers.client


def secure(office: Any, name: str, **options: Any) -> cf.SecureMessagingSystem:
    server, client = contexts(office, name)
    return cf.SecureMessagingSystem(name, 0, server, client_context=client, **options)


def authenticated(office: Any, name: str, **options: Any) -> cf.AuthenticatedMessagingSystem:
    return cf.AuthenticatedMessagingSystem(name, 0, key_file=str(office.secret), **options)


KINDS = {
    "secure": secure,
    "authenticated": authenticated,
    "secure, with keys": lambda office, name: secure(office, name, key_file=str(office.secret)),
    "authenticated, with contexts": lambda office, name: authenticated(
        office, name, **dict(zip(("ssl_context", "client_context"), contexts(office, name), strict=True))
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_messages_go_by_address(office: Any, kind: str) -> None:
    async with KINDS[kind](office, "a") as a, KINDS[kind](office, "b") as b:
        a.add_node("b", b.address.host, b.address.port)
        log: list[Any] = []
        await b.register_message_handler("orders", lambda message, context: log.append(message) or len(log))
        await a.send_message("b", "orders", {"n": 1}, cf.DeliveryGuarantee.AT_LEAST_ONCE)
        assert await a.pid("b", "orders").ask({"n": 2}, timeout=10) == 2
        assert log == [{"n": 1}, {"n": 2}]
        await a.ping("b")
        with pytest.raises(cf.NodeUnavailableError, match="no handler"):
            await a.pid("b", "nobody").ask(1, timeout=10)
        a.remove_node("b")
        with pytest.raises(cf.NodeUnavailableError):
            await a.pid("b", "again").ask(1, timeout=10)


async def test_a_restarted_system_is_heard(office: Any) -> None:
    async with authenticated(office, "b") as b:
        log: list[Any] = []
        await b.register_message_handler("x", lambda message, context: log.append(message))
        for turn in range(2):
            async with authenticated(office, "a") as a:
                a.add_node("b", b.address.host, b.address.port)
                await a.send_message("b", "x", turn)
            await asyncio.sleep(0.002)  # a later start has a later millisecond
        assert log == [0, 1]


def test_what_would_protect_nothing_is_refused(office: Any) -> None:
    server, client = contexts(office, "a")
    with pytest.raises(cf.ConfigError, match="two contexts"):
        cf.SecureMessagingSystem("a", 0, server)
    with pytest.raises(cf.ConfigError, match="key_file"):
        cf.SecureMessagingSystem("a", 0, server, client_context=client, host="0.0.0.0")
    with pytest.raises(cf.ConfigError, match="ssl_context"):
        authenticated(office, "a", host="0.0.0.0")
    with pytest.raises(cf.ConfigError, match="from a file or"):
        cf.AuthenticatedMessagingSystem("a", 0)


@pytest.mark.parametrize("how", ["asks nobody", "verifies nobody", "old versions"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_contexts_that_protect_nothing_are_found_at_the_start(office: Any, how: str) -> None:
    server, client = contexts(office, "a")
    if how == "asks nobody":
        server.verify_mode = ssl.CERT_NONE
    elif how == "verifies nobody":
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
    else:
        server.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(cf.ConfigError, match=r"verify_mode|minimum_version"):
        await cf.SecureMessagingSystem("a", 0, server, client_context=client).start()
