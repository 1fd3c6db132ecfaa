"""Whoever reads docs/wire-protocol.md can talk to a node: a client in plain Python does."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.messaging.plain_client import ASK, FAULT, REPLY, PlainClient


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
