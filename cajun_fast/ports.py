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


class Invitation(NamedTuple):
    """What a node tells a peer that is to send it beats: where to, as which of its peers, and under which key."""

    host: str  # numeric; "" for the address that the peer's connection shows
    port: int
    id: int
    key: bytes


class Pulse(NamedTuple):
    """The last beat of a peer, in nanoseconds: how long ago it came, and how long its event loop had stood then."""

    age: int
    standing: int


class Heart(Protocol):
    """The beat of one node beside its links: it goes on while the event loop stands. Never waits, never raises."""

    def turn(self) -> None:
        """The event loop turns: called at each heartbeat."""
        ...

    def invite(self, node: str) -> Invitation:
        """What ``node`` needs to send beats here: the same until it is forgotten."""
        ...

    def accept(self, node: str, host: str, invitation: Invitation) -> None:
        """Send beats as ``node`` has invited; ``host`` is where its connection comes from."""
        ...

    def last(self, node: str) -> Pulse | None:
        """What was heard from it; None: nothing yet, or it is forgotten."""
        ...

    def forget(self, node: str) -> None:
        """Neither send it beats nor take its own."""
        ...

    def close(self) -> None: ...


class Hearts(Protocol):
    """Where hearts come from."""

    async def start(self, host: str, interval: float) -> Heart | None:
        """A heart that beats each ``interval`` seconds, reached at the host the node listens on; None: there is none to
        be had, and links judge by their own silence alone. Never raises but for cancellation."""
        ...


class NoHearts:
    """For a world without beats."""

    __slots__ = ()

    async def start(self, host: str, interval: float) -> Heart | None:
        return None


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world of one node."""

    clock: Clock = field(default_factory=MonotonicClock)
    random: random.Random = field(default_factory=system_random)
    network: Network = field(default_factory=NoNetwork)
    hearts: Hearts = field(default_factory=NoHearts)
