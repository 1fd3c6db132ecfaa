"""Holding all actors of a node still, and letting go those that it still owns.

Laws: what is frozen keeps its state and its mailbox and takes nothing; senders park. The engine's own actors
go on.
"""

from __future__ import annotations

from collections.abc import Container

from cajun_fast._core.cell import Cell
from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster.router import SYSTEM_PREFIX


def freeze(actors: ActorSystem) -> None:
    """At once: a handler that runs ends, nothing more begins."""
    for actor_id in actors.actor_ids():
        cell = actors.cell(actor_id)
        if cell is not None and cell.state == "running" and not actor_id.startswith(SYSTEM_PREFIX):
            cell.freeze()


def thaw(actors: ActorSystem, owned: Container[str]) -> None:
    """Let go what is owned, with its children."""
    for actor_id in actors.actor_ids():
        cell = actors.cell(actor_id)
        if cell is not None and cell.state == "frozen" and top_of(cell) in owned:
            cell.run_now()


def top_of(cell: Cell) -> str:
    """Id of the oldest ancestor: the one that has a claim."""
    while cell.parent is not None:
        cell = cell.parent
    return str(cell.id)
