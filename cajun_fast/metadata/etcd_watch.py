"""Watches of etcd that outlive their streams: no event lost, none twice.

Laws: ``_next`` is the first revision not handed out; a stream always opens there, so nothing depends on how
the last one ended. A revision that etcd has compacted meanwhile is bridged by a listing: what was written
since, and which of the keys told of are gone. The stream is read when the consumer asks, one message ahead at
most: a slow consumer is held back by HTTP/2's flow control. A cancelled iteration leaves its reading to the
next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Protocol

from cajun_fast.errors import MetadataStoreError
from cajun_fast.metadata.base import is_cancelled
from cajun_fast.metadata.etcd_channel import Slot
from cajun_fast.metadata.etcd_coding import entry_of, range_of
from cajun_fast.metadata.etcd_errors import Cure, Fault, diagnose, refusal
from cajun_fast.metadata.etcd_wire import LONGEST_BACK_OFF, WATCH, Wire
from cajun_fast.metadata.retry import backoff
from cajun_fast.metadata.store import Event, EventKind, Watch
from cajun_fast.metadata.watching import Difference, Opening, bridge, deletion, note

PUT = 0  # mvccpb.Event.EventType


class Lister(Protocol):
    """What a watch asks of its store."""

    async def opening(self, prefix: str, revision: int | None) -> Opening: ...

    async def difference(self, prefix: str, cursor: int) -> Difference: ...


class EtcdWatch(Watch):
    """See the module's laws."""

    def __init__(
        self,
        wire: Wire,
        lister: Lister,
        prefix: str,
        opening: asyncio.Task[Opening],
        on_close: Callable[[EtcdWatch], None],
    ) -> None:
        self.prefix = prefix
        self._wire = wire
        self._lister = lister
        self._opening: asyncio.Task[Opening] | None = opening
        self._on_close = on_close
        self._next = 0
        self._known: set[str] = set()
        self._slot: Slot | None = None
        self._call: Any = None
        self._reading: asyncio.Task[Any] | None = None
        self._failures = 0
        self._logged_in_again = False
        self._iterating = False
        self._end: Exception | None = None
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<EtcdWatch {self.prefix!r} from {self._next}>"

    # ---- life

    def end(self, reason: Exception) -> None:
        """A waiting iteration stops (StopAsyncIteration) or raises ``reason``."""
        if self._end is None:
            self._end = reason
            if not self._ended.done():
                self._ended.set_result(None)
            if self._opening is not None:
                self._opening.cancel()
            self._drop()
            self._on_close(self)

    async def close(self) -> None:
        reading = self._reading
        self.end(StopAsyncIteration())
        if reading is not None:
            await asyncio.gather(reading, return_exceptions=True)

    def _check_end(self) -> None:
        if self._end is not None:
            raise StopAsyncIteration if isinstance(self._end, StopAsyncIteration) else self._end

    def _drop(self) -> None:
        """Let go of the stream; the next reading opens another."""
        call, self._call = self._call, None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
        if call is not None:
            call.cancel()

    # ---- iteration

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        if self._iterating:
            raise MetadataStoreError(f"watch of {self.prefix!r} has a reader already: open another watch")
        self._iterating = True
        try:
            await self._settle()
            while True:
                self._check_end()
                events = await self._turn()
                if events:
                    return events
        finally:
            self._iterating = False

    async def _settle(self) -> None:
        self._check_end()
        if self._opening is None:
            return
        try:
            found = await asyncio.shield(self._opening)
        except asyncio.CancelledError:
            self._check_end()
            raise
        self._opening = None
        self._next, self._known = found.cursor + 1, found.known

    async def _turn(self) -> list[Event]:
        """One message of the stream, or the cure of its failure."""
        try:
            message = await self._receive()
        except self._wire.grpc.aio.AioRpcError as exc:
            return await self._on_fault(diagnose(exc.code().name, exc.details()))
        except asyncio.CancelledError:
            if self._end is not None or self._call is not None or is_cancelled():
                self._check_end()
                raise
            return await self._on_fault(diagnose("CANCELLED", "the channel was replaced"))
        if message is None:
            return []
        if message is self._wire.grpc.aio.EOF:
            return await self._on_fault(diagnose("UNAVAILABLE", "the watch stream ended"))
        return await self._on_message(message)

    async def _receive(self) -> Any:
        """The next message; None when the watch was ended."""
        if self._reading is None:
            self._reading = self._start_reading()
        await asyncio.wait((self._reading, self._ended), return_when=asyncio.FIRST_COMPLETED)
        reading = self._reading
        if self._end is not None or reading is None:
            return None
        self._reading = None
        if reading.cancelled():
            self._drop()
            raise asyncio.CancelledError
        return reading.result()

    def _start_reading(self) -> asyncio.Task[Any]:
        return self._wire.owned.spawn(self._read(), f"read etcd watch {self.prefix!r}")

    async def _read(self) -> Any:
        if self._call is None:
            await self._open()
        return await self._call.read()

    async def _open(self) -> None:
        wire, types = self._wire, self._wire.types
        self._slot = wire.pool.stream("watch")
        call = self._slot.channel.stream_stream(
            WATCH.path,
            request_serializer=types.WatchRequest.SerializeToString,
            response_deserializer=types.WatchResponse.FromString,
        )(metadata=wire.metadata(("hasleader", "true")))  # a member cut off from the others ends the stream
        self._call = call
        start, end = range_of(self.prefix)
        request = types.WatchCreateRequest(
            key=start, range_end=end, start_revision=self._next, progress_notify=True
        )
        await write_or_end(call, types.WatchRequest(create_request=request))

    async def _on_message(self, message: Any) -> list[Event]:
        if message.canceled:
            if message.compact_revision:
                return await self._bridge()
            return await self._on_fault(
                diagnose("UNAVAILABLE", message.cancel_reason or "the watch was cancelled")
            )
        self._failures, self._logged_in_again = 0, self._logged_in_again and message.created
        events = [event for item in message.events if (event := _event(item)).entry.revision >= self._next]
        if events:
            self._next = events[-1].entry.revision + 1
            note(self._known, events)
        elif not message.created and not message.events:  # progress: complete up to here
            self._next = max(self._next, message.header.revision + 1)
        return events

    async def _bridge(self) -> list[Event]:
        """etcd compacted what we have not seen: list, compare, go on from there."""
        self._drop()
        difference = await self._lister.difference(self.prefix, self._next - 1)
        events = bridge(self._known, difference)
        self._next = difference.revision + 1
        note(self._known, events)
        return events

    async def _on_fault(self, fault: Fault) -> list[Event]:
        """Wait a little and let the next turn open another stream; raise what no stream can cure."""
        self._drop()
        endpoint = self._slot.endpoint.address if self._slot else self._wire.shown
        if await self._wire.renew_token(self._as_spent_token(fault)):
            return []
        if fault.cure is not Cure.RETRY:  # also: no user to log in as
            raise refusal(fault, endpoint, f"a watch of {self.prefix!r}")
        if self._slot is not None:
            self._wire.pool.on_failure(self._slot)
        options = self._wire.options
        longest = backoff(self._failures, options.retry_delay_ms / 1000, LONGEST_BACK_OFF)
        self._failures += 1
        await asyncio.wait((self._ended,), timeout=longest * options.random.random())
        return []

    def _as_spent_token(self, fault: Fault) -> Fault:
        """etcd refuses a watch with a spent token as one without permission: log in once before believing it."""
        if self._logged_in_again or "permission denied" not in fault.text.lower():
            return fault
        self._logged_in_again = True
        return replace(fault, cure=Cure.LOGIN)


def _event(item: Any) -> Event:
    if item.type == PUT:
        return Event(EventKind.PUT, entry_of(item.kv))
    return deletion(item.kv.key.decode(), item.kv.mod_revision)


async def write_or_end(call: Any, request: Any) -> None:
    """Write, or return when the call has ended: grpc.aio leaves a write waiting for ever whose channel was closed
    before the call began. Why it ended, the next read says.
    """
    ended = asyncio.Event()
    call.add_done_callback(lambda _: ended.set())
    ending = asyncio.ensure_future(ended.wait())
    writing = asyncio.ensure_future(call.write(request))
    try:
        await asyncio.wait((writing, ending), return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
    finally:
        writing.cancel()
        ending.cancel()
        await asyncio.gather(writing, ending, return_exceptions=True)
