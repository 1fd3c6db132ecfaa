"""The busiest actors of one node, by looking twice: what each has done between two looks.

Laws: nothing is counted for this that is not counted anyway, except the time in handlers, which is measured from the
first look until ``REST`` seconds after the last one. A look goes over all actors in pieces, so that it never holds the
loop for longer than one piece takes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast.actors.system import ActorSystem

#: Actors that are looked at in one turn of the loop.
PIECE = 2000
#: Seconds without a look after which time in handlers is measured no more, and what was seen is forgotten.
REST = 15.0
Seen = tuple[int, int]  # handled, busy_ns


class Hottest:
    """See the module's laws."""

    def __init__(self, actors: ActorSystem) -> None:
        self._actors = actors
        self._seen: dict[str, Seen] = {}
        self._at_ns = 0
        self._timed_before: bool | None = None
        self._rest: asyncio.TimerHandle | None = None

    async def look(self, limit: int) -> list[dict[str, Any]]:
        """The first ``limit`` by time, by messages and by queue, those of one list that stand in others only once.

        Rates are per second since the look before; the first look has none and finds queues only. ``hold``: of the one
        whose handler had the loop for longest without a break since then, how long, in seconds; 0 for all others."""
        self._keep_timing()
        now = self._actors.ports.clock.now_ns()
        seconds = (now - self._at_ns) / 1e9 if self._at_ns else 0.0
        holder, held_ns = self._actors.dispatcher.take_longest()
        before, self._seen, self._at_ns = self._seen, {}, now
        rows = [row async for row in self._rows(before, seconds)]
        chosen: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row["id"] == holder:
                row["hold"] = held_ns / 1e9
                chosen[row["id"]] = row
        for column in ("busy", "rate", "queue"):
            for row in heapq.nlargest(limit, rows, key=lambda row: row[column]):
                if row[column] > 0:
                    chosen[row["id"]] = row
        return list(chosen.values())

    async def _rows(self, before: dict[str, Seen], seconds: float) -> Any:
        ids = list(self._actors.actor_ids())
        for start in range(0, len(ids), PIECE):
            for cell in self._cells(ids[start : start + PIECE]):
                handled, busy = cell.handled, cell.busy_ns
                if handled:
                    self._seen[cell.id] = (handled, busy)
                row = _row(cell, before.get(cell.id, (0, 0)), seconds)
                if row["busy"] or row["rate"] or row["queue"]:
                    yield row
            await asyncio.sleep(0)

    def _cells(self, ids: list[str]) -> Iterator[Cell]:
        for actor_id in ids:
            cell = self._actors.cell(actor_id)
            if cell is not None and not actor_id.startswith("cajun:"):
                yield cell

    def _keep_timing(self) -> None:
        dispatcher = self._actors.dispatcher
        if self._timed_before is None:
            self._timed_before, dispatcher.timing = dispatcher.timing, True
        self.stop()
        self._rest = asyncio.get_running_loop().call_later(REST, self._forget)

    def _forget(self) -> None:
        self._seen, self._at_ns, self._rest = {}, 0, None
        if self._timed_before is False and self._actors.actor_count:
            self._actors.dispatcher.timing = False
        self._timed_before = None

    def stop(self) -> None:
        """Let the timer go; a later look sets it again."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None


def _row(cell: Cell, before: Seen, seconds: float) -> dict[str, Any]:
    handled, busy = cell.handled - before[0], cell.busy_ns - before[1]
    return {
        "id": cell.id,
        "type": type_name(cell),
        "state": cell.state,
        "queue": cell.mailbox_size,
        "handled": cell.handled,
        "failed": cell.failed,
        "rate": max(0, handled) / seconds if seconds else 0.0,
        "hold": 0.0,
        "busy": min(1.0, max(0, busy) / 1e9 / seconds) if seconds else 0.0,
    }


def type_name(cell: Cell) -> str:
    """What people call the actor's class or function."""
    return str(cell.recipe.kind.name)
