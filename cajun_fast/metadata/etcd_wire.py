"""Calls to etcd: attempts, back-off, log-in, and the one place where gRPC's errors end.

Laws: nothing is sent twice unless the caller said how: ``replay=True`` for what is idempotent, else an
unclear failure comes out as Unclear, and the caller settles it by reading. Cancellation passes at once. A
give-up names endpoint, operation, attempts and last cause. The highest revision seen is kept: it dates what a
later reading shows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cajun_fast.errors import CajunError, ConfigError, MetadataStoreUnavailableError
from cajun_fast.metadata.base import OwnedTasks, is_cancelled
from cajun_fast.metadata.etcd_channel import CHANNEL_OPTIONS, ChannelPool, Endpoint, Slot
from cajun_fast.metadata.etcd_errors import Cure, Fault, diagnose, refusal, remedy
from cajun_fast.metadata.etcd_proto import messages
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.retry import Retry, RetryPolicy

log = logging.getLogger("cajun_fast.metadata")
LONGEST_BACK_OFF = 1.0
#: Of the time for an operation, the part that one attempt may take: a stopped member costs this, then others
#: are asked.
ATTEMPT = 1 / 3


class Unclear(Exception):  # noqa: N818 - not an error: a state of knowledge, never leaves this package
    """A write may or may not have been applied."""


@dataclass(frozen=True, slots=True)
class Call:
    path: str
    request: str
    response: str


RANGE = Call("/etcdserverpb.KV/Range", "RangeRequest", "RangeResponse")
PUT = Call("/etcdserverpb.KV/Put", "PutRequest", "PutResponse")
DELETE = Call("/etcdserverpb.KV/DeleteRange", "DeleteRangeRequest", "DeleteRangeResponse")
TXN = Call("/etcdserverpb.KV/Txn", "TxnRequest", "TxnResponse")
COMPACT = Call("/etcdserverpb.KV/Compact", "CompactionRequest", "CompactionResponse")
GRANT = Call("/etcdserverpb.Lease/LeaseGrant", "LeaseGrantRequest", "LeaseGrantResponse")
REVOKE = Call("/etcdserverpb.Lease/LeaseRevoke", "LeaseRevokeRequest", "LeaseRevokeResponse")
LOGIN = Call("/etcdserverpb.Auth/Authenticate", "AuthenticateRequest", "AuthenticateResponse")
KEEPALIVE = Call("/etcdserverpb.Lease/LeaseKeepAlive", "LeaseKeepAliveRequest", "LeaseKeepAliveResponse")
STATUS = Call("/etcdserverpb.Maintenance/Status", "StatusRequest", "StatusResponse")
WATCH = Call("/etcdserverpb.Watch/Watch", "WatchRequest", "WatchResponse")


class Wire:
    """See the module's laws."""

    def __init__(
        self, addresses: Sequence[str], *, secure: bool, options: StoreOptions, shown: str, owned: OwnedTasks
    ) -> None:
        self.grpc = _grpc()
        self.types = messages()
        self.shown = shown
        self.revision = 0
        self.options = options
        self.policy = RetryPolicy(
            options.max_retries, options.retry_delay_ms / 1000, LONGEST_BACK_OFF, options.timeout
        )
        self._credentials = self._read_credentials() if secure else None
        self.pool = ChannelPool(addresses, options.max_connections, self._dial, owned)
        self._token: str | None = None
        self._login: asyncio.Task[None] | None = None
        self.owned = owned

    def _read_credentials(self) -> Any:
        options = self.options

        def read(name: str, path: str | None) -> bytes | None:
            if path is None:
                return None
            try:
                return Path(path).read_bytes()
            except OSError as exc:
                raise ConfigError(f"etcd: {name}={path!r} cannot be read: {exc.strerror}") from exc

        return self.grpc.ssl_channel_credentials(
            read("ca_file", options.ca_file),
            read("key_file", options.key_file),
            read("cert_file", options.cert_file),
        )

    def _dial(self, endpoint: Endpoint, reply_bytes: int) -> Any:
        options = [*CHANNEL_OPTIONS, ("grpc.max_receive_message_length", reply_bytes)]
        if self._credentials is None:
            return self.grpc.aio.insecure_channel(endpoint.address, options=options)
        return self.grpc.aio.secure_channel(endpoint.address, self._credentials, options=options)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # ---- unary calls

    async def call(
        self, call: Call, request: Any, *, replay: bool = True, budget: float | None = None
    ) -> Any:
        """The reply. ``replay=False``: Unclear instead of a second attempt that could write twice."""
        policy = self.policy
        if budget is not None:
            policy = RetryPolicy(policy.max_retries, policy.first_delay, policy.cap, budget)
        retry = Retry(policy, self.now())
        logins = 0
        while True:
            retry.attempt()
            fault, endpoint = await self._attempt(call, request, retry)
            if not isinstance(fault, Fault):
                return fault
            if fault.cure is Cure.LOGIN and self.options.user is not None and logins < 2:
                logins += 1
                await self._log_in_again()
                continue
            if fault.cure is not Cure.RETRY:
                raise refusal(fault, endpoint, call.path.rpartition("/")[2])
            if not replay and not fault.unapplied:
                raise Unclear(str(fault))
            await self.pause(retry, fault, endpoint, call)

    async def _attempt(self, call: Call, request: Any, retry: Retry) -> tuple[Any, str]:
        """The reply, or a Fault; and the endpoint that gave it."""
        remaining = retry.remaining(self.now())
        limit = max(min(remaining, retry.policy.budget * ATTEMPT), 0.05)
        async with self.pool.unary(max(remaining, 0.05)) as slot:
            method = slot.unary(
                call.path,
                getattr(self.types, call.request).SerializeToString,
                getattr(self.types, call.response).FromString,
            )
            try:
                reply = await method(request, timeout=limit, metadata=self.metadata())
            except self.grpc.aio.AioRpcError as exc:
                return self.on_error(exc, slot), slot.endpoint.address
            except asyncio.CancelledError:
                if not slot.retired or is_cancelled():
                    raise
                return diagnose("CANCELLED", "the channel was replaced"), slot.endpoint.address
        if call is not LOGIN and reply.header.revision > self.revision:
            self.revision = reply.header.revision
        return reply, slot.endpoint.address

    def on_error(self, error: Any, slot: Slot) -> Fault:
        """Translate; an endpoint that did not answer is left alone for a while."""
        fault = diagnose(error.code().name, error.details())
        if fault.cure is Cure.RETRY:
            self.pool.on_failure(slot)
        return fault

    async def pause(self, retry: Retry, fault: Fault, endpoint: str, call: Call) -> None:
        """Wait for the next attempt, or give up."""
        delay = retry.delay(self.now(), self.options.random)
        if delay is None:
            raise self.gave_up(retry, fault, endpoint, call)
        await asyncio.sleep(delay)

    def gave_up(self, retry: Retry, fault: Fault, endpoint: str, call: Call) -> MetadataStoreUnavailableError:
        name = call.path.rpartition("/")[2]
        spent = self.now() - retry.began
        return MetadataStoreUnavailableError(
            f"etcd {self.shown}: {name} got no answer in {retry.attempts} attempts over {spent:.1f} s, "
            f"the last from {endpoint} ({fault}); {remedy(fault.text)}"
        )

    # ---- who we are

    def metadata(self, *extra: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        return (*extra, ("token", self._token)) if self._token else extra

    async def log_in(self) -> None:
        """Get a token, where there is a user."""
        if self.options.user is None:
            return
        request = self.types.AuthenticateRequest(name=self.options.user, password=self.options.password)
        self._token = None
        try:
            self._token = (await self.call(LOGIN, request)).token
        except CajunError as exc:
            if "authentication is not enabled" not in str(exc):
                raise
            log.warning("etcd %s: authentication is not enabled there, the user is not needed", self.shown)

    async def _log_in_again(self) -> None:
        """Once for all calls that found the token spent."""
        if self._login is None or self._login.done():
            self._login = self.owned.spawn(self.log_in(), "log in to etcd")
        await asyncio.shield(self._login)

    async def renew_token(self, fault: Fault) -> bool:
        """For streams: log in again if that is the cure."""
        if fault.cure is not Cure.LOGIN or self.options.user is None:
            return False
        await self._log_in_again()
        return True


def _grpc() -> Any:
    try:
        import grpc
        import grpc.aio
    except ImportError as exc:
        raise ConfigError(
            f"etcd needs the package grpcio, which cannot be imported ({exc}): pip install 'cajun-fast[etcd]'"
        ) from exc
    return grpc
