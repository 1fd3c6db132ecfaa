"""What is told of a move: results that say what happened and why.

Laws: plain frozen values, nothing in them refers to a running system; a reason is a sentence for the operator.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Outcome(enum.StrEnum):
    """Of one move."""

    #: It lives on the target now.
    MOVED = "moved"
    #: It lived there already: nothing was done.
    THERE = "there"
    #: It lives where it lived: ``reason`` says why.
    STAYED = "stayed"
    #: Neither node could be asked, and the directory does not tell yet; it has one owner, whichever.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """What became of one move. ``messages`` waited in its mailbox and went with it, ``bytes`` went over in all,
    ``seconds`` is how long it took, ``frozen`` how long of that senders had to wait. ``epoch`` counts its
    owners, ``revision`` is that of its record.
    """

    actor_id: str
    source: str
    target: str
    outcome: Outcome
    reason: str = ""
    epoch: int = 0
    revision: int = 0
    messages: int = 0
    bytes: int = 0
    seconds: float = 0.0
    frozen: float = 0.0

    @property
    def moved(self) -> bool:
        """Whether it lives on the target now."""
        return self.outcome in (Outcome.MOVED, Outcome.THERE)


@dataclass(frozen=True, slots=True)
class Stayed:
    """An actor that a drain could not move."""

    actor_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """How far a drain is: ``left`` actors are still there, ``moving`` of them on their way. ``phase``: "cordon",
    "move", "settle" (what is in flight ends, everybody hears where the actors are), "done".
    """

    node: str
    phase: str
    moved: int
    stayed: int
    moving: int
    left: int
    seconds: float


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What a drain did. ``complete``: nothing is left on the node that another one could host, and it may stop; else
    ``stayed`` names what is left and ``reason`` says why the drain ended. ``to`` counts the moved by their new node.
    """

    node: str
    complete: bool
    moved: int
    stayed: tuple[Stayed, ...]
    seconds: float
    reason: str = ""
    to: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CordonResult:
    """Whether a node takes new actors now; ``changed``: this call made it so."""

    node: str
    cordoned: bool
    changed: bool
