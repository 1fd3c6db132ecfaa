"""TLS and authentication, alone and together: what works without them works with them."""

from __future__ import annotations

import pytest

from tests.messaging.nodes import tell_all


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    ("tls", "auth"), [(True, False), (False, True), (True, True)], ids=["tls", "auth", "both"]
)
async def test_messages_cross_over(office, make_node_with, tls, auth, unix):
    a, b = [await make_node_with(name, office.security(name, tls=tls, auth=auth), unix=unix) for name in "ab"]
    a.knows(b)
    log = await b.record("x")
    assert await a.pid("x", b).ask("first") == 1
    await tell_all(a.pid("x", b), list(range(1000)))
    await a.pid("x", b).send(b"z" * 1_000_000)
    assert log == ["first", *range(1000), b"z" * 1_000_000]
    connection = a.messaging.peer("b").connection
    assert connection.kind == ("unix" if unix else "tcp")
    assert (connection.tls is not None, connection.introduction is not None) == (tls, auth)
    assert not tls or connection.tls.version == "TLSv1.3"
    assert a.messaging.turned_down == b.messaging.turned_down == 0
