"""Large messages over every kind of connection: what arrives is what was sent, with small ones between, both ways.

A connection reads them straight to where they stay; how the bytes are cut is the sockets' and TLS's own affair."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.messaging.nodes import Node

KIB = 1024


def data(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def messages() -> list[Any]:
    """Large bytes first, last, twice, within others and not at all, of lengths on both sides of a chunk's."""
    edges = [64 * KIB - 40, 64 * KIB, 256 * KIB, 320 * KIB, 320 * KIB + 1, 576 * KIB + 1, 1 << 20, 3 << 20]
    found: list[Any] = [data(size, size) for size in edges]
    found += [{"id": 1, "data": data(size, size), "after": "x" * 40} for size in edges]
    found += [["é" * 300_000, data(900 * KIB, 1), [data(70 * KIB, 2), None, data(400 * KIB, 3)]]]
    found += [
        list(range(300_000)),
        "x" * 700_000,
        {"small": data(100, 4), "n": list(range(5000)), "d": data(1 << 20, 5)},
    ]
    return found


@pytest.mark.parametrize("way", ["tls", "tcp", "unix"])
async def test_what_is_large_arrives_as_it_was_sent_whatever_carries_it(
    office: Any, make_node_with: Any, way: str
) -> None:
    a, b = [
        await make_node_with(
            name, office.security(name) if way == "tls" else None, unix=way == "unix", heartbeat_timeout=30.0
        )
        for name in ("a", "b")
    ]
    a.knows(b)
    log = await b.record("log")
    sent: list[Any] = []
    for message in messages():
        sent += [message, len(sent)]
        await asyncio.gather(*(a.pid("log", b).send(each) for each in sent[-2:]))
    assert log == sent
    assert await answers(a, b) == messages()
    assert a.messaging.peer("b").established == 1


async def answers(a: Node, b: Node) -> list[Any]:
    """The same as asks and their answers, many at once."""
    await b.actors.spawn(lambda message, context: message, "mirror")
    found: list[Any] = await asyncio.gather(
        *(a.pid("mirror", b).ask(each, timeout=60) for each in messages())
    )
    return found
