"""What travels with an actor, as bytes and back.

Laws: plain values and bytes only; a message, a state or a set of arguments is bytes of the cluster's
serializer in here, so that what cannot be encoded is found out where the actor still lives. A reader passes
over what it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgpack

from cajun_fast.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the mailbox. ``tag`` 0: a tell; ``asker`` is the node whose ask it is; ``left`` in seconds until its
    deadline, None without one; ``trace`` as in a frame, None where it is not traced.
    """

    message: bytes
    sender: str | None = None
    tag: int = 0
    asker: str | None = None
    left: float | None = None
    trace: bytes | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A timer: due in ``left`` seconds, then every ``interval``. ``trace`` as in a Letter."""

    message: bytes
    left: float
    interval: float | None = None
    trace: bytes | None = None


@dataclass(frozen=True, slots=True)
class Postponed:
    """A delayed tell of the actor to ``target``, due in ``left`` seconds. ``trace`` as in a Letter."""

    target: str
    message: bytes
    guarantee: int
    left: float
    trace: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One actor: the one that moves, then its descendants, parents first. ``state`` None: it has none of its own.

    ``extras`` is what others have put in: by the name of who takes it out again.
    """

    actor_id: str
    type: str
    arguments: bytes
    state: bytes | None = None
    letters: tuple[Letter, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    postponed: tuple[Postponed, ...] = ()
    extras: dict[str, bytes] = field(default_factory=dict)


def encode(pieces: list[Piece]) -> bytes:
    packed: bytes = msgpack.packb([_piece(piece) for piece in pieces])
    return packed


def _piece(piece: Piece) -> dict[str, Any]:
    return {
        "id": piece.actor_id,
        "type": piece.type,
        "args": piece.arguments,
        "state": piece.state,
        "mail": [
            [each.message, each.sender, each.tag, each.asker, each.left, each.trace] for each in piece.letters
        ],
        "timers": [[each.message, each.left, each.interval, each.trace] for each in piece.alarms],
        "delayed": [
            [each.target, each.message, each.guarantee, each.left, each.trace] for each in piece.postponed
        ],
        "extras": piece.extras,
    }


def decode(data: bytes) -> list[Piece]:
    """Raises ProtocolError for what is no luggage."""
    try:
        return [_restored(tree) for tree in msgpack.unpackb(data)]
    except Exception as exc:  # msgpack raises errors of many kinds, some without a common base
        raise ProtocolError(f"what came with an actor cannot be read: {exc!r}") from exc


def _restored(tree: dict[str, Any]) -> Piece:
    return Piece(
        actor_id=str(tree["id"]),
        type=str(tree["type"]),
        arguments=bytes(tree["args"]),
        state=tree["state"],
        letters=tuple(Letter(*each[:6]) for each in tree["mail"]),
        alarms=tuple(Alarm(*each[:4]) for each in tree["timers"]),
        postponed=tuple(Postponed(*each[:5]) for each in tree["delayed"]),
        extras=dict(tree.get("extras", {})),
    )
