"""Whoever reads docs/wire-protocol.md can talk to a node: a client in plain Python does."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from cajun_fast.messaging.handshake import Feature
from tests.messaging.nodes import until
from tests.messaging.plain_client import ASK, FAULT, HELLO, REFUSE, REPLY, RESUME, PlainClient


async def test_a_client_written_from_the_document_tells_asks_and_hears_verdicts(make_node: Any) -> None:
    node = await make_node("b")
    log: list[Any] = []

    def receive(message: Any, context: Any) -> Any:
        if message == "raise":
            raise ValueError("nonsense")
        log.append(message)
        return len(log)

    await node.actors.spawn(receive, "x")

    def talk() -> tuple[Any, ...]:
        client = PlainClient("127.0.0.1", node.address.port, "plain", "c", "b")
        try:
            told = [client.tell("x", {"n": n}) for n in range(3)]
            answer = client.ask("x", {"n": 3})
            nobody = client.tell("nobody", 1)
            fault = client.ask("x", "raise")
            return told, answer, nobody, client.tell("x", "last"), fault
        finally:
            client.close()

    told, answer, nobody, last, (kind, error) = await asyncio.to_thread(talk)
    assert told == [0, 0, 0]
    assert answer == (REPLY, 4)
    assert nobody == 2  # NOT_HERE
    assert last == 0
    assert kind == FAULT
    assert error["error"] == "RemoteActorError"
    assert error["fields"]["text"] == "nonsense"
    assert log == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}, "last"]
    assert ASK == 2


async def test_what_was_not_acknowledged_goes_again_and_is_handled_once(make_node: Any) -> None:
    node = await make_node("b")
    log: list[Any] = []
    await node.actors.spawn(lambda message, context: log.append(message), "x")

    def talk() -> None:
        first = PlainClient("127.0.0.1", node.address.port, "plain", "c", "b")
        assert first.tell("x", 1) == 0
        first.close()
        again = PlainClient("127.0.0.1", node.address.port, "plain", "c", "b")
        assert again.tell("x", 1) == 0  # number 1 of the same stream: acknowledged, and passed over
        assert again.tell("x", 2) == 0
        again.close()

    await asyncio.to_thread(talk)
    assert log == [1, 2]


async def test_a_client_of_another_cluster_reads_why_it_is_refused(make_node: Any) -> None:
    node = await make_node("b")
    client = await asyncio.to_thread(
        PlainClient, "127.0.0.1", node.address.port, "plain", "somebody-elses", "b"
    )
    client.close()
    assert client.refusal is not None
    code, reason = client.refusal
    assert code == 2
    assert "somebody-elses" in reason


async def test_a_refusal_that_crosses_the_resume_ends_the_connection_and_is_no_breach(
    make_node: Any, caplog: Any
) -> None:
    node = await make_node("b")
    caplog.set_level("DEBUG", "cajun_fast.messaging")

    def listen(client: PlainClient) -> None:
        while True:
            client.receive()

    def talk() -> None:
        client = PlainClient("127.0.0.1", node.address.port, "plain", "c", "b")
        try:
            client.send(REFUSE, bytes([5]) + b"the link was renewed since HELLO")
            with pytest.raises(ConnectionError):
                listen(client)
        finally:
            client.close()

    await asyncio.to_thread(talk)
    await until(lambda: "after its handshake: the link was renewed since HELLO" in caplog.text)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert not node.messaging.door.turned_down


async def test_a_handle_that_names_no_actor_is_unreadable_and_ends_nothing(make_node: Any) -> None:
    node = await make_node("b")
    log: list[Any] = []
    await node.actors.spawn(lambda message, context: log.append(message), "x")

    def talk() -> tuple[int, int]:
        client = PlainClient("127.0.0.1", node.address.port, "plain", "c", "b")
        try:
            return client.tell("x", [msgpack.ExtType(1, b"")]), client.tell("x", "next")
        finally:
            client.close()

    assert await asyncio.to_thread(talk) == (5, 0)  # UNREADABLE, TAKEN
    assert log == ["next"]


async def test_a_node_talks_to_one_of_the_version_before_and_both_may_have_more_where_both_can(
    make_node: Any,
) -> None:
    nodes = {}
    for name, highest in (("a", 2), ("b", 1), ("c", 2)):
        node = nodes[name] = await make_node(name)
        say = node.messaging.hello
        node.messaging.hello = lambda *a, say=say, highest=highest: replace(say(*a), max_version=highest)
    a = nodes["a"]
    for name in "bc":
        a.knows(nodes[name])
        log = await nodes[name].record(f"x-{name}")
        for n in range(100):
            a.pid(f"x-{name}", name).tell(n)
        assert await a.pid(f"x-{name}", name).ask(100) == 101
        assert log == list(range(101))
    agreed = {name: (peer.version, peer.features) for name in "bc" if (peer := a.messaging.peer(name))}
    assert agreed == {"b": (1, 0), "c": (2, Feature.BEAT | Feature.TRACE | Feature.CHUNKS)}
    await until(lambda: a.messaging.liveness("c").beat is not None)
    assert a.messaging.liveness("b").beat is None


async def test_what_a_later_version_says_beyond_what_is_known_is_passed_over(make_node: Any) -> None:
    node = await make_node("b")
    await node.actors.spawn(lambda message, context: message, "x")

    class Later(PlainClient):
        def send(self, kind: int, body: bytes = b"", sequence: int = 0) -> None:
            if kind == HELLO:
                low, _, _, *rest = struct.unpack_from("<HHIQQQ32sB3B", body)
                rest[4] |= 0xFE  # roles that nobody has heard of
                names = body[struct.calcsize("<HHIQQQ32sB3B") :]
                body = struct.pack("<HHIQQQ32sB3B", low, 9, 0xFFFFFFF0, *rest) + names + b"and more"
            elif kind == RESUME:
                body += b"x"
            super().send(kind, body, sequence)

    def talk() -> Any:
        client = Later("127.0.0.1", node.address.port, "plain", "c", "b")
        try:
            return client.ask("x", 5)
        finally:
            client.close()

    assert await asyncio.to_thread(talk) == (REPLY, 5)
    assert node.messaging.peer("plain").version == 2
