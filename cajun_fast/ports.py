"""What a node takes from the world around it: time, chance, a network; a simulation hands in others.

Laws: protocols and a frozen bundle of them; no implementation that does anything.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from cajun_fast.clock import Clock, MonotonicClock, system_random
from cajun_fast.errors import NotRunningError


class Address(NamedTuple):
    """Where a node can be reached: by TCP, and on its own host by the Unix socket ``path``, if it has one."""

    host: str
    port: int
    path: str | None = None


ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Listener(Protocol):
    """An open door. ``address`` is the true one, also where port 0 was asked for."""

    @property
    def address(self) -> Address: ...
    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


class Network(Protocol):
    """Streams of bytes between nodes."""

    async def listen(
        self, host: str, port: int, protocol_factory: ProtocolFactory, *, ssl: ssl.SSLContext | None = None
    ) -> Listener:
        """Accept connections; raises OSError where that cannot be."""
        ...

    async def dial(
        self,
        address: Address,
        protocol_factory: ProtocolFactory,
        *,
        ssl: ssl.SSLContext | None = None,
        timeout: float,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect within ``timeout`` seconds; raises OSError (TimeoutError is one)."""
        ...


class NoNetwork:
    """For a system that talks to nobody: every use raises NotRunningError."""

    __slots__ = ()

    async def listen(
        self, host: str, port: int, protocol_factory: ProtocolFactory, *, ssl: ssl.SSLContext | None = None
    ) -> Listener:
        raise NotRunningError(f"cannot listen on {host}:{port}: this system was made without a network")

    async def dial(
        self,
        address: Address,
        protocol_factory: ProtocolFactory,
        *,
        ssl: ssl.SSLContext | None = None,
        timeout: float,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        raise NotRunningError(f"cannot dial {address}: this system was made without a network")


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world of one node."""

    clock: Clock = field(default_factory=MonotonicClock)
    random: random.Random = field(default_factory=system_random)
    network: Network = field(default_factory=NoNetwork)
