"""cajun_fast: a clustered actor messaging engine. Everything a user imports is named here.

Laws: importing this costs little: a name is loaded from its room when it is first used.
"""

from __future__ import annotations

from collections.abc import Coroutine
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cajun_fast._core.lane import Pid
    from cajun_fast.actors import (
        Actor,
        ActorSystem,
        Context,
        DeadLetter,
        Directive,
        Group,
        MailboxPolicy,
        Reply,
        Supervision,
        Terminated,
        actor,
    )
    from cajun_fast.cluster import (
        ActorInfo,
        ActorPage,
        ClusterActorSystem,
        ClusterFactory,
        ClusterManager,
        ClusterMetrics,
        CordonResult,
        DrainProgress,
        DrainResult,
        ElectionResult,
        MigrationResult,
        NodeInfo,
        Outcome,
        ShardedClusterActorSystem,
        ShardedType,
        Stayed,
    )
    from cajun_fast.config import ClusterConfig, NodeAddress
    from cajun_fast.errors import (
        ActorAlreadyExistsError,
        ActorNotFoundError,
        AskTimeoutError,
        BackpressureError,
        CajunError,
        CircuitBreakerOpenError,
        ConfigError,
        DeliveryError,
        DiscoveryError,
        ForbiddenError,
        HandshakeError,
        LeaseLostError,
        MailboxFullError,
        MessageExpiredError,
        MessageTooLargeError,
        MetadataStoreError,
        MetadataStoreUnavailableError,
        NodeUnavailableError,
        NotRunningError,
        OutcomeUnknownError,
        ProtocolError,
        RemoteActorError,
        SerializationError,
        UnknownActorTypeError,
        WrongThreadError,
    )
    from cajun_fast.guarantees import DeliveryGuarantee
    from cajun_fast.metadata import MetadataStore, open_store
    from cajun_fast.ports import Ports
    from cajun_fast.standalone import AuthenticatedMessagingSystem, SecureMessagingSystem

_ROOMS = {
    "_core.lane": ("Pid",),
    "actors": (
        "Actor",
        "ActorSystem",
        "Context",
        "DeadLetter",
        "Directive",
        "Group",
        "MailboxPolicy",
        "Reply",
        "ShardedClusterActorSystem",
        "ShardedType",
        "Supervision",
        "Terminated",
        "actor",
    ),
    "cluster": (
        "ActorInfo",
        "ActorPage",
        "ClusterActorSystem",
        "ClusterFactory",
        "ClusterManager",
        "ClusterMetrics",
        "CordonResult",
        "DrainProgress",
        "DrainResult",
        "ElectionResult",
        "MigrationResult",
        "NodeInfo",
        "Outcome",
        "ShardedClusterActorSystem",
        "ShardedType",
        "Stayed",
    ),
    "config": ("ClusterConfig", "NodeAddress"),
    "errors": (
        "ActorAlreadyExistsError",
        "ActorNotFoundError",
        "AskTimeoutError",
        "BackpressureError",
        "CajunError",
        "CircuitBreakerOpenError",
        "ConfigError",
        "DeliveryError",
        "DiscoveryError",
        "ForbiddenError",
        "HandshakeError",
        "LeaseLostError",
        "MailboxFullError",
        "MessageExpiredError",
        "MessageTooLargeError",
        "MetadataStoreError",
        "MetadataStoreUnavailableError",
        "NodeUnavailableError",
        "NotRunningError",
        "OutcomeUnknownError",
        "ProtocolError",
        "RemoteActorError",
        "SerializationError",
        "UnknownActorTypeError",
        "WrongThreadError",
    ),
    "guarantees": ("DeliveryGuarantee",),
    "metadata": ("MetadataStore", "open_store"),
    "ports": ("Ports",),
    "standalone": ("AuthenticatedMessagingSystem", "SecureMessagingSystem"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Actor",
    "ActorAlreadyExistsError",
    "ActorInfo",
    "ActorNotFoundError",
    "ActorPage",
    "ActorSystem",
    "AskTimeoutError",
    "AuthenticatedMessagingSystem",
    "BackpressureError",
    "CajunError",
    "CircuitBreakerOpenError",
    "ClusterActorSystem",
    "ClusterConfig",
    "ClusterFactory",
    "ClusterManager",
    "ClusterMetrics",
    "ConfigError",
    "Context",
    "CordonResult",
    "DeadLetter",
    "DeliveryError",
    "DeliveryGuarantee",
    "Directive",
    "DiscoveryError",
    "DrainProgress",
    "DrainResult",
    "ElectionResult",
    "ForbiddenError",
    "Group",
    "HandshakeError",
    "LeaseLostError",
    "MailboxFullError",
    "MailboxPolicy",
    "MessageExpiredError",
    "MessageTooLargeError",
    "MetadataStore",
    "MetadataStoreError",
    "MetadataStoreUnavailableError",
    "MigrationResult",
    "NodeAddress",
    "NodeInfo",
    "NodeUnavailableError",
    "NotRunningError",
    "Outcome",
    "OutcomeUnknownError",
    "Pid",
    "Ports",
    "ProtocolError",
    "RemoteActorError",
    "Reply",
    "SecureMessagingSystem",
    "SerializationError",
    "ShardedClusterActorSystem",
    "ShardedType",
    "Stayed",
    "Supervision",
    "Terminated",
    "UnknownActorTypeError",
    "WrongThreadError",
    "actor",
    "open_store",
    "run",
]

Result = TypeVar("Result")


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def run(main: Coroutine[Any, Any, Result], *, debug: bool | None = None) -> Result:
    """Run a program to its end: on uvloop where it is installed, else on asyncio's own loop; with short pauses of the
    garbage collector (``cajun_fast.garbage``)."""
    from cajun_fast.garbage import short_collections

    with short_collections():
        try:
            import uvloop
        except ImportError:
            import asyncio

            return asyncio.run(main, debug=debug)
        return uvloop.run(main, debug=debug)
