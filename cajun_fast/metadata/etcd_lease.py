"""All keepalives of a store over one stream.

Laws: one stream, one task that reads it, owned by the store. An answer is matched by lease id; a lease that
is not answered in time breaks the stream, which opens again elsewhere. A time to live of 0 means that the
lease is gone.
"""

from __future__ import annotations

import asyncio
from typing import Any

from cajun_fast.metadata.base import OwnedTasks, is_cancelled
from cajun_fast.metadata.etcd_channel import Slot
from cajun_fast.metadata.etcd_errors import Cure, Fault, diagnose, refusal
from cajun_fast.metadata.etcd_wire import ATTEMPT, KEEPALIVE, Wire
from cajun_fast.metadata.retry import Retry
from cajun_fast.metadata.watching import lease_over


class StreamBroken(Exception):  # noqa: N818 - never leaves this package
    """Says why, as a Fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class KeepAlive:
    """See the module's laws."""

    def __init__(self, wire: Wire, owned: OwnedTasks) -> None:
        self._wire = wire
        self._owned = owned
        self._call: Any = None
        self._slot: Slot | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def refresh(self, lease_id: int) -> None:
        """Raises LeaseLostError, or MetadataStoreUnavailableError after the time for an operation."""
        wire = self._wire
        retry = Retry(wire.policy, wire.now())
        while True:
            retry.attempt()
            try:
                ttl = await self._ask(lease_id, wire.policy.budget * ATTEMPT)
            except StreamBroken as broken:
                fault = broken.fault
            else:
                if ttl <= 0:
                    raise lease_over(lease_id)
                return
            endpoint = self._slot.endpoint.address if self._slot else wire.shown
            if not await wire.renew_token(fault) and fault.cure is not Cure.RETRY:
                raise refusal(fault, endpoint, "LeaseKeepAlive")
            await wire.pause(retry, fault, endpoint, KEEPALIVE)

    async def _ask(self, lease_id: int, patience: float) -> int:
        answer = self._waiting.get(lease_id)
        if answer is None or answer.done():
            answer = self._waiting[lease_id] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
        try:
            async with asyncio.timeout(patience):
                await self._send(lease_id)
                return await asyncio.shield(answer)
        except TimeoutError:
            fault = diagnose("DEADLINE_EXCEEDED", f"no answer within {patience:.1f} s")
            self._break(fault)
            raise StreamBroken(fault) from None
        finally:
            if self._waiting.get(lease_id) is answer and answer.done():
                del self._waiting[lease_id]

    async def _send(self, lease_id: int) -> None:
        async with self._writing:
            if self._call is None:
                self._open()
            try:
                await self._call.write(self._wire.types.LeaseKeepAliveRequest(ID=lease_id))
            except (self._wire.grpc.aio.AioRpcError, asyncio.InvalidStateError) as exc:
                raise StreamBroken(self._broken_by(exc)) from exc
            except asyncio.CancelledError as exc:
                if is_cancelled():
                    raise
                raise StreamBroken(self._broken_by(exc)) from exc  # its channel was replaced

    def _open(self) -> None:
        wire = self._wire
        self._slot = wire.pool.stream("lease")
        self._call = self._slot.channel.stream_stream(
            KEEPALIVE.path,
            request_serializer=wire.types.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=wire.types.LeaseKeepAliveResponse.FromString,
        )(metadata=wire.metadata(("hasleader", "true")))
        self._reader = self._owned.spawn(self._read(self._call), "read etcd keepalives")

    async def _read(self, call: Any) -> None:
        try:
            while True:
                reply = await call.read()
                if reply is self._wire.grpc.aio.EOF:
                    raise StreamBroken(diagnose("UNAVAILABLE", "the keepalive stream ended"))
                answer = self._waiting.pop(reply.ID, None)
                if answer is not None and not answer.done():
                    answer.set_result(reply.TTL)
        except StreamBroken as exc:
            self._break(exc.fault, call)
        except self._wire.grpc.aio.AioRpcError as exc:
            if call is self._call:
                self._broken_by(exc)
        except asyncio.CancelledError:
            self._break(diagnose("CANCELLED", "the channel was replaced"), call)
            raise

    def _broken_by(self, error: Any) -> Fault:
        wire = self._wire
        code = error.code().name if isinstance(error, wire.grpc.aio.AioRpcError) else "UNAVAILABLE"
        text = (
            error.details() if isinstance(error, wire.grpc.aio.AioRpcError) else "the keepalive stream ended"
        )
        fault = diagnose(code, text)
        self._break(fault)
        return fault

    def _break(self, fault: Fault, call: Any = None) -> None:
        """End the stream; everybody who waits hears why. ``call``: only if it is still this one."""
        if self._call is None or (call is not None and call is not self._call):
            return
        ended, self._call = self._call, None
        ended.cancel()
        if fault.cure is Cure.RETRY and self._slot is not None:
            self._wire.pool.on_failure(self._slot)
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(StreamBroken(fault))

    def close(self) -> None:
        self._break(diagnose("FAILED_PRECONDITION", "the store was closed"))
        if self._reader is not None:
            self._reader.cancel()


def _seen(answer: asyncio.Future[int]) -> None:
    """Who waited may be gone: its error needs no reader."""
    if not answer.cancelled():
        answer.exception()
