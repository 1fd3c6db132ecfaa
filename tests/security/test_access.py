"""Who may do what: decided by the receiving node, told to the sender, and free for what it lets through."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.access import AccessRule
from cajun_fast.messaging.access import Rights
from cajun_fast.messaging.door import Cause
from cajun_fast.messaging.security import Security

RULES = (
    AccessRule(peers=("web-*",), send=("order-*", "cart"), spawn=("session",)),
    AccessRule(peers=("web-1",), send=("extra",)),
    AccessRule(peers=("node-*",), send=("*",), spawn=("*",), manage=True),
)


@pytest.mark.parametrize(
    ("peer", "may", "may_not"),
    [
        ("web-1", ["order-1", "cart", "extra", "cajun:host@b"], ["order", "carts", "cajun:inspector@b", ""]),
        ("web-2", ["order-1", "cart"], ["extra", "ORDER-1"]),
        ("node-1", ["anything", "cajun:host@b", "cajun:inspector@b"], []),
        ("stranger", ["cajun:host@b"], ["order-1", "cajun:inspector@b"]),
        ("WEB-1", [], ["cart"]),
        ("web-\n1", ["cart"], ["extra"]),
    ],
)
def test_rules_add_up_and_what_none_allows_is_refused(peer: str, may: list[str], may_not: list[str]) -> None:
    rights = Rights(peer, RULES)
    assert [actor for actor in may if not rights.may_send(actor)] == []
    assert [actor for actor in may_not if rights.may_send(actor)] == []


@pytest.mark.parametrize(
    ("message", "allowed"),
    [
        ({"op": "spawn", "type": "session", "id": "s", "args": b""}, True),
        ({"op": "spawn", "type": "account", "id": "s", "args": b""}, False),
        ({"op": "spawn", "type": ["session"]}, False),
        ({"op": "stop", "id": "s"}, False),
        ({"op": "adopt", "actors": []}, False),
        ({"op": ["spawn"]}, False),
        ("spawn", False),
        (None, False),
    ],
)
def test_the_host_takes_from_a_restricted_peer_only_what_it_may_start(message: Any, allowed: bool) -> None:
    assert Rights("web-1", RULES).may_say(message) is allowed
    assert Rights("node-1", RULES).is_asked_each_time("cajun:host@b") is False


async def test_a_forbidden_message_reaches_nobody_and_its_sender_hears_it(
    make_node_with: Any, caplog: pytest.LogCaptureFixture
) -> None:
    b = await make_node_with("b", Security(rules=RULES))
    a = await make_node_with("web-1", None)
    a.knows(b)
    cart, secret = await b.record("cart"), await b.record("secret")
    assert await a.pid("cart", b).ask(1) == 1
    with caplog.at_level(logging.WARNING):
        for call in (a.pid("secret", b).ask(1), a.pid("secret", b).send(2)):
            with pytest.raises(
                cf.ForbiddenError, match=r"'b' does not let this node.*'secret'.*security.allow"
            ):
                await asyncio.wait_for(call, 10)
        a.pid("secret", b).tell(3)
        assert await a.pid("cart", b).ask(2) == 2
    assert secret == []
    assert cart == [1, 2]
    assert [reason for _, reason in a.dead]
    assert b.messaging.door.turned_down[Cause.FORBIDDEN] == 1, "asked once for a name, not for each message"
    assert "'web-1' may not send to actor 'secret'" in caplog.text


async def test_answers_come_back_to_a_node_that_lets_nobody_in(make_node_with: Any) -> None:
    b = await make_node_with("b", None)
    a = await make_node_with("a", Security(rules=[AccessRule(peers=("nobody",))]))
    a.knows(b)
    await b.record("x")
    assert await a.pid("x", b).ask(1) == 1


async def test_no_rule_is_asked_about_a_message(make_node_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    honest = Rights.may_send
    monkeypatch.setattr(Rights, "may_send", lambda self, actor: asked.append(actor) or honest(self, actor))
    b = await make_node_with("b", Security(rules=RULES))
    a = await make_node_with("web-1", None)
    a.knows(b)
    await b.record("cart")
    for n in range(500):
        await a.pid("cart", b).send(n)
    assert asked == ["cart"]


# ---- in a cluster --------------------------------------------------------------------------------------------------


@cf.actor("access-session")
class Session(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        return message


@cf.actor("access-account")
class Account(Session):
    pass


async def test_in_a_cluster_a_client_may_start_and_use_what_it_is_allowed_and_nothing_else() -> None:
    def member(name: str) -> cf.ClusterConfig.Builder:
        return cf.ClusterConfig.Builder(name, "memory://access").with_messaging_port(0)

    def ruled(builder: cf.ClusterConfig.Builder) -> cf.ClusterConfig:
        ruled = builder.with_access("node-*", send="*", spawn="*", manage=True)
        return ruled.with_access("web-*", send="session-*", spawn="access-session").build()

    make = cf.ClusterFactory.create_cluster_system
    async with (
        make(ruled(member("node-1"))) as one,
        make(ruled(member("node-2"))) as two,
        make(member("web-1").as_client().build()) as web,
    ):
        session = await web.create_actor_on_node("access-session", "session-1", "node-1")
        assert await session.ask("hi", timeout=10) == "hi"
        with pytest.raises(cf.ForbiddenError):
            await web.create_actor_on_node("access-account", "account-1", "node-1")
        account = await two.create_actor_on_node("access-account", "account-1", "node-1")
        assert await account.ask(1, timeout=10) == 1
        with pytest.raises(cf.ForbiddenError):
            await web.pid("account-1").ask(1, timeout=10)
        with pytest.raises(cf.ForbiddenError):
            await web.stop_actor("account-1")
        assert await two.stop_actor("account-1")
        assert one.actor_ids() == ["session-1"]
