"""One side of an authenticated handshake: what may be said when, and what it proves. Sans-IO; the picture is in auth.

Laws: nothing is believed before its proof: a HELLO is kept, not acted on. Whatever comes out of order is an error, and
each step happens once. An acceptor answers with the key that the dialler proved with, so that two nodes that do not
know each other's newest key yet still agree.
"""

from __future__ import annotations

from cajun_fast.errors import ProtocolError
from cajun_fast.messaging.auth import Challenge, KeyRing, Proof, Role, Transcript, fresh_nonce, prove
from cajun_fast.messaging.handshake import Hello, Refusal, Refused


class Introduction:
    """Kept for the time of the handshake. ``key``: the one that was proven with, once both sides have."""

    __slots__ = ("_challenge", "_hello", "_key", "_ring", "_said", "_transcript", "key")

    def __init__(self, ring: KeyRing, channel: bytes) -> None:
        self._ring = ring
        self._transcript = Transcript(channel)
        self._hello: Hello | None = None  # the peer's, not believed yet
        self._challenge: Challenge | None = None
        self._said: bytes | None = None  # what the proof that is due covers
        self._key: bytes | None = None
        self.key: bytes | None = None

    # ---- the side that was dialled -----------------------------------------------------------------------------

    def challenge(self, theirs: Hello, frame: bytes, mine: Hello) -> Challenge:
        """A HELLO came; what to answer. Raises ProtocolError for a second one."""
        if self._hello is not None:
            raise ProtocolError("a second HELLO")
        self._hello = theirs
        challenge = Challenge(
            mine.node, mine.incarnation, fresh_nonce(), mine.min_version, mine.max_version, mine.features
        )
        self._transcript.add(frame)
        self._transcript.add(challenge.encode())
        self._said = self._transcript.digest()
        return challenge

    def admit(self, proof: Proof) -> Hello:
        """The dialler's proof came: whose HELLO may be believed. Raises Refused."""
        said, self._said = self._said, None
        if said is None or self._hello is None:
            raise ProtocolError("a proof before a challenge")
        self._key = self._ring.proven(Role.DIALLER, said, proof)
        if self._key is None:
            raise Refused(
                Refusal.AUTH,
                "the proof was made with a key that is not known here, or for another connection",
            )
        return self._hello

    def answer(self, frame: bytes) -> Proof:
        """This side's proof, behind its HELLO ``frame``."""
        assert self._key is not None
        self._transcript.add(frame)
        self.key = self._key
        return prove(self._key, Role.ACCEPTOR, self._transcript.digest())

    # ---- the side that dialled ---------------------------------------------------------------------------------

    def begin(self, frame: bytes) -> None:
        """This side has said HELLO."""
        self._transcript.add(frame)

    def prove(self, challenge: Challenge, frame: bytes, dialled: str) -> Proof:
        """A challenge came; the proof for it. Raises Refused for one of another node, ProtocolError for a second."""
        if self._challenge is not None:
            raise ProtocolError("a second challenge")
        if challenge.node != dialled:
            raise Refused(Refusal.IDENTITY, f"node {dialled!r} was dialled, {challenge.node!r} answered")
        self._challenge = challenge
        self._transcript.add(frame)
        self._key = self._ring.first
        return prove(self._key, Role.DIALLER, self._transcript.digest())

    def keep(self, hello: Hello, frame: bytes) -> None:
        """The acceptor's HELLO came; its proof is due. Raises Refused for one that asked for none."""
        challenge = self._challenge
        if challenge is None:
            raise Refused(
                Refusal.AUTH,
                f"node {hello.node!r} asks for no proof and gives none: turn authentication on there, same key",
            )
        if self._hello is not None:
            raise ProtocolError("a second HELLO")
        said = (hello.node, hello.incarnation, hello.min_version, hello.max_version, hello.features)
        if said != (
            challenge.node, challenge.incarnation, challenge.min_version, challenge.max_version, challenge.features,
        ):  # fmt: skip
            raise Refused(Refusal.IDENTITY, f"node {hello.node!r} is not who it said it was in its challenge")
        self._hello = hello
        self._transcript.add(frame)
        self._said = self._transcript.digest()

    def trust(self, proof: Proof) -> Hello:
        """The acceptor's proof came: whose HELLO may be believed. Raises Refused."""
        said, self._said = self._said, None
        if said is None or self._hello is None or self._key is None:
            raise ProtocolError("a proof before a HELLO")
        if KeyRing([self._key]).proven(Role.ACCEPTOR, said, proof) is None:
            raise Refused(Refusal.AUTH, f"node {self._hello.node!r} could not prove that it holds the key")
        self.key = self._key
        return self._hello
