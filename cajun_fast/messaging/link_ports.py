"""What a link asks of the world above it: the port object that the compiled link calls on its rare paths."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from cajun_fast.errors import CajunError, DeliveryError, MessageExpiredError, SerializationError
from cajun_fast.messaging.faults import decode_error, encode_error

if TYPE_CHECKING:
    from cajun_fast._core.lane import Pid
    from cajun_fast._core.link import Link
    from cajun_fast._core.ports import Replies


class DeadLetterSink(Protocol):
    """Takes messages that reached no handler."""

    def record(self, target: str, message: Any, reason: str, sender: Pid | None = None) -> None: ...


log = logging.getLogger("cajun_fast.messaging")

UNREADABLE, EXPIRED, FORBIDDEN, TOO_LARGE = 5, 7, 8, 9  # Verdict in _core/ports.pxd


class LinkPorts:
    """One per link. ``replies_for(node)`` finds where answers to another node's asks go."""

    restricted = False

    def __init__(
        self,
        peer: str,
        replies_for: Callable[[str], Replies],
        new_home: Callable[[str], str | None],
        on_bye: Callable[[Link, str], None],
        dead_letters: DeadLetterSink,
    ) -> None:
        self.peer = peer
        self.replies_for = replies_for
        self.new_home = new_home
        self.on_bye = on_bye
        self.dead_letters = dead_letters
        self.reason = "lost"

    encode_error = staticmethod(encode_error)

    def decode_error(self, plain: Any) -> CajunError:
        return decode_error(plain, self.peer)

    def allowed(self, target: str) -> bool:
        """Whether the peer may send to that actor; asked only where ``restricted``."""
        return True

    def unreadable(self, target: str, error: Exception) -> None:
        """A message from the peer could not be decoded: it is refused, and the sender told."""
        log.warning("a message from node %s to actor %s cannot be read: %s", self.peer, target, error)

    def broken(self, target: str, message: Any, error: Exception) -> None:
        """Handing a message over failed inside of this package: it counts as handed over, so that it does not come
        back with each connection."""
        log.error("a message from node %s to actor %s was lost by a fault", self.peer, target, exc_info=error)
        self.dead_letters.record(target, message, "fault", None)

    def refusal_error(self, verdict: int, target: str, node: str) -> CajunError:
        """The error for a final refusal."""
        if verdict == UNREADABLE:
            return SerializationError(
                f"node {node!r} could not read the message to actor {target!r}: "
                "are its message types registered there, and its serializer the same?"
            )
        if verdict == TOO_LARGE:
            return SerializationError(
                f"node {node!r} takes no message as large as this one to actor {target!r}: "
                "set the same max_message_bytes on every node"
            )
        if verdict == EXPIRED:
            return MessageExpiredError(
                f"the deadline of a message to actor {target!r} passed on the way", target
            )
        if verdict == FORBIDDEN:
            return DeliveryError(f"node {node!r} does not let this node send to actor {target!r}", target)
        return DeliveryError(
            f"node {node!r} refused a message to actor {target!r} (verdict {verdict})", target
        )
