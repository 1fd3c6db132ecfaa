"""Whatever a stranger says before a proof: the connection ends by a rule of the protocol, and nothing else happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cajun_fast.errors import ProtocolError
from cajun_fast.messaging.auth import NO_CHANNEL, Challenge, KeyRing, Proof
from cajun_fast.messaging.handshake import Hello, Refused, parse_frame
from cajun_fast.messaging.introduction import Introduction
from tests.messaging.nodes import until
from tests.security.outsider import Outsider, frame, hello

KEY = b"0123456789abcdef" * 2
MINE = Hello("b", 5, "c", "", 3, 0, bytes(range(32)))
THEIRS = Hello("a", 4, "c", "b", 9, 2, bytes(reversed(range(32))))

#: Each frame of a handshake by its place.
PLACES = ["HELLO", "challenge", "proof of the dialler", "HELLO of the acceptor", "proof of the acceptor"]


def handshake(change: Any = lambda place, frame: frame) -> tuple[Any, Any]:
    """Both sides, and somebody between them; returns what each believes. Raises Refused and ProtocolError."""
    dialler, acceptor = Introduction(KeyRing([KEY]), NO_CHANNEL), Introduction(KeyRing([KEY]), NO_CHANNEL)

    def over(place: int, data: bytes) -> tuple[Any, bytes]:
        data = change(place, data)
        parsed, used = parse_frame(data)
        if parsed is None:
            raise ProtocolError("not whole: it ends by its time")
        return parsed, data[:used]

    def expect(kind: type, parsed: Any) -> Any:
        if not isinstance(parsed, kind):
            raise ProtocolError("out of order")
        return parsed

    said = THEIRS.encode()
    dialler.begin(said)
    parsed, raw = over(0, said)
    challenge = acceptor.challenge(expect(Hello, parsed), raw, MINE)
    parsed, raw = over(1, challenge.encode())
    proof = dialler.prove(expect(Challenge, parsed), raw, "b")
    parsed, raw = over(2, proof.encode())
    believed = acceptor.admit(expect(Proof, parsed))
    answer = MINE.encode()
    back = acceptor.answer(answer)
    parsed, raw = over(3, answer)
    dialler.keep(expect(Hello, parsed), raw)
    parsed, raw = over(4, back.encode())
    return believed, dialler.trust(expect(Proof, parsed))


def test_an_honest_handshake_is_believed() -> None:
    assert handshake() == (THEIRS, MINE)


@pytest.mark.parametrize("place", range(len(PLACES)), ids=PLACES)
def test_no_byte_can_be_changed_unnoticed(place: int) -> None:
    """But for the sequence number in a header, which a handshake does not use, where nothing is signed."""
    length = 0

    def measure(at: int, data: bytes) -> bytes:
        nonlocal length
        length = len(data) if at == place else length
        return data

    handshake(measure)
    unnoticed = []
    for at in range(length):
        for bit in (1, 0x80):

            def flip(where: int, data: bytes, at: int = at, bit: int = bit) -> bytes:
                return data if where != place else data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]

            try:
                handshake(flip)
                unnoticed.append(at)
            except (Refused, ProtocolError):
                pass
    proofs = PLACES[place].startswith("proof")
    assert set(unnoticed) <= (set(range(8, 16)) | {3} if proofs else set())


@given(st.binary(max_size=1200))
def test_any_bytes_are_a_frame_or_not_whole_or_an_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        _, used = parse_frame(data)
        assert 0 <= used <= len(data)


bodies = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda at, byte: bytes([*MINE.encode()[16:][:at], byte, *MINE.encode()[16:][at + 1 :]]),
              st.integers(0, 70), st.integers(0, 255)),
    st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 3), st.binary(min_size=30, max_size=60)),
)  # fmt: skip
frames = st.one_of(
    st.binary(max_size=100),
    st.builds(frame, st.integers(0, 40), bodies),
    st.just(hello("a", "b")),
    st.builds(lambda n: frame(5, b"\x02" + bytes([n]) * 32), st.integers(0, 255)),
)


@given(st.lists(frames, max_size=6), st.lists(st.integers(1, 400), max_size=6))
@settings(max_examples=60)
def test_a_node_takes_any_words_in_any_pieces(words: list[bytes], cuts: list[int]) -> None:
    """Against a whole node, over a real socket: it never believes, never breaks, never remembers."""
    asyncio.run(_talk(b"".join(words), cuts))


async def _talk(data: bytes, cuts: list[int]) -> None:
    node = await _node()
    faults = Faults()
    try:
        reader, writer = await asyncio.open_connection(node.address.host, node.address.port)
        with contextlib.suppress(ConnectionError):
            for cut in cuts:
                writer.write(data[:cut])
                data = data[cut:]
                await asyncio.sleep(0)
            writer.write(data)
            if not writer.is_closing():
                with contextlib.suppress(OSError):  # the node has closed it before
                    writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await until(lambda: not node.messaging.door.half_open)
        assert node.messaging.nodes == []
        assert faults.seen == []
    finally:
        faults.log.removeHandler(faults)
        await node.stop()


class Faults(logging.Handler):
    """What is logged as a fault of this package's own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []
        self.log = logging.getLogger("cajun_fast")
        self.log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


async def _node() -> Any:
    from cajun_fast.messaging.security import Security
    from tests.messaging.nodes import Node

    class Fixed:
        def ring(self) -> KeyRing:
            return KeyRing([KEY])

    return await Node("b", security=Security(keys=Fixed())).start()  # type: ignore[arg-type]


async def test_tls_bytes_that_are_none_end_the_connection(office: Any, make_node_with: Any) -> None:
    b = await make_node_with("b", office.security("b"), handshake_timeout=1.0)
    pieces = [
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05hello",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x00" * 5000,
    ]
    pieces += [bytes([0x16, 3, 1, 2, 0, 1, 0, n]) + bytes(600) for n in range(0, 256, 16)]

    def talk(data: bytes) -> None:
        with Outsider(b.address, "x", "b") as client, contextlib.suppress(ConnectionError):
            client.socket.sendall(data)
            client.ended()

    for data in pieces:
        await asyncio.wait_for(asyncio.to_thread(talk, data), 10)
    await until(lambda: not b.messaging.door.half_open)
    assert b.messaging.nodes == []
