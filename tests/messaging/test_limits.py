"""Every limit of docs/wire-protocol.md is reached by somebody who means no good, over a real socket: it ends his
connection, is counted, and disturbs nobody else. Those of the link machine alone stand in tests/core/test_link.py."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from cajun_fast._core.frame import TYPES, encode_frame
from tests.messaging.nodes import Node, until
from tests.messaging.plain_client import ASK, DATA, NAME, TELL, PlainClient

UNREADABLE = 5


@pytest.fixture
async def victim(make_node: Any) -> AsyncIterator[Node]:
    """A node with an actor "x" and an honest neighbour, who is served to the end."""
    node, honest = (
        await make_node("b", handshake_timeout=0.5, max_handshakes=8, max_strangers=2),
        await make_node("a"),
    )
    honest.knows(node)
    node.knows(honest)
    log = await node.record("x")
    assert await honest.pid("x", node).ask("before") == 1
    yield node
    assert await honest.pid("x", node).ask("after", timeout=10) == len(log)
    await until(lambda: not node.messaging._handshakes)


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What came before the node closed the connection."""
    data = bytearray()
    try:
        while more := await asyncio.wait_for(reader.read(65536), 10):
            data += more
    except ConnectionError:
        pass
    return bytes(data)


async def throw(node: Node, data: bytes) -> bytes:
    """Send bytes to a fresh connection; what the node said before it closed it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.address.port)
    writer.write(data)
    try:
        return await closed(reader)
    finally:
        writer.close()


def hello(node: bytes, cluster: bytes = b"c", *, low: int = 1, high: int = 1, incarnation: int = 1) -> bytes:
    fixed = struct.pack(
        "<HHIQQQ32sB3B", low, high, 0, incarnation, 9, 0, bytes(32), 1, len(cluster), len(node), 0
    )
    return encode_frame(TYPES["HELLO"], fixed + cluster + node)


REFUSED = {
    "another protocol": (b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", b""),
    "no frame of a handshake": (encode_frame(TYPES["PING"]), b""),
    "a handshake frame that is too long": (encode_frame(TYPES["HELLO"], bytes(1025)), b""),
    "a length of four gigabytes": (struct.pack("<BBBBIQ", 0xCF, 1, 1, 0, 0xFFFFFFFF, 0), b""),
    "a HELLO that ends too early": (encode_frame(TYPES["HELLO"], bytes(60)), b""),
    "a HELLO that ends within its names": (encode_frame(TYPES["HELLO"], hello(b"m" * 9)[16:-1]), b""),
    "a name that is no text": (hello(b"\xff\xfe"), b""),
    "no name": (hello(b""), b""),
    "its own name": (hello(b"b"), b"node ids must differ"),
    "a RESUME before HELLO": (encode_frame(TYPES["RESUME"], bytes(16)), b""),
    "two HELLOs": (hello(b"m") + hello(b"m"), b""),
    "only a later version": (hello(b"m", low=3, high=9), b"speaks protocol 3 to 9"),
    "another cluster": (hello(b"m", b"theirs"), b"check cluster_name"),
    "an incarnation that is over": (hello(b"a", incarnation=0), b"is over"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_handshake_that_breaks_a_rule_is_ended_and_counted(victim: Node, case: str) -> None:
    data, reason = REFUSED[case]
    before = victim.messaging.turned_down
    assert reason in await throw(victim, data)
    assert victim.messaging.turned_down > before


async def test_a_stranger_gets_no_more_than_4_kib_before_he_has_shaken_hands(victim: Node) -> None:
    before = victim.messaging.turned_down
    await throw(victim, hello(b"m") + encode_frame(TYPES["RESUME"], bytes(16))[:-1] + b"\xcf" * 100_000)
    assert victim.messaging.turned_down > before


async def test_half_open_handshakes_are_bounded_in_number_and_time(victim: Node) -> None:
    crowd = [await asyncio.open_connection("127.0.0.1", victim.address.port) for _ in range(40)]
    for _, writer in crowd[:20]:
        writer.write(hello(b"m")[:30])
    await until(lambda: len(victim.messaging._handshakes) == 8)
    begun = asyncio.get_running_loop().time()
    await asyncio.gather(*(closed(reader) for reader, _ in crowd))
    assert asyncio.get_running_loop().time() - begun < 5
    await until(lambda: not victim.messaging._handshakes)
    for _, writer in crowd:
        writer.close()


async def test_nodes_that_are_no_members_are_bounded_in_number(victim: Node) -> None:
    clients = [
        await asyncio.to_thread(PlainClient, "127.0.0.1", victim.address.port, name, "c", "b")
        for name in "pqr"
    ]
    assert [client.refusal is None for client in clients] == [True, True, False]
    assert clients[2].refusal is not None
    assert clients[2].refusal[0] == 7  # LIMIT
    for client in clients:
        client.close()


def record(target: int, kind: int, payload: bytes, flags: int = 2, options: bytes = b"") -> bytes:
    return PlainClient.record(target, kind, flags, options, payload)


def named(number: int, id: bytes = b"x") -> bytes:
    return record(number, NAME, id, 0)


ENDED: dict[str, Callable[[PlainClient], None]] = {
    "a frame that is too long": lambda client: client.socket.sendall(
        struct.pack("<BBBBIQ", 0xCF, 1, DATA, 0, 192 * 1024 + 4 + 1, 1)
    ),
    "a record that is too long": lambda client: client.send(DATA, struct.pack("<I", 65537) + bytes(65537), 1),
    "a control frame that is too long": lambda client: client.send(TYPES["BYE"], bytes(65537)),
    "a name number beyond the last": lambda client: client.send(DATA, named((1 << 18) + 1), 1),
    "an id that is too long": lambda client: client.send(DATA, named(1, b"x" * 1025), 1),
    "an id of nothing": lambda client: client.send(DATA, named(1, b""), 1),
    "options that do not fit": lambda client: client.send(DATA, named(1) + record(1, TELL, b"\1", 0xFF), 1),
    "a transfer that never came": lambda client: client.send(
        DATA, named(1) + record(1, TELL, bytes(4), 0x82), 1
    ),
    "a sender that was never named": lambda client: client.send(
        DATA, named(1) + record(1, TELL, b"\1", 6, struct.pack("<I", 2)), 1
    ),
    "a second handshake": lambda client: client.socket.sendall(hello(b"m")),
}


@pytest.mark.parametrize("case", ENDED)
async def test_a_link_that_breaks_a_rule_is_ended_and_counted(victim: Node, case: str) -> None:
    client = await asyncio.to_thread(PlainClient, "127.0.0.1", victim.address.port, "mallory", "c", "b")
    before = victim.messaging.turned_down

    def misbehave() -> None:
        ENDED[case](client)
        with contextlib.suppress(ConnectionError):
            while True:
                client.receive()

    await asyncio.to_thread(misbehave)
    assert victim.messaging.turned_down == before + 1
    client.close()


async def test_all_names_of_a_link_can_be_given_and_the_last_one_is_good(victim: Node) -> None:
    client = await asyncio.to_thread(PlainClient, "127.0.0.1", victim.address.port, "mallory", "c", "b")

    def talk() -> int:
        for first in range(1, 1 << 18, 4096):
            client.send(
                DATA, b"".join(named(n, b"n%06d" % n) for n in range(first, first + 4096)), client.next
            )
        client.send(DATA, named(1 << 18), client.next)
        client.names["x"] = 1 << 18
        return client.tell("x", "the last name")

    assert await asyncio.to_thread(talk) == 0
    client.close()


async def test_a_message_that_nests_too_deep_is_refused_and_the_link_goes_on(victim: Node) -> None:
    client = await asyncio.to_thread(PlainClient, "127.0.0.1", victim.address.port, "mallory", "c", "b")

    def talk() -> list[int]:
        verdicts = []
        for depth in (60, 65, 60_000):
            number, client.next = client.next, client.next + 1
            client.send(DATA, named(1) + record(1, TELL, b"\x91" * depth + b"\1"), number)
            while client.acked < number:
                client.step()
            verdicts.append(client.verdicts.get(number, 0))
        return verdicts

    assert await asyncio.to_thread(talk) == [0, UNREADABLE, UNREADABLE]
    client.close()


async def test_an_ask_with_a_broken_payload_is_refused_and_not_answered_with_a_traceback(
    victim: Node,
) -> None:
    client = await asyncio.to_thread(PlainClient, "127.0.0.1", victim.address.port, "mallory", "c", "b")

    def talk() -> int:
        client.send(DATA, named(1) + record(1, ASK, b"\xc1", 0x0A, struct.pack("<Q", 5)), 1)
        while client.acked < 1:
            client.step()
        return client.verdicts[1]

    assert await asyncio.to_thread(talk) == UNREADABLE
    client.close()
