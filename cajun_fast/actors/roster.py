"""Who is here: the cells of one node.

Laws: those that take messages stand in the exchange's table and nowhere else (a second table would cost each idle actor
its entry there); those that are leaving stand here until they are gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from cajun_fast._core.cell import Cell, freeze_all
from cajun_fast._core.lane import Exchange


class Roster:
    """The cells by id."""

    __slots__ = ("_exchange", "_here", "_leaving")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._here: dict[str, Cell] = exchange.inboxes
        self._leaving: dict[str, Cell] = {}

    def get(self, actor_id: str) -> Cell | None:
        """The cell of that id, also while it is leaving."""
        return self._here.get(actor_id) or self._leaving.get(actor_id)

    def join(self, cell: Cell) -> None:
        """From now on messages find it."""
        self._exchange.open_inbox(cell.id, cell)

    def leave(self, cell: Cell) -> None:
        """From now on they do not; its id stays taken."""
        self._leaving[cell.id] = cell
        self._exchange.close_inbox(cell.id)

    def forget(self, cell: Cell) -> None:
        """It is gone: its id is free."""
        self._leaving.pop(cell.id, None)

    def cells(self) -> Iterator[Cell]:
        """All of them, the oldest first."""
        return iter((*self._here.values(), *self._leaving.values()))

    def freeze(self, exempt: str, held: dict[str, Cell], rising: dict[str, Cell]) -> None:
        """All of them but ids that begin with ``exempt``: see ``freeze_all``."""
        freeze_all(self._here, exempt, held, rising)
        freeze_all(self._leaving, exempt, held, rising)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._here, *self._leaving))

    def __contains__(self, actor_id: str) -> bool:
        return actor_id in self._here or actor_id in self._leaving

    def __len__(self) -> int:
        return len(self._here) + len(self._leaving)
