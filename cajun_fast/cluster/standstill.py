"""Holding all actors of a node still, and letting go those that it still owns.

Laws: what is frozen keeps its state and its mailbox and takes nothing; senders park. The engine's own actors
go on. Both are one walk in compiled code: a node that stands still for long because it has many actors would be
late for its next look at its seat, and stand still again. Only what was frozen here is let go here: an actor
that is frozen for a move belongs to that move.
"""

from __future__ import annotations

from collections.abc import Container

from cajun_fast._core.cell import Cell, thaw_all
from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster.router import SYSTEM_PREFIX


class Standstill:
    """See the module's laws."""

    def __init__(self, actors: ActorSystem) -> None:
        self._actors = actors
        self._held: dict[str, Cell] = {}
        self._rising: dict[str, Cell] = {}

    @property
    def is_complete(self) -> bool:
        """Whether nobody is left who may come up by itself: else ``freeze_risen`` before each turn."""
        return not self._rising

    def freeze(self) -> None:
        """At once: a handler that runs ends, nothing more begins."""
        self._actors.freeze(SYSTEM_PREFIX, self._held, self._rising)

    def freeze_one(self, actor_id: str) -> None:
        """One actor, which may have started while this node stands still."""
        cell = self._actors.cell(actor_id)
        if cell is None or actor_id.startswith(SYSTEM_PREFIX):
            return
        if cell.state in ("running", "suspended"):
            cell.freeze()
            self._held[actor_id] = cell
        elif cell.state == "frozen":  # for a hand-off, which may end here
            self._held[actor_id] = cell
        elif cell.state in ("starting", "restarting"):
            self._rising[actor_id] = cell

    def freeze_risen(self) -> None:
        """Those that were starting when all were frozen."""
        rising, self._rising = self._rising, {}
        for actor_id in rising:
            self.freeze_one(actor_id)

    def thaw(self, *owned: Container[str]) -> None:
        """Let go what stands in one of these, with its children. What stays is being stopped, or moves."""
        held, self._held = self._held, {}
        self._rising.clear()
        self._held |= thaw_all(held, owned)


def top_of(cell: Cell) -> str:
    """Id of the oldest ancestor: the one that has a claim."""
    while cell.parent is not None:
        cell = cell.parent
    return str(cell.id)
