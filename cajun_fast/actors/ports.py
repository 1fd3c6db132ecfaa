"""What actors need of those above them.

Laws: protocols, and the implementations for a system that is alone.
"""

from __future__ import annotations

from typing import Any, Protocol

from cajun_fast._core.cell import Cell
from cajun_fast._core.lane import Lane
from cajun_fast.errors import ActorNotFoundError
from cajun_fast.pid import Pid


class Router(Protocol):
    """Finds the way to an actor. Never raises; answers at once or later by ``lane.bind_inbox``,
    ``lane.bind_carrier`` or ``lane.fail``."""

    def resolve(self, lane: Lane) -> None:
        """Nothing is known of the way, or what was known is wrong: messages wait in ``lane``."""
        ...

    def refresh(self, lane: Lane) -> None:
        """What is known will expire soon: look again in the background."""
        ...

    def actor_stopped(self, actor_id: str) -> None:
        """The actor of this node is gone for good."""
        ...


class DeadLetterSink(Protocol):
    """Takes messages that reached no handler."""

    def record(
        self, target: str, message: Any, reason: str, sender: Pid | None = None, message_id: str | None = None
    ) -> None:
        """Must not raise. ``message_id``: of a message that a link has numbered."""
        ...


class Durability(Protocol):
    """Keeps the state of durable actors: cajun_fast/persistence/durability.py."""

    def attach(self, cell: Cell) -> None:
        """The cell was made; no message finds it yet."""
        ...

    async def restore(self, cell: Cell) -> None:
        """Give its instance the state that stands; raises what prevents that."""
        ...

    def opened(self, cell: Cell) -> None:
        """It has started."""
        ...

    async def flush(self, cell: Cell) -> None:
        """Wait until what it has handled is kept."""
        ...

    def closed(self, cell: Cell) -> None:
        """It is gone."""
        ...


class LocalRouter:
    """For a system without a cluster: what is not here is nowhere."""

    __slots__ = ("_parked",)

    def __init__(self) -> None:
        self._parked: dict[
            str, Lane
        ] = {}  # to frozen actors: nobody else may hold a lane that messages wait in

    def resolve(self, lane: Lane) -> None:
        """Fail what waits, unless the actor is here and frozen."""
        if lane.inbox is None:
            lane.fail(not_here(lane))
        else:
            self._parked[lane.target] = lane

    def refresh(self, lane: Lane) -> None:
        """Nothing expires here."""

    def actor_stopped(self, actor_id: str) -> None:
        """Fail what was parked."""
        lane = self._parked.pop(actor_id, None)
        if lane is not None:
            lane.fail(not_here(lane))


def not_here(lane: Lane) -> ActorNotFoundError:
    return ActorNotFoundError(
        f"there is no actor {lane.target!r} on node {lane.exchange.node_id!r}: spawn it first", lane.target
    )
