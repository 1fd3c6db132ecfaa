"""What hostile bytes are thrown at: the codec, the handshake, a whole link. One function each: bytes in, nothing out.

Laws: an input may end a connection (ProtocolError, Refused) or be told as unreadable (SerializationError); any other
exception, a sanitizer's report and a state that does not hold together are findings. A link's input is a small program,
one operation after the other, so that a mutation changes what is sent and not only whether it is well-formed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from cajun_fast._core.codec import Codec
from cajun_fast._core.frame import TYPES, encode_frame
from cajun_fast._core.heart import KEY_SIZE, MOST_SLOTS, Heart, siphash
from cajun_fast._core.link import Link
from cajun_fast._core.probe import PyWire, answer, fault
from cajun_fast.actors.system import ActorSystem
from cajun_fast.errors import BackpressureError, CajunError, ProtocolError, SerializationError
from cajun_fast.messaging.auth import KeyRing
from cajun_fast.messaging.connection import Connection
from cajun_fast.messaging.handshake import Refused
from cajun_fast.messaging.security import Security
from cajun_fast.messaging.system import MessagingSystem
from tests.core.link_world import FULL, MOVING, NOT_HERE, TAKEN, Actor, Clock, Node

SMALL = {"window": 20_000, "max_message": 20_000, "max_bulk": 60_000, "bulk_window": 40_000, "max_names": 6}
MODES = (TAKEN, FULL, MOVING, NOT_HERE)
DATA = TYPES["DATA"]
STREAM = 7


class Reader:
    """An input, taken apart from the front; past its end everything is 0."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def byte(self) -> int:
        return (self.take(1) or b"\0")[0]

    def number(self) -> int:
        """A small one mostly, a wild one at times."""
        first = self.byte()
        return first if first < 250 else int.from_bytes(self.take(1 << (first & 3)), "little")

    def text(self) -> bytes:
        return self.take(self.number() & 0x3FFF)


# ---- codec -----------------------------------------------------------------------------------------------------------

_codec = Codec()


def codec(data: bytes) -> None:
    """What can be read is written again, and reads the same."""
    try:
        value = _codec.decode(data)
    except SerializationError:
        return
    with contextlib.suppress(SerializationError):
        again = _codec.encode(value)
        assert repr(_codec.decode(again)) == repr(value)


# ---- a link ----------------------------------------------------------------------------------------------------------


class LinkGame:
    """A link between this node and a peer whose every word comes from the input."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.clock = Clock()
        self.node = Node("b", self.clock, _loop, **SMALL)
        self.node.link_options = {**SMALL}
        self.actors = [Actor(self.node, f"x{i}", []) for i in range(3)]
        for actor in self.actors:
            self.node.exchange.open_inbox(actor.id, actor)
        self.link: Link = self.node.link("a")
        self.sent = 0
        self.attach()

    def attach(self) -> None:
        self.wire = PyWire()
        self.link.attach(self.wire)
        self.due = self.link.inbound.watermark + 1
        self.feed(encode_frame(TYPES["START"], b"", STREAM))

    def feed(self, data: bytes) -> None:
        try:
            self.link.feed(data)
        except (ProtocolError, Refused):
            self.link.detach(self.wire)
            self.link.collect()
            self.attach()

    def play(self) -> None:
        operations = (
            self.raw, self.data, self.record, self.name, self.ack, self.bulk, self.control, self.reconnect,
            self.send, self.collect, self.pass_time, self.turn_actor, self.answer, self.frame,
        )  # fmt: skip
        while self.reader and not self.link.ended:
            operations[self.reader.byte() % len(operations)]()
        self.check()

    # What the peer says.

    def raw(self) -> None:
        self.feed(self.reader.text())

    def frame(self) -> None:
        self.feed(encode_frame(self.reader.byte(), self.reader.text(), self.reader.number()))

    def data(self) -> None:
        self.feed(encode_frame(DATA, self.reader.text(), self.due))

    def record(self) -> None:
        take = self.reader
        target, kind, flags, tag = take.byte(), take.byte(), take.byte(), take.number()
        extra, kind = kind >= 128, 1 + kind % 5
        options = b""
        for flag, layout in ((0x04, "<I"), (0x08, "<Q"), (0x10, "<I"), (0x20, "<I")):
            if flags & flag:
                options += struct.pack(layout, take.byte() if flag != 0x08 else tag & (2**64 - 1))
        if extra:  # what no flag names: a trace, or anything
            options += take.text()[:1000]
        self.numbered(struct.pack("<IBBH", target, kind, flags, len(options)) + options + take.text())

    def numbered(self, body: bytes) -> None:
        self.feed(encode_frame(DATA, struct.pack("<I", len(body)) + body, self.due))
        self.due = self.link.inbound.watermark + 1

    def name(self) -> None:
        number, actor = self.reader.byte(), self.reader.byte()
        id = b"x%d" % (actor % 4) if actor < 200 else self.reader.text()
        body = struct.pack("<IBBH", number, 0, 0, 0) + id
        self.feed(encode_frame(DATA, struct.pack("<I", len(body)) + body, self.due))

    def ack(self) -> None:
        take = self.reader
        watermark = max(0, self.link.flushed - take.byte() % 8)
        refusals = b""
        count = take.byte() % 4
        for _ in range(count):
            hint = b"c" * (take.byte() % 3)
            number = max(0, watermark - take.byte() % 4)
            refusals += struct.pack("<QBB", number, take.byte() % 12, len(hint)) + hint
        confirmed = take.number() & (2**64 - 1)
        body = struct.pack("<QQI", confirmed, take.number() & (2**64 - 1), count) + refusals
        self.feed(encode_frame(TYPES["ACK"], body, watermark))

    def bulk(self) -> None:
        take = self.reader
        id, total, offset = take.byte() % 4, take.number(), take.number()
        body = struct.pack("<II", total & 0xFFFFFFFF, offset & 0xFFFFFFFF) + take.text()
        self.feed(encode_frame(TYPES["BULK"], body, id))

    def control(self) -> None:
        kind = ("START", "PING", "BYE", "ROOM")[self.reader.byte() % 4]
        body = self.reader.text() if self.reader.byte() & 1 else b"p%d" % (self.reader.byte() % 3)
        self.feed(encode_frame(TYPES[kind], body, STREAM if kind == "START" else 0))

    # What happens on this side.

    def reconnect(self) -> None:
        self.link.detach(self.wire)
        if self.reader.byte() & 1:
            self.collect()
        self.attach()

    def send(self) -> None:
        choice = self.reader.byte()
        pid = self.node.exchange.pid(f"p{choice % 3}")
        self.sent += 1
        message = {"n": self.sent, "pad": b"x" * (0, 0, 500, 9_000)[choice >> 2 & 3]}
        try:
            if choice & 0x10:
                pid.send(message, deadline=0.01 if choice & 0x20 else None)
            else:
                pid.tell(message, deadline=0.01 if choice & 0x20 else None)
        except (BackpressureError, CajunError):
            pass
        while self.node.router.asking:
            self.node.router.asking.popleft().bind_carrier(self.link)

    def collect(self) -> None:
        self.link.collect()

    def pass_time(self) -> None:
        self.clock.now += self.reader.byte() * 1_000_000
        self.node.exchange.expire(self.clock.now)
        self.link.tick(self.clock.now)

    def turn_actor(self) -> None:
        actor, mode = self.actors[self.reader.byte() % 3], MODES[self.reader.byte() % 4]
        if mode == TAKEN:
            actor.open()
        actor.mode = mode

    def answer(self) -> None:
        for actor in self.actors:
            for replies, tag, number in actor.asked[:1]:
                if self.reader.byte() & 1:
                    answer(replies, tag, {"n": number, "pad": b"y" * (30_000 * (self.reader.byte() & 1))})
                else:
                    fault(replies, tag, ValueError("nonsense"))
            del actor.asked[:1]

    # What must hold, whatever was said.

    def check(self) -> None:
        self.link.collect()
        assert self.link.held_bytes >= 0
        assert self.link.held_bytes < SMALL["window"] + 4 * 9_500 + 65_536 + 31_000 * (1 + self.reader.at)
        waits = self.link.waits
        assert waits["names"] <= SMALL["max_names"]
        assert waits["transfers"] <= 4096
        self.link.end("the game is over")
        assert self.link.waits["rerouting"] == self.link.waits["blocked"] == self.link.waits["waiters"] == 0
        for lane in self.node.exchange.lanes():
            lane.fail(CajunError("over"))
        assert self.node.exchange.waiting_bytes == 0


def link(data: bytes) -> None:
    LinkGame(Reader(data)).play()
    _turn()


# ---- a connection, from its first byte -------------------------------------------------------------------------------


class Transport(asyncio.Transport):
    """Swallows what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: Any) -> None:
        pass

    def writelines(self, list_of_data: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


def connection(data: bytes) -> None:
    """Bytes of a stranger, in pieces as the input says; then the socket closes."""
    _loop.run_until_complete(_connection(Reader(data), Security()))


def stranger(data: bytes) -> None:
    """The same where a proof is asked for: nobody comes in, and no peer is made."""
    security = Security()
    security.ring = KeyRing([bytes(range(32))])
    _loop.run_until_complete(_connection(Reader(data), security))


async def _connection(reader: Reader, security: Security) -> None:
    async with ActorSystem("b") as actors:
        system = MessagingSystem(
            "b", 1, "c", actors.exchange, actors.dispatcher, actors.ports, security=security
        )
        await actors.spawn(lambda message, context: message, "x")
        link, transport = Connection(system, None), Transport()
        link.connection_made(transport)
        while reader and not transport.closed:
            feed(link, transport, reader.text())
            await asyncio.sleep(0)
        link.connection_lost(None)
        assert not system._handshakes
        assert not system._connections
        assert not (system.ring and (system.nodes or link.link))
        for node in system.nodes:
            system.remove_node(node, 1 << 62)
        await system.stop()


def feed(link: Connection, transport: Transport, data: bytes) -> None:
    while data and not transport.closed:
        buffer = link.get_buffer(-1)
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        link.buffer_updated(count)
        data = data[count:]


# ---- the beat --------------------------------------------------------------------------------------------------------


class BeatGame:
    """Datagrams of strangers, of the past, and of those who know a key; and a model of which of them count."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        self.heart = Heart(sock.detach(), 3600.0)
        self.known: dict[int, tuple[bytes, int, tuple[int, int] | None]] = {}  # slot: key, last number, pulse
        self.dropped = 0

    def play(self) -> None:
        moves = (self.expect, self.forget, self.throw, self.sign, self.sign)
        try:
            while self.reader:
                moves[self.reader.byte() % len(moves)]()
            for slot, (_, _, pulse) in self.known.items():
                heard = self.heart.last(slot)
                assert (heard and heard[1:]) == pulse
            assert self.heart.dropped == self.dropped
        finally:
            self.heart.close()

    def expect(self) -> None:
        slot, key = self.reader.number(), self.key()
        try:
            self.heart.expect(slot, key)
        except (ValueError, OverflowError):
            assert slot >= MOST_SLOTS
            return
        pulse = self.known[slot][2] if slot in self.known else None
        self.known[slot] = key, 0, pulse

    def forget(self) -> None:
        slot = self.reader.number() & 0xFFFFFFFF
        self.heart.forget(slot)
        self.known.pop(slot, None)
        assert self.heart.last(slot) is None

    def throw(self) -> None:
        self.take_in(self.reader.text())

    def sign(self) -> None:
        """By somebody with a key; what it says is as wild as the input."""
        slot, number, turns, standing = (self.reader.number() for _ in range(4))
        body = b"\xcf\xbe\x01" + bytes([self.reader.byte() & 1])
        body += struct.pack(
            "<I3Q", slot & 0xFFFFFFFF, *(each & (1 << 64) - 1 for each in (number, turns, standing))
        )
        self.take_in(body + struct.pack("<Q", siphash(self.key(), body)) + bytes(self.reader.byte() == 7))

    def key(self) -> bytes:
        return bytes([self.reader.byte() & 1]) * KEY_SIZE

    def take_in(self, data: bytes) -> None:
        self.heart.take_in(data)
        if not self.is_genuine(data):
            self.dropped += 1

    def is_genuine(self, data: bytes) -> bool:
        if len(data) != 40 or not data.startswith(b"\xcf\xbe\x01"):
            return False
        slot, number, turns, standing, mac = struct.unpack("<I4Q", data[4:])
        if slot not in self.known:
            return False
        key, last, _ = self.known[slot]
        if number <= last or mac != siphash(key, data[:32]):
            return False
        self.known[slot] = key, number, (standing & (1 << 63) - 1, turns)
        return True


def beat(data: bytes) -> None:
    BeatGame(Reader(data)).play()


_loop = asyncio.new_event_loop()
_loop.set_exception_handler(lambda loop, context: None)


def _turn() -> None:
    _loop.call_soon(_loop.stop)
    _loop.run_forever()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "codec": codec, "link": link, "connection": connection, "stranger": stranger, "beat": beat,
}  # fmt: skip
