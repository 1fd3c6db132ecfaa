"""A client in plain Python, written from docs/wire-protocol.md alone: tell, ask, acks, refusals."""

from __future__ import annotations

import socket
import struct
from typing import Any

import msgpack

HEADER = struct.Struct("<BBBBIQ")
HELLO, REFUSE, RESUME, START, DATA, ACK = 1, 2, 3, 4, 16, 32
NAME, TELL, ASK, REPLY, FAULT = 0, 1, 2, 3, 4
TAKEN, EXACTLY_ONCE, WITH_TAG = 0, 2, 0x08


class PlainClient:
    """One node that only sends. ``verdicts`` holds what became of each number."""

    def __init__(self, host: str, port: int, node: str, cluster: str, target: str, stream: int = 77) -> None:
        self.node, self.cluster, self.target, self.stream = node, cluster, target, stream
        self.names: dict[str, int] = {}
        self.next, self.acked, self.watermark, self.tag = 1, 0, 0, 0
        self.verdicts: dict[int, int] = {}
        self.answers: dict[int, tuple[int, Any]] = {}
        self.refusal: tuple[int, str] | None = None
        self.buffer = b""
        self.socket = socket.create_connection((host, port), timeout=5)
        self.shake_hands()

    # ---- frames

    def send(self, kind: int, body: bytes = b"", sequence: int = 0) -> None:
        self.socket.sendall(HEADER.pack(0xCF, 1, kind, 0, len(body), sequence) + body)

    def read_exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the node has closed the connection")
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def receive(self) -> tuple[int, int, bytes]:
        magic, version, kind, _, length, sequence = HEADER.unpack(self.read_exactly(HEADER.size))
        assert (magic, version) == (0xCF, 1)
        return kind, sequence, self.read_exactly(length)

    # ---- handshake

    def shake_hands(self) -> None:
        names = [text.encode() for text in (self.cluster, self.node, self.target)]
        fixed = struct.pack("<HHIQQQ32sB3B", 1, 1, 0, 1, self.stream, 0, bytes(32), 1, *map(len, names))
        self.send(HELLO, fixed + b"".join(names))
        kind, _, body = self.receive()
        if kind == REFUSE:
            self.refusal = body[0], body[1:].decode()
            return
        assert kind == HELLO
        kind, _, body = self.receive()
        assert (kind, len(body)) == (RESUME, 16)
        self.send(RESUME, struct.pack("<QQ", 0, 0))
        self.send(START, sequence=self.stream)
        self.send_ack()

    def send_ack(self) -> None:
        self.send(ACK, struct.pack("<QQI", max(self.verdicts, default=0), 0, 0), self.watermark)

    # ---- messages

    def post(self, kind: int, actor: str, message: Any, tag: int = 0) -> int:
        records = b""
        if actor not in self.names:
            self.names[actor] = len(self.names) + 1
            records += self.record(self.names[actor], NAME, 0, b"", actor.encode())
        options = struct.pack("<Q", tag) if tag else b""
        flags = EXACTLY_ONCE | (WITH_TAG if tag else 0)
        records += self.record(self.names[actor], kind, flags, options, msgpack.packb(message))
        number, self.next = self.next, self.next + 1
        self.send(DATA, records, number)
        return number

    @staticmethod
    def record(target: int, kind: int, flags: int, options: bytes, payload: bytes) -> bytes:
        body = struct.pack("<IBBH", target, kind, flags, len(options)) + options + payload
        return struct.pack("<I", len(body)) + body

    def tell(self, actor: str, message: Any) -> int:
        """Returns its verdict."""
        number = self.post(TELL, actor, message)
        while self.acked < number:
            self.step()
        return self.verdicts.get(number, TAKEN)

    def ask(self, actor: str, message: Any) -> tuple[int, Any]:
        """Returns (REPLY, value) or (FAULT, map)."""
        self.tag += 1
        self.post(ASK, actor, message, self.tag)
        while self.tag not in self.answers:
            self.step()
        return self.answers.pop(self.tag)

    def step(self) -> None:
        """Take in one frame."""
        kind, sequence, body = self.receive()
        if kind == ACK:
            self.on_ack(sequence, body)
        elif kind == DATA:
            self.on_data(sequence, body)

    def on_ack(self, watermark: int, body: bytes) -> None:
        _, _, count = struct.unpack_from("<QQI", body)
        at = 20
        for _ in range(count):
            number, verdict, hint = struct.unpack_from("<QBB", body, at)
            self.verdicts[number] = verdict
            at += 10 + hint
        self.acked = watermark
        if count:
            self.send_ack()

    def on_data(self, sequence: int, body: bytes) -> None:
        at = 0
        while at < len(body):
            (size,) = struct.unpack_from("<I", body, at)
            _, kind, flags, options = struct.unpack_from("<IBBH", body, at + 4)
            payload = body[at + 12 + options : at + 4 + size]
            if kind in (REPLY, FAULT) and flags & WITH_TAG and sequence > self.watermark:
                (tag,) = struct.unpack_from("<Q", body, at + 12)
                self.answers[tag] = kind, msgpack.unpackb(payload)
            if kind != NAME:
                self.watermark = max(self.watermark, sequence)
                sequence += 1
            at += 4 + size
        self.send_ack()

    def close(self) -> None:
        self.socket.close()
