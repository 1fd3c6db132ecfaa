"""TLS between a socket and a connection: a transport above, a protocol below.

    Connection ◀─ plain bytes into its own buffer ─ SSLObject ◀─ memory ◀─ socket
               ── everything of one turn ─────────▶ SSLObject ─▶ memory ─▶ one write

Laws: knows nothing of frames. The handshake is the connection's to bound in time and number, from the first byte on:
that is why the loop's own TLS is not used, which tells a protocol nothing before it is done and nothing when it
fails. What is written is encrypted at once, so nobody's buffer is held. A stranger gets a small buffer; the large one
comes with the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cajun_fast.errors import HandshakeError
from cajun_fast.messaging.tls import channel_of, reason_of

if TYPE_CHECKING:
    from cajun_fast.messaging.connection import Connection
    from cajun_fast.messaging.tls import Papers

STRANGER_BUFFER = 4096
LINK_BUFFER = 256 * 1024
STRANGER_MOST = 256 * 1024  # bytes before the link starts: a long certificate chain fits
TLS_RECORDS = (0x15, 0x16)  # first byte of an alert and of a handshake
JOINED_MOST = 16 * 1024  # chunks that are smaller together make one TLS record


class TlsTransport(asyncio.BufferedProtocol):
    """Stands between the loop's transport and ``connection``, in both directions."""

    def __init__(self, connection: Connection, papers: Papers, host: str | None) -> None:
        """``host``: the name that was dialled; None on the side that was."""
        self._connection = connection
        self._papers = papers
        self._host = host
        self._raw: asyncio.Transport
        self._tls: ssl.SSLObject
        self._up = self._paused = self._closing = False
        self._strange = 0
        self._first: int | None = None  # byte that came

    def _use_buffer(self, size: int) -> None:
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)

    # ---- what the connection asks ------------------------------------------------------------------------------

    @property
    def certificate(self) -> dict[str, Any]:
        """The peer's, verified; empty where it showed none."""
        return self._tls.getpeercert() or {}

    def channel(self) -> bytes:
        """See ``tls.channel_of``."""
        return channel_of(self._tls, self._papers)

    @property
    def papers(self) -> Papers:
        """What this side showed."""
        return self._papers

    @property
    def version(self) -> str:
        """TLSv1.2 or TLSv1.3."""
        return self._tls.version() or "?"

    # ---- the loop's side ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the socket is open."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "writelines")
        self._raw = transport  # type: ignore[assignment]
        if not self._connection.admit(transport, self):
            self._closing = True
            return
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()  # not before it may stay
        context = self._papers.server if self._host is None else self._papers.client
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=self._host is None, server_hostname=self._host
        )
        self._use_buffer(STRANGER_BUFFER)
        if self._host is not None:
            self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio: where the next bytes go."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: bytes have come."""
        if self._closing:
            return
        if self._first is None:
            self._first = self._buffer[0]
        self._in.write(self._view[:nbytes])
        if self._up:
            self._take_in()
        else:
            self._shake_hands()
        if self._connection.link is None:
            self._strange += nbytes
            if self._strange > STRANGER_MOST:
                self._fail(HandshakeError(f"more than {STRANGER_MOST} bytes before the handshake was done"))
        elif len(self._buffer) != LINK_BUFFER:
            self._use_buffer(LINK_BUFFER)

    def eof_received(self) -> bool:
        """asyncio: the peer has closed its side."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the socket is closed."""
        self._closing = True
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """asyncio: the transport holds enough."""
        if self._up:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: the transport takes more."""
        if self._up:
            self._connection.resume_writing()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self._fail(HandshakeError(self._explain(error)))
            return
        self._flush()
        self._up = True
        self._connection.connection_made(self)  # type: ignore[arg-type]
        self._take_in()

    def _take_in(self) -> None:
        """Decrypt what came, straight into the connection's buffer, as much as fits at once."""
        connection = self._connection
        more = True
        while more and not (self._paused or self._closing):
            try:
                filled, more = self._decrypt(connection.get_buffer(-1))
            except ssl.SSLError as error:
                self._fail(HandshakeError(self._explain(error)))
                return
            if self._out.pending:  # an answer to a change of keys
                self._flush()
            if filled:
                connection.buffer_updated(filled)
            elif more:  # a close_notify: the peer says that this is all
                self.close()
                return

    def _decrypt(self, room: memoryview) -> tuple[int, bool]:
        """Fill ``room``; returns how far, and whether there may be more."""
        read, came, decrypted = self._tls.read, self._in, self._tls.pending
        size, filled = len(room), 0
        try:
            while filled < size:
                count = read(size - filled, room[filled:] if filled else room)
                if not count:
                    return filled, True
                filled += count  # type: ignore[operator]
                if not (came.pending or decrypted()):
                    return filled, False  # to ask for more would raise, which costs more than a short message
        except ssl.SSLWantReadError:
            return filled, False
        return filled, size > 0

    def _explain(self, error: ssl.SSLError) -> str:
        reason = reason_of(error)
        if self._first not in TLS_RECORDS:
            return "TLS is spoken here, the other side speaks without: turn TLS on there, or off here"
        if isinstance(error, ssl.SSLEOFError):
            return "the connection ended within a TLS record"
        return f"TLS: {reason}"

    def _fail(self, error: HandshakeError) -> None:
        self.abort()
        self._connection.on_tls_failed(error)

    # ---- the connection's side: a transport --------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        self._encrypt(data)
        self._flush()

    def writelines(self, chunks: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt all and send it in one write."""
        held = list(chunks)
        if len(held) > 1 and sum(map(len, held)) <= JOINED_MOST:
            held = [b"".join(held)]
        for chunk in held:
            self._encrypt(chunk)
        self._flush()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        size = len(data)
        done = self._tls.write(data)
        while done < size:
            done += self._tls.write(memoryview(data)[done:])

    def _flush(self) -> None:
        data = self._out.read()
        if data:
            self._raw.write(data)

    def pause_reading(self) -> None:
        """Bring no more bytes; what is decrypted already waits here."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Go on: first with what came before the pause."""
        self._paused = False
        self._raw.resume_reading()
        self._connection.loop.call_soon(self._take_in)

    def close(self) -> None:
        """Say that this was all, and close behind it."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(ssl.SSLError):  # nobody waits for the peer's word; ours is written
            self._tls.unwrap()
        self._flush()
        self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it was closed here."""
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's: of the socket below, and ``ssl_object``."""
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of the socket below."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Of the socket below."""
        return self._raw.get_write_buffer_size()
