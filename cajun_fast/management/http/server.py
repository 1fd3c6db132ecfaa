"""Serves management over HTTP from the node's own event loop.

Laws: the socket is opened before the node says that it is ready, so that a port in use is an error of the start;
streams end when it stops. Signals stay with whoever runs the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.errors import ConfigError
from cajun_fast.management.http.app import management_app
from cajun_fast.management.http.settings import HttpSettings

log = logging.getLogger("cajun_fast.management")

#: Requests at a time; one more is answered 503.
MOST_REQUESTS = 256
#: Seconds that a stop waits for answers under way.
GRACE = 2


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """``async with HttpServer(system, settings) as server``; ``server.url`` is where it is."""

    def __init__(self, system: ClusterActorSystem, settings: HttpSettings) -> None:
        self.settings = settings
        self.app = management_app(
            system, writable=settings.writable, token=settings.token, names=settings.names
        )
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = settings.port

    @property
    def url(self) -> str:
        """Where to look; the host is the one that it listens on."""
        scheme = "https" if self.settings.certificate else "http"
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Open the port and serve. Raises ConfigError for an address or a certificate that cannot be used."""
        settings = self.settings
        door = _open(settings.host, settings.port)
        self.port = door.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_REQUESTS,
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=30,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            ssl_ca_certs=settings.client_ca,
            ssl_cert_reqs=ssl.CERT_REQUIRED if settings.client_ca else ssl.CERT_NONE,
            ws="none",
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            door.close()
            raise ConfigError(f"the certificate for http.listen cannot be used: {error}") from error
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([door]), name="http")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - it says so nowhere else
            await asyncio.sleep(0.005)
        if self._task.done():
            await self._task
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        log.info("management and dashboard at %s", self.url)

    async def stop(self) -> None:
        """End the streams, wait a moment for answers, close. A second call does nothing."""
        if self._server is None or self._task is None:
            return
        await self.app.state.console.close()
        self._server.should_exit = True
        await asyncio.gather(self._task, return_exceptions=True)
        self._server = None

    async def __aenter__(self) -> HttpServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _open(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        door = socket.socket(kind, socket.SOCK_STREAM)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(address)
        except BaseException:
            door.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"setting http.listen='{host}:{port}' is wrong: {error.strerror or error}; give an address of this "
            "machine and a port that is free (0: any)"
        ) from error
    door.setblocking(False)
    return door
