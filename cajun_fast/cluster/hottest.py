"""The busiest actors of one node, by looking twice: what each has done between two looks.

Laws: what is not counted anyway (bytes, the steps of coroutines, short times exactly) is counted from the first look
until ``REST`` seconds after the last one. A look goes over all actors in pieces, so that it never holds the loop for
longer than one piece takes.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cajun_fast._core.cell import Cell
from cajun_fast.actors.system import ActorSystem
from cajun_fast.metrics.holds import Hold

#: Actors that are looked at in one turn of the loop.
PIECE = 2000
#: Seconds without a look after which measuring ends, and what was seen is forgotten.
REST = 15.0


class Seen(NamedTuple):
    """What an actor had done at the look before."""

    handled: int = 0
    busy_ns: int = 0
    bytes_in: int = 0


NOTHING = Seen()


class Hottest:
    """``longest_hold(since_ns)``: who had the loop for longest since then. See the module's laws."""

    def __init__(self, actors: ActorSystem, longest_hold: Callable[[int], Hold]) -> None:
        self._actors = actors
        self._longest_hold = longest_hold
        self._seen: dict[str, Seen] = {}
        self._at_ns = 0
        self._timed_before: bool | None = None
        self._rest: asyncio.TimerHandle | None = None

    async def look(self, limit: int) -> list[dict[str, Any]]:
        """The first ``limit`` by time, by messages, by bytes and by queue, those that stand in several lists only once.

        Rates are per second since the look before; the first look has none and finds queues only. ``hold``: of the one
        whose handler had the loop for longest without a break since then, how long, in seconds; 0 for all others."""
        self._keep_timing()
        now = self._actors.ports.clock.now_ns()
        seconds = (now - self._at_ns) / 1e9 if self._at_ns else 0.0
        hold = self._longest_hold(self._at_ns or now)
        before, self._seen, self._at_ns = self._seen, {}, now
        rows = [row async for row in self._rows(before, seconds)]
        chosen: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row["id"] == hold.actor:
                row["hold"] = hold.seconds
                chosen[row["id"]] = row
        for column in ("busy", "rate", "bytes", "queue"):
            for row in heapq.nlargest(limit, rows, key=lambda row: row[column]):
                if row[column] > 0:
                    chosen[row["id"]] = row
        return list(chosen.values())

    async def _rows(self, before: dict[str, Seen], seconds: float) -> Any:
        ids = list(self._actors.actor_ids())
        for start in range(0, len(ids), PIECE):
            for cell in self._cells(ids[start : start + PIECE]):
                if cell.handled or cell.bytes_in:
                    self._seen[cell.id] = Seen(cell.handled, cell.busy_ns, cell.bytes_in)
                row = _row(cell, before.get(cell.id, NOTHING), seconds)
                if row["busy"] or row["rate"] or row["bytes"] or row["queue"]:
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
            dispatcher.exchange.weighing = True
        self.stop()
        self._rest = asyncio.get_running_loop().call_later(REST, self.forget)

    def forget(self) -> None:
        """Nobody looks any more."""
        self.stop()
        self._seen, self._at_ns = {}, 0
        if self._timed_before is not None and self._actors.actor_count:
            self._actors.dispatcher.timing = self._timed_before
            self._actors.dispatcher.exchange.weighing = False
        self._timed_before = None

    def stop(self) -> None:
        """Let the timer go; a later look sets it again."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None


def _row(cell: Cell, before: Seen, seconds: float) -> dict[str, Any]:
    if cell.handled < before.handled:  # another life of that id
        before = NOTHING
    return {
        "id": cell.id,
        "type": type_name(cell),
        "state": cell.state,
        "queue": cell.mailbox_size,
        "handled": cell.handled,
        "failed": cell.failed,
        "rate": (cell.handled - before.handled) / seconds if seconds else 0.0,
        "bytes": (cell.bytes_in - before.bytes_in) / seconds if seconds else 0.0,
        "hold": 0.0,
        "busy": min(1.0, (cell.busy_ns - before.busy_ns) / 1e9 / seconds) if seconds else 0.0,
    }


def type_name(cell: Cell) -> str:
    """What people call the actor's class or function."""
    return str(cell.recipe.kind.name)
