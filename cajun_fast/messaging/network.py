"""The real network behind the Network port: TCP, and Unix sockets between nodes of one machine.

Laws: the only file of the package that opens sockets. A node's Unix socket has a path that no other machine can have by
chance (socket_folder.py); who finds it dials it, and falls back to TCP when it is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl as tls

from cajun_fast.errors import ConfigError
from cajun_fast.messaging.socket_folder import SocketFolder, make_folder
from cajun_fast.ports import Address, ProtocolFactory

SOCKET_BUFFER = (
    4 << 20
)  # bytes: two busy processes take turns unless the kernel can hold what one of them made
WRITE_HIGH = 1 << 20  # bytes in the transport before it says stop


class SocketListener:
    """A TCP port and, for nodes of the same machine, a Unix socket."""

    def __init__(
        self, address: Address, servers: list[asyncio.AbstractServer], folder: SocketFolder | None
    ) -> None:
        self._address = address
        self._servers = servers
        self._folder = folder

    @property
    def address(self) -> Address:
        """Where it listens: the true port."""
        return self._address

    def close(self) -> None:
        """Accept no more; connections that stand are not touched."""
        for server in self._servers:
            server.close()
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    async def wait_closed(self) -> None:
        """Nothing to wait for: connections are their owners'."""


class SocketNetwork:
    """The real network. ``unix``: offer and use Unix sockets where both ends share a machine."""

    def __init__(self, *, unix: bool = True) -> None:
        self._unix = unix and hasattr(socket, "AF_UNIX")

    async def listen(
        self, host: str, port: int, protocol_factory: ProtocolFactory, *, ssl: tls.SSLContext | None = None
    ) -> SocketListener:
        """Listen on ``host``; port 0 takes a free one. Raises ConfigError for an address that cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(protocol_factory, host, port, ssl=ssl, backlog=1024)
        except OSError as error:
            raise ConfigError(_why_not(host, port, error)) from error
        bound = server.sockets[0].getsockname()[1]
        servers: list[asyncio.AbstractServer] = [server]
        folder = make_folder() if self._unix and ssl is None else None
        if folder is None:
            return SocketListener(Address(host, bound), servers, None)
        path = folder.path(bound)
        try:
            servers.append(await loop.create_unix_server(protocol_factory, path))
        except BaseException:
            server.close()
            folder.close()
            raise
        return SocketListener(Address(host, bound, path), servers, folder)

    async def dial(
        self,
        address: Address,
        protocol_factory: ProtocolFactory,
        *,
        ssl: tls.SSLContext | None = None,
        timeout: float,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect within ``timeout`` seconds; raises OSError (TimeoutError is one)."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            if self._unix and address.path and ssl is None:
                with contextlib.suppress(ConnectionError, FileNotFoundError, PermissionError):
                    return await loop.create_unix_connection(protocol_factory, address.path)
            return await loop.create_connection(protocol_factory, address.host, address.port, ssl=ssl)


def tune(transport: asyncio.BaseTransport) -> str:
    """Set a connection up for its work; returns its kind: "unix", "tcp" or "other".

    No delay on small writes, keepalive, and room in the kernel for both sides to work at once.
    """
    if isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "set_write_buffer_limits"):
        transport.set_write_buffer_limits(high=WRITE_HIGH)
    sock = transport.get_extra_info("socket")
    if sock is None:
        return "other"
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return "tcp"
    return "unix"


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: choose another messaging port, or 0 for any free one"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"bind address {host!r} is not an address of this machine ({error}): check the bind address"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs privileges that this process lacks: choose one above 1023"
    return f"cannot listen on {host}:{port}: {error}"
