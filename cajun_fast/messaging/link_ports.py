"""What a link asks of the world above it: the port object that the compiled link calls on its rare paths."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from cajun_fast.errors import (
    CajunError,
    DeliveryError,
    ForbiddenError,
    MessageExpiredError,
    SerializationError,
)
from cajun_fast.messaging.faults import decode_error, encode_error
from cajun_fast.messaging.handshake import Refused

if TYPE_CHECKING:
    from cajun_fast._core.lane import Pid
    from cajun_fast._core.link import Link
    from cajun_fast._core.ports import Replies
    from cajun_fast.messaging.access import Rights


class DeadLetterSink(Protocol):
    """Takes messages that reached no handler."""

    def record(
        self, target: str, message: Any, reason: str, sender: Pid | None = None, message_id: str | None = None
    ) -> None: ...


log = logging.getLogger("cajun_fast.messaging")

UNREADABLE, EXPIRED, FORBIDDEN, TOO_LARGE = 5, 7, 8, 9  # Verdict in _core/ports.pxd
EVERYTHING, SOME, NOTHING = 0, 1, 2  # Right in _core/inbound.pxd


class LinkPorts:
    """One per link. ``replies_for(node)`` finds where answers to another node's asks go."""

    def __init__(
        self,
        peer: str,
        replies_for: Callable[[str], Replies],
        new_home: Callable[[str], str | None],
        on_bye: Callable[[Link, str], None],
        dead_letters: DeadLetterSink,
        rights: Rights | None = None,
        on_forbidden: Callable[[str, str], None] = lambda peer, what: None,
    ) -> None:
        self.peer = peer
        self.replies_for = replies_for
        self.new_home = new_home
        self.on_bye = on_bye
        self.dead_letters = dead_letters
        self.reason = "lost"
        self.restricted = rights is not None
        self._rights = rights
        self._on_forbidden = on_forbidden

    def on_refuse(self, body: bytes) -> None:
        """The peer turned the connection down after it had said RESUME. Raises Refused."""
        raise Refused.decode(body)

    encode_error = staticmethod(encode_error)

    def decode_error(self, plain: Any) -> CajunError:
        return decode_error(plain, self.peer)

    def right_to(self, target: str) -> int:
        """What the peer may send to that actor; asked once a name and connection, only where ``restricted``."""
        rights = self._rights
        if rights is None:
            return EVERYTHING
        if rights.may_send(target):
            return SOME if rights.is_asked_each_time(target) else EVERYTHING
        self._on_forbidden(self.peer, f"send to actor {target!r}")
        return NOTHING

    def may_say(self, target: str, message: Any) -> bool:
        """Whether the peer may send this very message; asked only after ``SOME``."""
        if self._rights is None or self._rights.may_say(message):
            return True
        what = message if not isinstance(message, dict) else {key: message.get(key) for key in ("op", "type")}
        self._on_forbidden(self.peer, f"ask {target!r} for {what!r:.100}")
        return False

    def unreadable(self, target: str, error: Exception) -> None:
        """A message from the peer could not be decoded: it is refused, and the sender told."""
        log.warning("a message from node %s to actor %s cannot be read: %s", self.peer, target, error,
                    extra={"link": self.peer, "actor": target})  # fmt: skip

    def broken(self, target: str, message: Any, error: Exception, message_id: str | None = None) -> None:
        """Handing a message over failed inside of this package: it counts as handed over, so that it does not come
        back with each connection."""
        log.error("a message from node %s to actor %s was lost by a fault", self.peer, target, exc_info=error,
                  extra={"link": self.peer, "actor": target})  # fmt: skip
        self.dead_letters.record(target, message, "fault", None, message_id)

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
            return ForbiddenError(
                f"node {node!r} does not let this node send that to actor {target!r}: "
                "an access rule there must allow it (security.allow, docs/security.md)",
                target,
            )
        return DeliveryError(
            f"node {node!r} refused a message to actor {target!r} (verdict {verdict})", target
        )
