"""The first bytes of a connection: who is there, and where did we leave off. Sans-IO.

    dialler                        acceptor
    HELLO ───────────────────────▶           versions, cluster, ids, incarnation, the lane it sends
          ◀─────────── HELLO, RESUME         or REFUSE with a reason
    RESUME ──────────────────────▶           which lane of the other's it knows, and up to where
    START, ACK, frames ◀═════════▶ START, ACK, frames

With authentication there is a challenge and two proofs between them: see ``auth``.

Laws: fixed layout, a few hundred bytes at most, read without decoding anything; each refusal has a code and a sentence.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from cajun_fast._core.frame import HEADER_SIZE, TYPES, decode_header, encode_frame
from cajun_fast.errors import HandshakeError, ProtocolError
from cajun_fast.messaging.auth import Challenge, Proof, decode_auth
from cajun_fast.ports import Invitation

PROTOCOL_VERSION = 2  # spoken here
OLDEST_VERSION = 1  # and still understood: a cluster is brought up to date one node at a time
FEATURES_SINCE = 2  # the version from which on features count
HELLO_MOST = 1024
NONCE = 32

_FIXED = struct.Struct(
    f"<HHIQQQ{NONCE}sB3B"
)  # versions, features, incarnation, stream, established, nonce, role, lengths
_RESUME = struct.Struct("<QQ")
_INVITATION = struct.Struct("<HI16s")  # port, id, key; the host is the rest of the frame


class Feature(enum.IntFlag):
    """What a node can do beyond its protocol version; used where both ends can."""

    BEAT = 1
    TRACE = 2  # it reads the trace of a message; others pass over it
    CHUNKS = 4  # it takes chunks of large messages of up to 256 KiB; others 32 KiB


class Refusal(enum.IntEnum):
    """Why a handshake was turned down."""

    VERSION = 1
    CLUSTER = 2
    IDENTITY = 3
    STALE = 4
    SIMULTANEOUS = 5
    STOPPING = 6
    LIMIT = 7
    AUTH = 8


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself. ``stream`` numbers its outgoing lane, ``established`` the connections so far."""

    node: str
    incarnation: int
    cluster: str
    target: str
    stream: int
    established: int
    nonce: bytes = bytes(NONCE)
    min_version: int = OLDEST_VERSION
    max_version: int = PROTOCOL_VERSION
    features: int = 0
    client: bool = False

    def encode(self) -> bytes:
        names = [name.encode() for name in (self.cluster, self.node, self.target)]
        if any(len(name) > 255 for name in names):
            raise HandshakeError("cluster names and node ids have at most 255 bytes")
        fixed = _FIXED.pack(
            self.min_version, self.max_version, self.features, self.incarnation, self.stream, self.established,
            self.nonce, int(self.client), *(len(name) for name in names),
        )  # fmt: skip
        return encode_frame(TYPES["HELLO"], fixed + b"".join(names))

    @classmethod
    def decode(cls, body: bytes) -> Hello:
        if len(body) < _FIXED.size:
            raise ProtocolError(f"a HELLO of {len(body)} bytes, {_FIXED.size} are the least")
        low, high, features, incarnation, stream, established, nonce, role, *lengths = _FIXED.unpack_from(
            body
        )
        if len(body) < _FIXED.size + sum(lengths):
            raise ProtocolError("a HELLO that ends within its names")
        names, at = [], _FIXED.size
        for length in lengths:
            try:
                names.append(body[at : at + length].decode())
            except UnicodeDecodeError as error:
                raise ProtocolError(f"a name in HELLO is not utf-8: {error}") from error
            at += length
        cluster, node, target = names
        if not node:
            raise ProtocolError("a HELLO without a node id")
        return cls(
            node,
            incarnation,
            cluster,
            target,
            stream,
            established,
            nonce,
            low,
            high,
            features,
            bool(role & 1),
        )


@dataclass(frozen=True, slots=True)
class Resume:
    """``stream``: the lane of the other's that this side knows, 0 for none; ``watermark``: up to where.
    ``invitation``: how to send this side beats, with Feature.BEAT only."""

    stream: int
    watermark: int
    invitation: Invitation | None = None

    def encode(self) -> bytes:
        body = _RESUME.pack(self.stream, self.watermark)
        if self.invitation is not None:
            host, *numbers = self.invitation
            body += _INVITATION.pack(*numbers) + host.encode()
        return encode_frame(TYPES["RESUME"], body)

    @classmethod
    def decode(cls, body: bytes) -> Resume:
        if len(body) < _RESUME.size:
            raise ProtocolError(f"a RESUME of {len(body)} bytes, {_RESUME.size} are due")
        stream, watermark = _RESUME.unpack_from(body)
        return cls(stream, watermark, _invitation(body[_RESUME.size :]))


def _invitation(rest: bytes) -> Invitation | None:
    if len(rest) < _INVITATION.size:
        return None
    port, number, key = _INVITATION.unpack_from(rest)
    return Invitation(rest[_INVITATION.size :].decode("ascii", "replace"), port, number, key)


class Refused(HandshakeError):  # noqa: N818 - a message of the protocol that is also raised
    """The other side, or this one, turned the handshake down."""

    def __init__(self, code: Refusal, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)

    def encode(self) -> bytes:
        return encode_frame(TYPES["REFUSE"], bytes([self.code]) + self.reason.encode()[:500])

    @classmethod
    def decode(cls, body: bytes) -> Refused:
        code = body[0] if body and body[0] in set(Refusal) else Refusal.IDENTITY
        return cls(Refusal(code), body[1:].decode("utf-8", "replace") or "no reason given")


Frame = Hello | Resume | Refused | Challenge | Proof

#: First bytes of TLS records: a handshake, an alert.
TLS_RECORDS = (0x16, 0x15)


def parse_frame(data: bytes) -> tuple[Frame | None, int]:
    """The first whole frame of ``data`` and its length; (None, 0) while it is not whole. Raises ProtocolError."""
    if data and data[0] in TLS_RECORDS:
        raise ProtocolError("the other side speaks TLS, this one does not: turn TLS on here, or off there")
    if data and data[0] != 0xCF:
        raise ProtocolError(f"the first byte is 0x{data[0]:02x}: this is not our protocol")
    if len(data) < HEADER_SIZE:
        return None, 0
    kind, _, length, _ = decode_header(data[:HEADER_SIZE])
    if length > HELLO_MOST:
        raise ProtocolError(f"a handshake frame of {length} bytes, {HELLO_MOST} are the most")
    end = HEADER_SIZE + length
    if len(data) < end:
        return None, 0
    body = data[HEADER_SIZE:end]
    if kind == TYPES["HELLO"]:
        return Hello.decode(body), end
    if kind == TYPES["RESUME"]:
        return Resume.decode(body), end
    if kind == TYPES["REFUSE"]:
        return Refused.decode(body), end
    if kind == TYPES["AUTH"]:
        return decode_auth(body), end
    raise ProtocolError(f"frame type {kind} during the handshake")


def agree(mine: Hello, theirs: Hello) -> tuple[int, int]:
    """The version that both speak, the highest one, and the features that both have. Raises Refused for none."""
    if theirs.max_version < mine.min_version or theirs.min_version > mine.max_version:
        raise Refused(
            Refusal.VERSION,
            f"node {theirs.node!r} speaks protocol {theirs.min_version} to {theirs.max_version}, "
            f"node {mine.node!r} {mine.min_version} to {mine.max_version}: bring one of them up to date",
        )
    version = min(mine.max_version, theirs.max_version)
    return version, mine.features & theirs.features if version >= FEATURES_SINCE else 0


def check_cluster(mine: Hello, theirs: Hello) -> None:
    """Raises Refused for a node of another cluster."""
    if theirs.cluster != mine.cluster:
        raise Refused(
            Refusal.CLUSTER,
            f"node {theirs.node!r} belongs to cluster {theirs.cluster!r}, this is {mine.cluster!r}: check cluster_name",
        )
