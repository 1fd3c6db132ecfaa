"""Two nodes prove to each other that they hold the same secret; nothing of it goes over the wire. Sans-IO.

    dialler                                acceptor
    HELLO ───────────────────────────────▶          fixed layout; nothing is made or looked up for it
          ◀─────────────────── AUTH challenge       a nonce, who it is, which life of it
    AUTH proof ──────────────────────────▶          checked before a peer, a link or a buffer exists
          ◀─────────── HELLO, AUTH proof, RESUME
    RESUME ──────────────────────────────▶

Laws: a proof is an HMAC over everything that was said so far, the role of who proves and the channel below; so it is
worth nothing on another connection (both nonces), in the other direction (the role), between other nodes or lives of
them (ids, incarnations), or through somebody in the middle of TLS (the channel). Who dials proves first: a stranger
that connects gets no proof to think about. All keys of the ring are tried, in constant time. A key is never shown.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cajun_fast._core.frame import TYPES, encode_frame
from cajun_fast.errors import ConfigError, ProtocolError

NONCE = 32
DIGEST = 32
NO_CHANNEL = bytes(32)  # where there is no TLS to bind to

KEY_LEAST = 32  # bytes: `openssl rand -hex 32` makes 64
KEYS_MOST = 8
DISTINCT_LEAST = 8  # different bytes in a key: less is no secret but a placeholder

_CHALLENGE = struct.Struct(
    f"<BHHIQ{NONCE}sB"
)  # kind, versions, features, incarnation, nonce, length of the id
_PROOF = struct.Struct(f"<B{DIGEST}s")
_SAID = struct.Struct("<H")


class Kind(enum.IntEnum):
    """Of an AUTH frame: its first byte."""

    CHALLENGE = 1
    PROOF = 2


class Role(enum.Enum):
    """Who proves."""

    DIALLER = b"cajun-fast 1 dialler\0"
    ACCEPTOR = b"cajun-fast 1 acceptor\0"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What an acceptor says before it knows who is there: what a dialler's proof must cover of it."""

    node: str
    incarnation: int
    nonce: bytes
    min_version: int
    max_version: int
    features: int

    def encode(self) -> bytes:
        name = self.node.encode()
        fixed = _CHALLENGE.pack(
            Kind.CHALLENGE, self.min_version, self.max_version, self.features, self.incarnation, self.nonce, len(name),
        )  # fmt: skip
        return encode_frame(TYPES["AUTH"], fixed + name)

    @classmethod
    def decode(cls, body: bytes) -> Challenge:
        if len(body) < _CHALLENGE.size or len(body) != _CHALLENGE.size + body[_CHALLENGE.size - 1]:
            raise ProtocolError(f"a challenge of {len(body)} bytes does not hold what it says")
        _, low, high, features, incarnation, nonce, _ = _CHALLENGE.unpack_from(body)
        try:
            node = body[_CHALLENGE.size :].decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"the node id in a challenge is not utf-8: {error}") from error
        return cls(node, incarnation, nonce, low, high, features)


@dataclass(frozen=True, slots=True)
class Proof:
    """That its sender holds a key."""

    digest: bytes

    def encode(self) -> bytes:
        return encode_frame(TYPES["AUTH"], _PROOF.pack(Kind.PROOF, self.digest))

    @classmethod
    def decode(cls, body: bytes) -> Proof:
        if len(body) != _PROOF.size:
            raise ProtocolError(f"a proof of {len(body)} bytes, {_PROOF.size} are due")
        return cls(_PROOF.unpack(body)[1])


def decode_auth(body: bytes) -> Challenge | Proof:
    """The body of an AUTH frame. Raises ProtocolError."""
    if body[:1] == bytes([Kind.CHALLENGE]):
        return Challenge.decode(body)
    if body[:1] == bytes([Kind.PROOF]):
        return Proof.decode(body)
    raise ProtocolError("an AUTH frame that is neither a challenge nor a proof")


class Transcript:
    """What both sides said, in order, and the channel that it was said on."""

    __slots__ = ("_said",)

    def __init__(self, channel: bytes) -> None:
        self._said = hashlib.sha256(b"cajun-fast handshake 1\0" + channel)

    def add(self, frame: bytes) -> None:
        """A whole frame, as it stood on the wire."""
        self._said.update(_SAID.pack(len(frame)) + frame)

    def digest(self) -> bytes:
        """Of all of it so far."""
        return self._said.digest()


class KeyRing:
    """The secrets that this node knows: the first proves, each is accepted."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[bytes]) -> None:
        """Raises ConfigError for none, too many, and one that is no secret; without showing it."""
        self._keys = tuple(dict.fromkeys(keys))
        if not 1 <= len(self._keys) <= KEYS_MOST:
            raise ConfigError(f"{len(self._keys)} keys: give 1 to {KEYS_MOST}, the one to prove with first")
        for place, key in enumerate(self._keys, 1):
            if len(key) < KEY_LEAST or len(set(key)) < DISTINCT_LEAST:
                raise ConfigError(
                    f"key {place} has {len(key)} bytes, {len(set(key))} of them different: a key needs {KEY_LEAST} "
                    "random ones; `cajun-fast cert key` or `openssl rand -hex 32` makes one"
                )

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """One key a line; empty lines and lines that begin with # are passed over. Raises ConfigError."""
        lines = (line.strip() for line in text.splitlines())
        return cls(line.encode() for line in lines if line and not line.startswith("#"))

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)}>"

    def __reduce__(self) -> str:
        raise TypeError("a key ring does not travel")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyRing) and self._keys == other._keys

    __hash__ = None  # type: ignore[assignment]

    @property
    def first(self) -> bytes:
        """The key to prove with."""
        return self._keys[0]

    def holds(self, key: bytes | None) -> bool:
        """Whether it is one of these."""
        return key is not None and any(hmac.compare_digest(key, mine) for mine in self._keys)

    def proven(self, role: Role, said: bytes, proof: Proof) -> bytes | None:
        """The key that made the proof, or None. Every key is tried, whichever it was."""
        found = None
        for key in self._keys:
            if hmac.compare_digest(prove(key, role, said).digest, proof.digest):
                found = key
        return found


def prove(key: bytes, role: Role, said: bytes) -> Proof:
    """The proof of who holds ``key`` and stands in ``role``."""
    return Proof(hmac.digest(key, role.value + said, "sha256"))


def fresh_nonce() -> bytes:
    """Random bytes of the operating system: a simulation's seed must not make nonces that can be foreseen."""
    return os.urandom(NONCE)
