"""What a peer may do here: send to which actors, have which types started, manage this node.

Laws: pure. Without rules every peer may do everything; with rules, what no rule allows is refused. A peer has what all
the rules that match its id allow together. What the engine's own actors do (`cajun:…`) counts as managing, but for
starting actors, which is asked for by type, and for notes of commits. Decided once for each name on a link, never for
each message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any

from cajun_fast.access import AccessRule

HOST = "cajun:host@"
#: Takes notes of how far durable actors have come with what this node has sent them: whoever may be sent to may tell.
NOTES = "cajun:durable@"
ENGINE = "cajun:"


class Rights:
    """Of one peer."""

    __slots__ = ("_manage", "_send", "_spawn", "peer")

    def __init__(self, peer: str, rules: Iterable[AccessRule]) -> None:
        mine = [rule for rule in rules if _matcher(rule.peers)(peer)]
        self.peer = peer
        self._send = _matcher([pattern for rule in mine for pattern in rule.send])
        self._spawn = _matcher([pattern for rule in mine for pattern in rule.spawn])
        self._manage = any(rule.manage for rule in mine)

    def may_send(self, actor_id: str) -> bool:
        """Whether messages to that actor are let through, some of them at least."""
        if actor_id.startswith(ENGINE):
            return self._manage or actor_id.startswith((HOST, NOTES))
        return bool(self._send(actor_id))

    def is_asked_each_time(self, actor_id: str) -> bool:
        """Whether ``may_say`` has a word on each message to that actor, too."""
        return actor_id.startswith(HOST) and not self._manage

    def may_say(self, message: Any) -> bool:
        """Whether that request to this node's host is let through, for who may not manage."""
        if not isinstance(message, Mapping) or message.get("op") != "spawn":
            return False
        kind = message.get("type")
        return isinstance(kind, str) and bool(self._spawn(kind))


def _matcher(patterns: Sequence[str]) -> Any:
    """Whether any of the shell patterns matches; compiled once."""
    if not patterns:
        return lambda text: None
    return re.compile("|".join(translate(pattern) for pattern in patterns)).match
