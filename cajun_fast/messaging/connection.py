"""One connection: the handshake's steps on top of the compiled skin."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from cajun_fast._core.connection import ConnectionCore
from cajun_fast.errors import HandshakeError, ProtocolError
from cajun_fast.messaging.handshake import Hello, Refusal, Refused, Resume, agree, check_cluster, parse_frame
from cajun_fast.messaging.network import tune

if TYPE_CHECKING:
    from cajun_fast.messaging.peer import Peer
    from cajun_fast.messaging.system import MessagingSystem

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
        self.settled: asyncio.Future[None] = system.loop.create_future()
        self.settled.add_done_callback(_retrieved)

    # ---- the owner's side of the compiled skin ----------------------------------------------------------------

    def on_connected(self, _: ConnectionCore) -> None:
        self.kind = tune(self.transport)
        self.system.opened(self)
        if self.peer is not None:
            self._say_hello(self.peer)

    def _say_hello(self, peer: Peer) -> None:
        self.said_hello = True
        mine = peer.hello()
        self.said_established, self.said_stream = mine.established, mine.stream
        self.write(mine.encode())

    def on_handshake(self, _: ConnectionCore, data: bytes) -> int:
        """Take the next frame of the handshake; returns how many bytes are done with."""
        try:
            frame, used = parse_frame(data)
            if isinstance(frame, Hello):
                self._on_hello(frame)
            elif isinstance(frame, Resume):
                self._on_resume(frame)
            elif isinstance(frame, Refused):
                raise frame if self.said_hello else ProtocolError("a refusal before anything was asked")
        except Refused as refused:
            self._turn_down(refused, told=frame is refused)
            return len(data)
        return used

    def _on_hello(self, hello: Hello) -> None:
        if self.hello is not None:
            raise ProtocolError("a second HELLO")
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
            self._say_hello(self.peer)
        self.write(self.peer.resume().encode())

    def _on_resume(self, resume: Resume) -> None:
        if self.hello is None or self.peer is None:
            raise ProtocolError("RESUME before HELLO")
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

    def _turn_down(self, refused: Refused, *, told: bool) -> None:
        if not told:
            self.write(refused.encode())
            if (
                refused.code is Refusal.SIMULTANEOUS
            ):  # two nodes that find each other dial at once: nobody's fault
                log.debug("connection with %s ended: %s", self.address, refused.reason)
            else:
                self.system.note_refusal(self, refused.reason)
        if not self.settled.done():
            self.settled.set_exception(refused)
        if self.transport is not None:
            self.transport.close()

    def on_broken(self, _: ConnectionCore, error: Exception) -> None:
        """What came cannot be taken in: this connection has ended, and nothing else."""
        if not isinstance(error, ProtocolError):
            log.error("a fault while reading from %s ends the connection", self.address, exc_info=error)
        self.system.note_refusal(self, str(error) or type(error).__name__)
        if not self.settled.done():
            self.settled.set_exception(HandshakeError(str(error)))

    def on_lost(self, _: ConnectionCore, error: Exception | None) -> None:
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

    @property
    def address(self) -> str:
        """The other end, for logs."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else self.kind


def _retrieved(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
