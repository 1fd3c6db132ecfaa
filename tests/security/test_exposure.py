"""A node that others can connect to says at its start what stands open."""

from __future__ import annotations

from typing import Any

import pytest

from cajun_fast.messaging.hearts import SocketHearts
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.messaging.security import Security
from cajun_fast.ports import Ports
from tests.messaging.nodes import Node


class Shut(SocketNetwork):
    """Listens on loopback, whatever it is told."""

    async def listen(self, host: str, *args: Any, **options: Any) -> Any:
        return await super().listen("127.0.0.1", *args, **options)


class ShutHearts(SocketHearts):
    async def start(self, host: str, *args: Any) -> Any:
        return await super().start("127.0.0.1", *args)


async def said(security: Security | None, host: str, caplog: pytest.LogCaptureFixture) -> str:
    node = Node("b", security=security)
    node.ports = Ports(network=Shut(), hearts=ShutHearts())
    await node.start(host)
    await node.stop()
    return caplog.text


@pytest.mark.parametrize(
    ("protection", "open_to"),
    [
        ({"tls": False, "auth": False}, "without TLS and without authentication: whoever can connect"),
        ({"tls": False, "auth": True}, "without TLS: whoever sits on the way"),
        ({"tls": True, "auth": False}, ""),  # mutual: nobody without a certificate
        ({"tls": True, "auth": True}, ""),
    ],
)
async def test_it_is_logged_beyond_loopback(
    office: Any, protection: dict[str, bool], open_to: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = await said(office.security("b", **protection), "10.1.2.3", caplog)
    assert ("node 'b' listens on 10.1.2.3:" in text) is bool(open_to)
    assert open_to in text


async def test_one_sided_tls_alone_lets_everybody_in(office: Any, caplog: pytest.LogCaptureFixture) -> None:
    security = Security(tls=office.tls("b", mutual=False))
    assert "without authentication: whoever can connect is a member" in await said(security, "node-1", caplog)


async def test_nothing_is_said_on_loopback(caplog: pytest.LogCaptureFixture) -> None:
    assert await said(None, "127.0.0.1", caplog) == ""
