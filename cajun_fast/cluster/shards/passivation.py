"""Ends sharded actors that nobody has written to for a while.

Laws: it costs messages nothing: a slow walk over the actors compares how many messages each has handled. Idle is who
rests, has handled nothing since two walks, and waits for no timer; its children count as itself. The walk gives way
to everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from cajun_fast._core.cell import Cell
from cajun_fast.actors.registry import ActorType
from cajun_fast.cluster.shards.region import Region, descendants

#: Actors that are looked at before others have their turn.
STRIDE = 200
#: Seconds between two walks: where no type asks for any, and at least.
LONGEST_WALK, SHORTEST_WALK = 1.0, 0.01


class Types(Protocol):
    """What is needed of the registry of actor types."""

    def types(self) -> list[ActorType]: ...


class Passivation:
    """See the module's laws."""

    def __init__(
        self, region: Region, types: Types, default: float | None, now_ns: Callable[[], int]
    ) -> None:
        """``default``: seconds for types that do not say otherwise; None or 0: never."""
        self._region = region
        self._types = types
        self._default = default
        self._now_ns = now_ns
        #: By id: messages handled when last seen to change, and when that was.
        self._seen: dict[str, tuple[int, int]] = {}

    async def run(self) -> None:
        """Walk for ever."""
        while True:
            due = await self.walk()
            await asyncio.sleep(due)

    async def walk(self) -> float:
        """Look at every sharded actor once; the seconds until the next walk are due."""
        limits = self._limits()
        looked = 0
        living: dict[str, tuple[int, int]] = {}
        for place in self._region.places():
            limit = limits.get(place[0], 0.0)
            if not limit:
                continue
            for actor_id, cell in list(self._region.actors(place).items()):
                self._look(actor_id, cell, limit, living)
                looked += 1
                if looked % STRIDE == 0:
                    await asyncio.sleep(0)
        self._seen = living
        walks = (max(limit / 4, SHORTEST_WALK) for limit in limits.values() if limit)
        return min(walks, default=LONGEST_WALK)

    def _limits(self) -> dict[str, float]:
        default = self._default or 0.0
        return {
            kind.name: default if kind.passivate_after is None else kind.passivate_after
            for kind in self._types.types()
            if kind.sharded
        }

    def _look(self, actor_id: str, cell: Cell, limit: float, living: dict[str, tuple[int, int]]) -> None:
        family = [cell, *descendants(cell)]
        handled = sum(each.handled for each in family)
        now = self._now_ns()
        before = self._seen.get(actor_id)
        if before is None or before[0] != handled or not all(map(is_idle, family)):
            living[actor_id] = (handled, now)
        elif now - before[1] >= limit * 1e9:
            self._region.passivate(cell)
        else:
            living[actor_id] = before


def is_idle(cell: Cell) -> bool:
    """Rests, and waits for no timer of its own."""
    return cell.state == "running" and cell.is_resting and not cell.timers
