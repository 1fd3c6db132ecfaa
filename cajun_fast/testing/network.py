"""A network in memory, with faults: for nodes of one process, in real time or in turned time.

    network = MemoryNetwork()
    Ports(network=network.of("a"), …)
    network.cut("a", "b")        # nothing passes between them, as if a cable were out; what was sent waits
    network.heal()
    network.break_links("a")     # its connections are reset

Laws: a connection is a stream: bytes come whole, in order and once, or the connection ends. Delivery always goes
through the loop, never straight from a write into a read; what waits is told to the writer (pause_writing), as a
socket would.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl as tls
from collections import deque
from collections.abc import Iterable
from typing import Any

from cajun_fast.errors import ConfigError
from cajun_fast.ports import Address, ProtocolFactory

#: Bytes of one read.
READ_MOST = 64 * 1024
FIRST_PORT = 10_000


class MemoryNetwork:
    """What lies between the nodes; see the module's laws. ``delay``: seconds that each write takes to arrive."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.delay = delay
        self._ports = itertools.count(FIRST_PORT)
        self._doors: dict[int, _Door] = {}
        self._cut: set[frozenset[str]] = set()
        self._ends: set[_End] = set()

    def of(self, node: str) -> NodeNetwork:
        """The network as that node has it: the ``Network`` port of its ``Ports``."""
        return NodeNetwork(self, node)

    def cut(self, one: str | Iterable[str], other: str | Iterable[str]) -> None:
        """Nothing passes between nodes of one side and of the other until ``heal``."""
        for left in _several(one):
            self._cut |= {frozenset((left, right)) for right in _several(other) if left != right}

    def heal(self) -> None:
        """All that was cut is whole again; what waited on connections that still stand arrives."""
        self._cut.clear()
        for end in list(self._ends):
            end.deliver_soon()

    def break_links(self, node: str) -> None:
        """Reset all connections of a node."""
        for end in list(self._ends):
            if end.node == node:
                end.abort()

    def is_cut(self, one: str, other: str) -> bool:
        """Whether nothing passes between the two."""
        return frozenset((one, other)) in self._cut

    # ---- for the nodes' sides

    def open(self, node: str, host: str, port: int, factory: ProtocolFactory) -> _Door:
        port = port or next(self._ports)
        if port in self._doors:
            raise ConfigError(f"port {port} on {host} is in use: choose another messaging port, or 0")
        door = self._doors[port] = _Door(self, node, Address(host, port), factory)
        return door

    def shut(self, door: _Door) -> None:
        self._doors.pop(door.address.port, None)

    async def connect(self, node: str, port: int, factory: ProtocolFactory, timeout: float) -> _End:
        door = self._doors.get(port)
        if door is None:
            raise ConnectionRefusedError(f"nobody listens on port {port}")
        async with asyncio.timeout(timeout):
            while self.is_cut(node, door.node):  # noqa: ASYNC110 - a cut has no event, and the wait is bounded
                await asyncio.sleep(timeout / 10)
            await asyncio.sleep(self.delay)
        mine, theirs = _End(self, node, door.node), _End(self, door.node, node)
        mine.other, theirs.other = theirs, mine
        self._ends |= {mine, theirs}
        theirs.begin(door.factory())
        mine.begin(factory())
        return mine

    def forget(self, end: _End) -> None:
        self._ends.discard(end)


class NodeNetwork:
    """One node's side: the ``Network`` port. TLS is not spoken in memory."""

    def __init__(self, network: MemoryNetwork, node: str) -> None:
        self._network = network
        self._node = node

    async def listen(
        self, host: str, port: int, protocol_factory: ProtocolFactory, *, ssl: tls.SSLContext | None = None
    ) -> _Door:
        """A door of this node. Raises ConfigError for a port in use, and for TLS."""
        _no_tls(ssl)
        return self._network.open(self._node, host, port, protocol_factory)

    async def dial(
        self,
        address: Address,
        protocol_factory: ProtocolFactory,
        *,
        ssl: tls.SSLContext | None = None,
        timeout: float,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect; raises OSError, as a socket would: refused, or no answer in time."""
        _no_tls(ssl)
        end = await self._network.connect(self._node, address.port, protocol_factory, timeout)
        return end, end.protocol


class _Door:
    """A listening port: the ``Listener`` port."""

    def __init__(self, network: MemoryNetwork, node: str, address: Address, factory: ProtocolFactory) -> None:
        self._network = network
        self.node = node
        self._address = address
        self.factory = factory

    @property
    def address(self) -> Address:
        return self._address

    def close(self) -> None:
        self._network.shut(self)

    async def wait_closed(self) -> None:
        """Nothing to wait for."""


class _End(asyncio.Transport):
    """One end of a connection."""

    other: _End
    protocol: Any

    def __init__(self, network: MemoryNetwork, node: str, far: str) -> None:
        super().__init__()
        self._network = network
        self.node, self._far = node, far
        self._loop = asyncio.get_running_loop()
        self._coming: deque[tuple[float, bytes]] = deque()  # due, bytes: what the other end wrote
        self._waiting = 0
        self._high, self._low = 64 * 1024, 16 * 1024
        self._paused = self._held_up = self._closing = self._gone = self._finished = False
        self._timer: asyncio.Handle | None = None

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol
        protocol.connection_made(self)

    # ---- writing

    def write(self, data: Any) -> None:
        """Towards the other end; after its close it goes nowhere."""
        if not self._closing and len(data):
            self.other.take(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(bytes(data) for data in list_of_data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self.other._waiting

    def _feel(self) -> None:
        """Tell the protocol whether the other end keeps up."""
        if not self._held_up and self.other._waiting > self._high:
            self._held_up = True
            self.protocol.pause_writing()
        elif self._held_up and self.other._waiting <= self._low:
            self._held_up = False
            self.protocol.resume_writing()

    # ---- reading

    def take(self, data: bytes) -> None:
        """What the other end writes: it is on its way."""
        if self._gone:
            return
        self._coming.append((self._loop.time() + self._network.delay, data))
        self._waiting += len(data)
        self.other._feel()
        self.deliver_soon()

    def deliver_soon(self) -> None:
        if self._timer is None and not self._gone and (self._coming or self._finished):
            due = self._coming[0][0] if self._coming else 0.0
            wait = due - self._loop.time()
            self._timer = (
                self._loop.call_later(wait, self._deliver)
                if wait > 0
                else self._loop.call_soon(self._deliver)
            )

    def _deliver(self) -> None:
        self._timer = None
        while self._coming and not self._paused and not self._gone:
            if self._network.is_cut(self.node, self._far):
                return
            if self._coming[0][0] > self._loop.time():
                break
            self._read(self._coming.popleft()[1])
        if self._finished and not self._coming and not self._paused:
            self._lose(None)
        else:
            self.deliver_soon() if not self._paused else None
        if not self.other._gone:
            self.other._feel()

    def _read(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._gone:
            if self._paused:
                self._coming.appendleft((0.0, bytes(view)))
                return
            buffer = memoryview(self.protocol.get_buffer(min(len(view), READ_MOST)))
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self._waiting -= size
            self.protocol.buffer_updated(size)
            view = view[size:]

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self.deliver_soon()

    def is_reading(self) -> bool:
        return not self._paused

    # ---- the end

    def close(self) -> None:
        """What was written still arrives; then both ends are told."""
        if not self._closing:
            self._closing = True
            self.other._finished = True
            self.other.deliver_soon()
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """What is on its way is lost; both ends are told."""
        self._closing = True
        self._loop.call_soon(self._lose, ConnectionResetError("the connection was reset"))
        if not self._network.is_cut(self.node, self._far):
            self._loop.call_soon(self.other._lose, ConnectionResetError("the connection was reset"))

    def _lose(self, error: Exception | None) -> None:
        if not self._gone:
            self._gone = self._closing = True
            self._coming.clear()
            if self._timer is not None:
                self._timer.cancel()
            self._network.forget(self)
            self.protocol.connection_lost(error)

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._far, 0) if name == "peername" else default


def _several(nodes: str | Iterable[str]) -> list[str]:
    return [nodes] if isinstance(nodes, str) else list(nodes)


def _no_tls(ssl: tls.SSLContext | None) -> None:
    if ssl is not None:
        raise ConfigError("TLS is not spoken on a network in memory: test it on sockets (SocketNetwork)")
