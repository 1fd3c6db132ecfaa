"""Every error this package raises, in one tree; whose fault it is stands in the type, the evidence in fields.

Laws: no import from the package. A foreign exception is translated once, at the boundary where it arises, with
``raise … from exc``. Messages name the value that was wrong and what to do about it.
"""

from __future__ import annotations


class CajunError(Exception):
    """Root of all errors of this package. ``message_id``, for ``explain``: of the one message that it tells of, where a
    link had numbered it."""

    message_id: str | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.message_id is None else f"{text} (message {self.message_id})"


class ConfigError(CajunError, ValueError):
    """A setting is wrong: the message names the setting, its value and the remedy. Nothing was started."""


class NotRunningError(CajunError, RuntimeError):
    """The system, store or link was used before its start or after its stop."""


class WrongThreadError(CajunError, RuntimeError):
    """A call came from a thread other than the system's loop; use ``Pid.tell_threadsafe`` there."""


class SerializationError(CajunError, TypeError):
    """A message cannot be encoded or decoded: nothing of it was sent, or nothing of it reached a handler."""


class MessageTooLargeError(SerializationError):
    """An encoded message is over the limit; raised at the sender before anything is sent."""

    def __init__(self, size: int, limit: int, target: str = "") -> None:
        self.size, self.limit, self.target = size, limit, target
        to = f" for {target!r}" if target else ""
        super().__init__(
            f"message{to} takes {size} bytes, the limit is {limit}: send a reference to the data, "
            "split it, or raise max_message_bytes on every node"
        )


class BackpressureError(CajunError):
    """The way to the target is full: nothing was accepted. Await ``Pid.ready()`` or use ``await Pid.send()``."""


class DeliveryError(CajunError):
    """A message is known not to have reached a handler. ``actor_id`` names its target."""

    def __init__(self, message: str, actor_id: str = "") -> None:
        self.actor_id = actor_id
        super().__init__(message)


class ActorNotFoundError(DeliveryError):
    """No node of the cluster hosts an actor of that id."""


class ActorAlreadyExistsError(CajunError):
    """The id has an owner already; ``node`` says which. An id has one owner in the cluster."""

    def __init__(self, actor_id: str, node: str) -> None:
        self.actor_id, self.node = actor_id, node
        super().__init__(
            f"actor id {actor_id!r} is already owned by node {node!r}: stop it there, or choose another id"
        )


class UnknownActorTypeError(CajunError, LookupError):
    """The named actor type is not registered on the node that should start it."""


class NodeUnavailableError(DeliveryError):
    """The node that hosts the target cannot be reached; the message was not delivered."""

    def __init__(self, message: str, node: str = "", actor_id: str = "") -> None:
        self.node = node
        super().__init__(message, actor_id)


class CircuitBreakerOpenError(NodeUnavailableError):
    """The circuit breaker of the target's node is open: it failed repeatedly and is left alone for a while."""


class MailboxFullError(DeliveryError):
    """The target's bounded mailbox refused the message by its policy."""


class MessageExpiredError(DeliveryError):
    """The message's deadline passed before it could be delivered; it was not."""


class ForbiddenError(DeliveryError):
    """The receiving node's access rules do not let this node do that; the message reached no handler."""


class OutcomeUnknownError(CajunError):
    """The message may or may not have been handled: its receiver was lost between delivery and acknowledgement."""

    def __init__(self, message: str, actor_id: str = "", node: str = "") -> None:
        self.actor_id, self.node = actor_id, node
        super().__init__(message)


class AskTimeoutError(CajunError, TimeoutError):
    """No answer came in time; the text and the fields say where the target stood when that was asked, right after.

    ``cause`` is one of

    ==============  ================================================================================================
    not-found       no such actor stands on the node where it was looked for
    no-way          the message waits on the asker's node: it is not known (yet) where the actor lives
    no-room         it waits there for room, at ``position``: the mailbox or the link's window is full
    on-its-way      sent, and the far node has not acknowledged it
    queued          in the target's mailbox, at ``position`` (1: next)
    in-handler      in the target's handler, since ``since`` seconds, at ``where`` (file:line in function)
    not-running     in the mailbox of an actor that starts, restarts, stops or is being moved
    not-answered    it left the mailbox, and its answer has not come: the handler gave none yet, or it is on its way
    node-stuck      the node lives, but its event loop has stood for ``since`` seconds: something blocks it
    node-silent     nothing is heard from the node
    node-gone       the node is no member any more
    unknown         none of this could be found out
    ==============  ================================================================================================

    Whether the message was handled, or will be, is not known, except where it still waits on the asker's own node
    (no-way, no-room): then it was not, and is not sent any more.
    """

    def __init__(
        self,
        message: str,
        actor_id: str = "",
        *,
        node: str = "",
        cause: str = "unknown",
        position: int | None = None,
        since: float | None = None,
        where: str = "",
    ) -> None:
        self.actor_id, self.node, self.cause = actor_id, node, cause
        self.position, self.since, self.where = position, since, where
        super().__init__(message)


class RemoteActorError(CajunError):
    """The handler of an ask raised: its type, text and traceback, as text from the far side."""

    def __init__(self, actor_id: str, type_name: str, text: str, traceback: str = "", node: str = "") -> None:
        self.actor_id, self.type_name, self.text = actor_id, type_name, text
        self.traceback, self.node = traceback, node
        where = f" on node {node!r}" if node else ""
        super().__init__(f"actor {actor_id!r}{where} raised {type_name}: {text}")


class HandshakeError(CajunError, ConnectionError):
    """Two nodes could not agree to talk; ``reason`` says why (version, cluster name, identity…)."""


class ProtocolError(CajunError):
    """Bytes on a link broke the wire protocol; that link ends, nothing else is disturbed."""


class DiscoveryError(CajunError):
    """Where nodes may be found could not be asked: which source, why. Nobody is evicted for it."""


class MetadataStoreError(CajunError):
    """The metadata store refused an operation."""


class MetadataStoreUnavailableError(MetadataStoreError, ConnectionError):
    """The metadata store did not answer: which endpoint, which operation, why, and what to do."""


class CompactedError(MetadataStoreError):
    """A watch or list asked for a revision that the store no longer keeps: list again and go on from there."""

    def __init__(self, message: str, compact_revision: int = 0) -> None:
        self.compact_revision = compact_revision
        super().__init__(message)


class LeaseLostError(MetadataStoreError):
    """A lease or lock ran out or was revoked: what it protected may belong to somebody else now."""


class PersistenceError(CajunError):
    """Where durable actors keep their state refused an operation."""


class PersistenceUnavailableError(PersistenceError, ConnectionError):
    """It did not answer: which one, why, and what to do. What was under way may or may not have been done."""


class StaleOwnerError(PersistenceError):
    """A later owner has the actor: nothing of this one's was written, and its copy stops. ``actor_id`` names it."""

    def __init__(self, message: str, actor_id: str = "") -> None:
        self.actor_id = actor_id
        super().__init__(message)
