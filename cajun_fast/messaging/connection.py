"""One connection: the handshake's steps on top of the compiled skin.

Laws: a stranger's word moves nothing: with authentication no peer is looked up and no link judged before the proof;
with TLS a HELLO counts only under the name that the certificate bears.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from cajun_fast._core.connection import ConnectionCore
from cajun_fast.errors import HandshakeError, ProtocolError
from cajun_fast.messaging.auth import NO_CHANNEL, Challenge, Proof
from cajun_fast.messaging.door import Cause, place_of
from cajun_fast.messaging.handshake import Hello, Refusal, Refused, Resume, agree, check_cluster, parse_frame
from cajun_fast.messaging.introduction import Introduction
from cajun_fast.messaging.network import tune
from cajun_fast.messaging.tls import names_node, node_ids, node_uri

if TYPE_CHECKING:
    from cajun_fast.messaging.peer import Peer
    from cajun_fast.messaging.system import MessagingSystem
    from cajun_fast.messaging.tls_transport import TlsTransport

log = logging.getLogger("cajun_fast.messaging")


class Connection(ConnectionCore, asyncio.BufferedProtocol):
    """Carries a link once both sides have agreed. ``settled`` is done then, or failed with the reason."""

    def __init__(self, system: MessagingSystem, peer: Peer | None) -> None:
        super().__init__(self, system.loop, system.dispatcher)
        self.system = system
        self.peer = peer
        self.dialled = peer is not None
        self.said_hello = False
        self.hello: Hello | None = None
        self.said_established = self.said_stream = 0
        self.era = 0
        self.kind = "?"
        self.address = self.place = "?"
        self.tls: TlsTransport | None = None
        self.introduction: Introduction | None = None
        self._raw: asyncio.BaseTransport | None = None
        self._pause: asyncio.TimerHandle | None = None
        self.settled: asyncio.Future[None] = system.loop.create_future()
        self.settled.add_done_callback(_retrieved)

    # ---- the owner's side of the compiled skin ----------------------------------------------------------------

    def admit(self, raw: asyncio.BaseTransport, tls: TlsTransport | None = None) -> bool:
        """A socket is open: set it up and have it counted. False: there are too many, it is closed."""
        self._raw, self.tls = raw, tls
        name = raw.get_extra_info("peername")
        self.kind = tune(raw)
        if self.kind == "tcp" and name is None:  # gone before anybody looked
            self.abort()
            return False
        self.place = place_of(name)
        self.address = f"{name[0]}:{name[1]}" if isinstance(name, tuple) and name else self.kind
        return self.system.opened(self)

    def abort(self) -> None:
        """Close at once, in whatever state it is."""
        super().abort()
        if self._raw is not None and not self.closed:
            self._raw.abort()  # type: ignore[attr-defined]

    def forsake(self) -> None:
        """Its dial was given up: its socket is closed, or never was open, and nobody tells it. It may carry a link by
        then, if its handshake was quicker than whoever waited for the dial.
        """
        if not self.closed:
            super().connection_lost(None)

    def on_connected(self, _: ConnectionCore) -> None:
        if self.tls is None and not self.admit(self.transport):
            return
        if self.system.ring is not None:
            channel = NO_CHANNEL if self.tls is None else self.tls.channel()
            self.introduction = Introduction(self.system.ring, channel)
        if self.peer is not None:
            try:
                self._check_certificate(self.peer.node)
            except Refused as refused:
                self._turn_down(refused, told=False)
                return
            frame = self._say_hello(self.peer)
            if self.introduction is not None:
                self.introduction.begin(frame)

    def _say_hello(self, peer: Peer) -> bytes:
        self.said_hello = True
        mine = peer.hello()
        self.said_established, self.said_stream = mine.established, mine.stream
        frame = mine.encode()
        self.write(frame)
        return frame

    def on_handshake(self, _: ConnectionCore, data: bytes) -> int:
        """Take the next frame of the handshake; returns how many bytes are done with."""
        try:
            frame, used = parse_frame(data)
            if isinstance(frame, Hello):
                self._on_hello(frame, data[:used])
            elif isinstance(frame, Resume):
                self._on_resume(frame)
            elif isinstance(frame, Challenge):
                self._on_challenge(frame, data[:used])
            elif isinstance(frame, Proof):
                self._on_proof(frame)
            elif isinstance(frame, Refused):
                raise frame if self.said_hello else ProtocolError("a refusal before anything was asked")
        except Refused as refused:
            self._turn_down(refused, told=frame is refused)
            return len(data)
        return used

    # ---- who is there ------------------------------------------------------------------------------------------

    def _on_hello(self, hello: Hello, frame: bytes) -> None:
        if self.hello is not None:
            raise ProtocolError("a second HELLO")
        self._check_certificate(hello.node)
        if self.introduction is None:
            self._greet(hello)
        elif self.dialled:
            self.introduction.keep(hello, frame)
        else:
            mine = self.system.hello(hello.node, 0, 0)
            self._write_after(
                self.system.door.pause(self.place), self.introduction.challenge(hello, frame, mine).encode()
            )

    def _write_after(self, seconds: float, frame: bytes) -> None:
        if seconds:
            self._pause = self.loop.call_later(seconds, self.write, frame)
        else:
            self.write(frame)

    def _check_certificate(self, node: str) -> None:
        """Whether the peer may call itself so. Raises Refused."""
        certificate = {} if self.tls is None else self.tls.certificate
        if certificate and not names_node(certificate, node):
            raise Refused(
                Refusal.IDENTITY,
                f"node {node!r} showed a certificate of {', '.join(node_ids(certificate)) or 'no node'}: "
                f"its subjectAltName must hold the URI {node_uri(node)!r}",
            )

    def _on_challenge(self, challenge: Challenge, frame: bytes) -> None:
        if self.peer is None or not self.dialled:
            raise ProtocolError("a challenge from the side that dialled")
        if self.introduction is None:
            raise Refused(
                Refusal.AUTH,
                f"node {challenge.node!r} asks for a proof and this node has no key: turn authentication on",
            )
        self.write(self.introduction.prove(challenge, frame, self.peer.node).encode())

    def _on_proof(self, proof: Proof) -> None:
        if self.introduction is None:
            raise ProtocolError("a proof that nobody asked for")
        if self.dialled:
            self._greet(self.introduction.trust(proof))
            return
        hello = self.introduction.admit(proof)
        self._greet(hello)

    def _greet(self, hello: Hello) -> None:
        """``hello`` is believed: find out whether to talk. Raises Refused."""
        mine = self.system.hello(hello.node, 0, 0)
        check_cluster(mine, hello)
        agree(mine, hello)
        if hello.target not in ("", self.system.node_id):
            raise Refused(
                Refusal.IDENTITY,
                f"this is node {self.system.node_id!r}, not {hello.target!r}: the address is out of date",
            )
        if hello.node == self.system.node_id:
            raise Refused(Refusal.IDENTITY, f"both ends are called {hello.node!r}: node ids must differ")
        if self.peer is None:
            self.peer = self.system.peer_for(hello)
        elif hello.node != self.peer.node:
            raise Refused(Refusal.IDENTITY, f"node {self.peer.node!r} was dialled, {hello.node!r} answered")
        self.peer.judge(hello, dialled=self.dialled)
        if self.dialled:  # before RESUME: the other side counts on a connection once it has that
            self._check_stream(self.peer)
        self.peer.version, self.peer.features = agree(mine, hello)
        self.hello = hello
        if not self.dialled:
            frame = self._say_hello(self.peer)
            if self.introduction is not None:
                self.write(self.introduction.answer(frame).encode())
        self.write(self.peer.resume().encode())

    def _on_resume(self, resume: Resume) -> None:
        if self.hello is None or self.peer is None:
            raise ProtocolError("RESUME before HELLO")
        if self.peer.ended:
            raise Refused(Refusal.SIMULTANEOUS, "the node was removed since HELLO: dial again")
        self._check_stream(self.peer)
        if resume.invitation is not None:
            self.peer.accept_beats(self.host, resume.invitation)
        self.system.settled(self)
        if not self.settled.done():
            self.settled.set_result(None)
        if not self.peer.take(self, max(self.said_established, self.hello.established)):
            self.abort()  # the other one carries the link

    def _check_stream(self, peer: Peer) -> None:
        if peer.link.stream != self.said_stream:
            raise Refused(Refusal.SIMULTANEOUS, "the link was renewed since HELLO: dial again")

    # ---- the end -----------------------------------------------------------------------------------------------

    def _turn_down(self, refused: Refused, *, told: bool) -> None:
        if not told:
            self.write(refused.encode())
            if (
                refused.code is Refusal.SIMULTANEOUS
            ):  # two nodes that find each other dial at once: nobody's fault
                log.debug("connection with %s ended: %s", self.address, refused.reason)
            else:
                cause = Cause.AUTH if refused.code is Refusal.AUTH else Cause.REFUSED
                if cause is Cause.AUTH and not self.dialled:
                    self.system.door.failed(self.place)
                self.system.note_refusal(self, refused.reason, cause)
        if not self.settled.done():
            self.settled.set_exception(refused)
        if self.transport is not None:
            self.transport.close()

    def on_broken(self, _: ConnectionCore, error: Exception) -> None:
        """What came cannot be taken in: this connection has ended, and nothing else."""
        if isinstance(error, Refused):  # sent when the other side had our RESUME already, and we had its
            self._turn_down(error, told=True)
            log.debug("connection with %s was turned down after its handshake: %s", self.address, error)
            return
        if not isinstance(error, ProtocolError):
            log.error("a fault while reading from %s ends the connection", self.address, exc_info=error)
        self.system.note_refusal(self, str(error) or type(error).__name__, Cause.PROTOCOL)
        if not self.settled.done():
            self.settled.set_exception(HandshakeError(str(error)))

    def on_tls_failed(self, error: HandshakeError) -> None:
        """TLS below has ended the connection."""
        self.system.note_refusal(self, str(error), Cause.TLS)
        if not self.settled.done():
            self.settled.set_exception(error)

    def on_lost(self, _: ConnectionCore, error: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self.system.gone(self)
        if not self.settled.done():
            self.settled.set_exception(HandshakeError(f"the connection ended during the handshake: {error}"))
        if self.peer is not None:
            self.peer.lost(self, error)

    @property
    def host(self) -> str:
        """The other end's host as its socket shows it; a Unix socket's is this one."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else "127.0.0.1"


def _retrieved(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
