"""A stranger with a socket: a client written from docs/wire-protocol.md alone, which can lie about everything."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

from tests.messaging.plain_client import HEADER, HELLO, REFUSE, RESUME, START, PlainClient

AUTH = 5
PROOF = b"\x02"
CHALLENGE = struct.Struct("<BHHIQ32sB")


@dataclass
class Said:
    """Of one handshake, for whoever wants to say it again."""

    hello: bytes = b""
    challenge: bytes = b""
    proof: bytes = b""
    their_hello: bytes = b""
    frames: list[bytes] = field(default_factory=list)


def frame(kind: int, body: bytes = b"") -> bytes:
    return HEADER.pack(0xCF, 1, kind, 0, len(body), 0) + body


def hello(node: str, target: str, *, cluster: str = "c", incarnation: int = 1, stream: int = 77) -> bytes:
    names = [text.encode() for text in (cluster, node, target)]
    fixed = struct.pack("<HHIQQQ32sB3B", 1, 1, 0, incarnation, stream, 0, os.urandom(32), 1, *map(len, names))
    return frame(HELLO, fixed + b"".join(names))


def said(channel: bytes, *frames: bytes) -> bytes:
    parts = b"".join(struct.pack("<H", len(each)) + each for each in frames)
    return hashlib.sha256(b"cajun-fast handshake 1\0" + channel + parts).digest()


def digest(key: str, role: bytes, said: bytes) -> bytes:
    return hmac.new(key.encode(), b"cajun-fast 1 " + role + b"\0" + said, "sha256").digest()


def channel_of(tls: Any, own_der: bytes) -> bytes:
    """As a client of that connection sees it."""
    said = hashlib.sha256(b"cajun-fast channel 1\0")
    for part in (
        tls.version().encode(),
        tls.get_channel_binding("tls-unique"),
        tls.getpeercert(True),
        own_der,
    ):
        said.update(struct.pack("<I", len(part)) + part)
    return said.digest()


class Outsider(PlainClient):
    """A node by its own word. ``context``: speak TLS with it; ``own_der``: the certificate shown then."""

    def __init__(
        self, address: Any, node: str, target: str, *, key: str | None = None,
        context: ssl.SSLContext | None = None, own_der: bytes = b"", cluster: str = "c", incarnation: int = 1,
    ) -> None:  # fmt: skip
        self.node, self.cluster, self.target, self.stream = node, cluster, target, 77
        self.incarnation, self.key, self.own_der = incarnation, key, own_der
        self.names: dict[str, int] = {}
        self.next, self.acked, self.watermark, self.tag = 1, 0, 0, 0
        self.verdicts: dict[int, int] = {}
        self.answers: dict[int, tuple[int, Any]] = {}
        self.refusal: tuple[int, str] | None = None
        self.buffer = b""
        self.said = Said()
        self.socket: Any = socket.create_connection((address.host, address.port), timeout=5)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    @property
    def channel(self) -> bytes:
        return channel_of(self.socket, self.own_der) if isinstance(self.socket, ssl.SSLSocket) else bytes(32)

    def read_frame(self) -> bytes:
        head = self.read_exactly(HEADER.size)
        return head + self.read_exactly(HEADER.unpack(head)[4])

    def shake_hands(self) -> None:
        """The whole of it, honestly; ``refusal`` says how it ended."""
        log = self.said
        log.hello = hello(self.node, self.target, cluster=self.cluster, incarnation=self.incarnation)
        self.socket.sendall(log.hello)
        if self.key is not None:
            log.challenge = self.read_frame()
            if self.refused(log.challenge):
                return
            assert log.challenge[2] == AUTH
            assert log.challenge[16] == 1
            proof = digest(self.key, b"dialler", said(self.channel, log.hello, log.challenge))
            log.proof = frame(AUTH, PROOF + proof)
            self.socket.sendall(log.proof)
        log.their_hello = self.read_frame()
        if self.refused(log.their_hello):
            return
        assert log.their_hello[2] == HELLO
        if self.key is not None:
            theirs = self.read_frame()
            due = digest(self.key, b"acceptor", said(self.channel, log.hello, log.challenge, log.their_hello))
            assert theirs == frame(AUTH, PROOF + due)
        assert self.read_frame()[2] == RESUME
        self.send(RESUME, struct.pack("<QQ", 0, 0))
        self.send(START, sequence=self.stream)
        self.send_ack()

    def refused(self, frame: bytes) -> bool:
        if frame[2] == REFUSE:
            self.refusal = frame[16], frame[17:].decode()
        return self.refusal is not None

    def __enter__(self) -> Outsider:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ended(self) -> bool:
        """Wait for the other side to close; whether it did without a word."""
        try:
            return self.socket.recv(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True
