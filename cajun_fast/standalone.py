"""Messages between nodes without a cluster: systems that know each other by address, as in Cajun.

    SecureMessagingSystem(system_id, port, ssl_context)         links are encrypted, nodes known by their certificates
    AuthenticatedMessagingSystem(system_id, port, key_file=…)   nodes prove that they hold a key

Laws: each *has* an actor system and a messaging system, and security is a part of the latter: both kinds take both, the
two names only say which one must be given. Who lives where is told by hand; nobody is looked for, nothing fails over.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from cajun_fast._core.lane import Lane, Pid
from cajun_fast.actors.system import ActorSystem
from cajun_fast.config_rules import is_loopback
from cajun_fast.errors import CajunError, ConfigError, NodeUnavailableError
from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.messaging.security import Keys, Security, Tls
from cajun_fast.messaging.system import MessagingSystem
from cajun_fast.ports import Address, Ports

Handler = Callable[[Any, Any], Any]


class _ByAddress:
    """A router for ids of the form actor@system."""

    def __init__(self, owner: StandaloneSystem) -> None:
        self._owner = owner

    def resolve(self, lane: Lane) -> None:
        """Find the way of a lane that has none."""
        owner = self._owner
        inbox = owner.actors.exchange.inboxes.get(lane.target)
        if inbox is not None:
            lane.bind_inbox(inbox)
            return
        system_id = lane.target.rpartition("@")[2]
        try:
            if system_id == owner.system_id or lane.refusals:
                raise NodeUnavailableError(
                    f"system {system_id!r} has no handler for {lane.target!r}", system_id, lane.target
                )
            lane.bind_carrier(owner.messaging.link(system_id))
        except CajunError as error:
            lane.fail(error)

    def refresh(self, lane: Lane) -> None:
        """Nothing expires."""

    def actor_stopped(self, actor_id: str) -> None:
        """Nobody else needs to know."""


class StandaloneSystem:
    """See SecureMessagingSystem and AuthenticatedMessagingSystem. An async context manager."""

    def __init__(
        self, system_id: str, port: int, *, host: str, security: Security, incarnation: int | None
    ) -> None:
        self.system_id, self.port, self.host = system_id, port, host
        # There is no store to count the lives of a node: a later start must have a higher number, and has.
        self.incarnation = incarnation if incarnation is not None else time.time_ns() // 1_000_000
        self.security = security
        self._ports = Ports(network=SocketNetwork())
        self.actors = ActorSystem(system_id, ports=self._ports, router=_ByAddress(self))
        self.messaging: MessagingSystem
        self.address: Address

    async def start(self) -> None:
        """Listen. Raises ConfigError for a port that cannot be had, and for papers and keys that cannot be used."""
        self.security.load(self.system_id)
        await self.actors.start()
        self.messaging = MessagingSystem(
            self.system_id, self.incarnation, "standalone", self.actors.exchange, self.actors.dispatcher, self._ports,
            security=self.security,
        )  # fmt: skip
        try:
            self.address = await self.messaging.start(self.host, self.port)
        except BaseException:
            await self.actors.stop()
            raise

    async def stop(self) -> None:
        """Let what was accepted be settled for a moment, and close."""
        if hasattr(self, "messaging"):
            await self.messaging.stop()
            await self.actors.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def add_node(self, system_id: str, host: str, port: int) -> None:
        """Another system lives there. Its life is known once it is heard from."""
        self.messaging.add_node(system_id, 0, [Address(host, port)])

    def remove_node(self, system_id: str) -> None:
        """It is gone for good: what it may have seen is told as unknown."""
        peer = self.messaging.peer(system_id)
        if peer is not None:
            self.messaging.remove_node(system_id, peer.link.incarnation or 0)

    async def register_message_handler(self, actor_id: str, handler: Handler) -> None:
        """``handler(message, context)`` takes what comes for that id, one at a time; what it returns answers asks.

        Raises ActorAlreadyExistsError for an id that has one.
        """
        await self.actors.spawn(handler, f"{actor_id}@{self.system_id}")

    def pid(self, system_id: str, actor_id: str) -> Pid:
        """A handle on that id of that system: tell, send, ask."""
        return self.actors.pid(f"{actor_id}@{system_id}")

    async def send_message(
        self, system_id: str, actor_id: str, message: Any, guarantee: DeliveryGuarantee | None = None
    ) -> None:
        """Send, and return when it stands in the other system's mailbox. Raises what ``Pid.send`` raises."""
        await self.pid(system_id, actor_id).send(message, guarantee=guarantee)

    async def ping(self, system_id: str, timeout: float = 1.0) -> None:
        """Return once a connection stands. Raises NodeUnavailableError after ``timeout`` seconds."""
        await self.messaging.ping(system_id, timeout)


def _keys(key_file: str | None, key_env: str | None) -> Keys | None:
    return None if key_file is None and key_env is None else Keys(file=key_file, env=key_env)


class SecureMessagingSystem(StandaloneSystem):
    """Links are encrypted, and each node is known by its certificate."""

    def __init__(
        self,
        system_id: str,
        port: int,
        ssl_context: ssl.SSLContext,
        *,
        client_context: ssl.SSLContext | None = None,
        key_file: str | None = None,
        key_env: str | None = None,
        host: str = "127.0.0.1",
        incarnation: int | None = None,
    ) -> None:
        """``ssl_context`` serves nodes that dial this one, ``client_context`` is for those that it dials: Python's
        contexts are made for one side. Raises ConfigError for contexts that would protect nothing."""
        if not isinstance(ssl_context, ssl.SSLContext) or not isinstance(client_context, ssl.SSLContext):
            raise ConfigError(
                "SecureMessagingSystem needs two contexts: SSLContext(PROTOCOL_TLS_SERVER) as ssl_context and "
                "SSLContext(PROTOCOL_TLS_CLIENT) as client_context, each with this node's certificate and its authority"
            )
        keys = _keys(key_file, key_env)
        if keys is None and not is_loopback(host):
            raise ConfigError(
                f"host={host!r} can be reached from other machines: give key_file= or key_env= as well"
            )
        security = Security(tls=Tls(context=ssl_context, client_context=client_context), keys=keys)
        super().__init__(system_id, port, host=host, security=security, incarnation=incarnation)


class AuthenticatedMessagingSystem(StandaloneSystem):
    """Nodes prove to each other that they hold a key of the same ring."""

    def __init__(
        self,
        system_id: str,
        port: int,
        *,
        key_file: str | None = None,
        key_env: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        client_context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        incarnation: int | None = None,
    ) -> None:
        """Keys come from a file or a variable. Raises ConfigError for neither, and beyond this machine without TLS."""
        if ssl_context is None and not is_loopback(host):
            raise ConfigError(f"host={host!r} can be reached from other machines: give ssl_context= as well")
        tls = None if ssl_context is None else Tls(context=ssl_context, client_context=client_context)
        security = Security(tls=tls, keys=Keys(file=key_file, env=key_env))
        super().__init__(system_id, port, host=host, security=security, incarnation=incarnation)
