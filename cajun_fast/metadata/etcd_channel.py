"""Channels to etcd: who dials which endpoint, how many calls share a channel, and when one is replaced.

Laws: one channel leads to one endpoint, so that an error can name it, a certificate is checked against its
name, and a dead or stopped member is left alone while others answer. Unary calls are packed onto as few
channels as hold them; streams (watches, keepalives) have a channel each kind, so that bulk delays neither.
Waiting for room is bounded in number and time. A channel that failed is dialled anew, elsewhere where there
is an elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cajun_fast.errors import MetadataStoreUnavailableError
from cajun_fast.metadata.base import OwnedTasks

#: Calls at a time on one channel before the next one is used.
PER_CHANNEL = 64
#: Callers that may wait for room, per channel.
WAITING_PER_CHANNEL = 512
#: Seconds for which an endpoint that failed is asked last.
SHUNNED = 5.0

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one endpoint would share one connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 6000),  # etcd ends connections that ping more often than each 5 s
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", -1),  # etcd says what is too large, and we before it
)
MAX_REPLY_BYTES = 32 << 20


@dataclass(slots=True, eq=False)
class Endpoint:
    address: str  # host:port
    shunned_until: float = 0.0

    def __str__(self) -> str:
        return self.address


@dataclass(slots=True, eq=False)
class Slot:
    """One place of the pool: the channel that stands in it now, and its calls."""

    endpoint: Endpoint
    channel: Any
    calls: int = 0
    retired: bool = False
    methods: dict[str, Any] = field(default_factory=dict)

    def unary(self, path: str, serialize: Any, parse: Any) -> Any:
        method = self.methods.get(path)
        if method is None:
            method = self.methods[path] = self.channel.unary_unary(
                path, request_serializer=serialize, response_deserializer=parse
            )
        return method


Dial = Callable[[Endpoint, int], Any]


class ChannelPool:
    """See the module's laws."""

    def __init__(self, endpoints: Sequence[str], size: int, dial: Dial, owned: OwnedTasks) -> None:
        self.endpoints = [Endpoint(address) for address in endpoints]
        self._size = size
        self._dial = dial
        self._owned = owned
        self._turn = 0
        self._closed = False
        self._unary: list[Slot] = []
        self._streams: dict[str, Slot] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()

    def open(self) -> None:
        self._unary = [self._new(MAX_REPLY_BYTES, at=number) for number in range(self._size)]
        for slot in self._unary:
            slot.channel.get_state(try_to_connect=True)
        # A watch's reply holds whole revisions, however many keys a lease took along.
        self._streams = {kind: self._new(-1, at=number) for number, kind in enumerate(("watch", "lease"))}

    async def close(self) -> None:
        slots, self._unary, self._streams = [*self._unary, *self._streams.values()], [], {}
        self._closed = True
        for slot in slots:  # what still runs on them hears of it as a fault, not as its own cancellation
            slot.retired = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
        await asyncio.gather(*(slot.channel.close() for slot in slots))

    def _new(self, reply_bytes: int, *, at: int) -> Slot:
        endpoint = self._choose(at)
        return Slot(endpoint, self._dial(endpoint, reply_bytes))

    def _choose(self, at: int) -> Endpoint:
        """Round robin over those that did not fail lately, else over all."""
        now = asyncio.get_running_loop().time()
        good = [endpoint for endpoint in self.endpoints if endpoint.shunned_until <= now] or self.endpoints
        return good[at % len(good)]

    # ---- unary calls

    @asynccontextmanager
    async def unary(self, patience: float) -> AsyncIterator[Slot]:
        """A place for one call; raises MetadataStoreUnavailableError when there is none in time."""
        slot = self._with_room() or await self._wait_for_room(patience)
        slot.calls += 1
        try:
            yield slot
        finally:
            slot.calls -= 1
            self._wake_next()
            if slot.retired and slot.calls == 0 and not self._closed:
                self._owned.spawn(slot.channel.close(), "close an etcd channel")

    def _with_room(self) -> Slot | None:
        now = asyncio.get_running_loop().time()
        shunned = None
        for slot in self._unary:
            if slot.calls < PER_CHANNEL:
                if slot.endpoint.shunned_until <= now:
                    return slot
                shunned = shunned or slot
        return shunned

    async def _wait_for_room(self, patience: float) -> Slot:
        if self._closed:
            raise self._no_room("the pool was closed")
        if len(self._waiting) >= WAITING_PER_CHANNEL * self._size:
            raise self._no_room("too many callers wait")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(patience):
                await waiter
        except BaseException as exc:
            self._forget(waiter)
            if isinstance(exc, TimeoutError):
                raise self._no_room(f"none became free within {patience:.1f} s") from exc
            raise
        slot = self._with_room()
        if slot is None:
            raise self._no_room("the pool was closed")
        return slot

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.done() and not waiter.cancelled():
            self._wake_next()  # it had been chosen: pass the room on

    def _wake_next(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _no_room(self, why: str) -> MetadataStoreUnavailableError:
        return MetadataStoreUnavailableError(
            f"etcd: all {self._size} channels are busy and {why}: raise max_connections or send less"
        )

    # ---- streams

    def stream(self, kind: str) -> Slot:
        return self._streams[kind]

    # ---- failures

    def on_failure(self, slot: Slot) -> None:
        """Its endpoint did not answer: leave it alone for a while, and move what can be moved."""
        if slot.retired or slot.endpoint not in self.endpoints:
            return
        slot.endpoint.shunned_until = asyncio.get_running_loop().time() + SHUNNED
        self._replace(slot)
        for stream in tuple(self._streams.values()):
            if stream.endpoint is slot.endpoint and not stream.retired and len(self.endpoints) > 1:
                self._replace(stream)

    def _replace(self, old: Slot) -> None:
        self._turn += 1
        old.retired = True
        if old in self._unary:
            self._unary[self._unary.index(old)] = self._new(MAX_REPLY_BYTES, at=self._turn)
            if old.calls == 0:
                self._owned.spawn(old.channel.close(), "close an etcd channel")
            return
        for kind, stream in self._streams.items():
            if stream is old:  # its streams break, and open again on the new one
                self._streams[kind] = self._new(-1, at=self._turn)
                self._owned.spawn(old.channel.close(), "close an etcd channel")
                return
