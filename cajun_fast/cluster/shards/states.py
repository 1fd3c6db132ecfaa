"""States of volatile actors, and who watches them, that have come from another node ahead of their shard.

Laws: held inactive until the table says that the shard has come by the very hand-over that they belong to: then the
actors start with them, at once. A later hand-over of the shard takes their place; what never comes is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.shards.region import Region
from cajun_fast.cluster.shards.table import Place, ShardTable
from cajun_fast.cluster.shards.watches import ShardWatches, Watchers

#: Seconds that states are kept for a shard that does not come.
KEPT = 60.0


@dataclass(slots=True)
class Held:
    """What has come for one shard."""

    move: str
    since_ns: int
    states: dict[str, Any] = field(default_factory=dict)
    watchers: Watchers = field(default_factory=dict)


class ArrivedStates:
    """See the module's laws."""

    def __init__(
        self, table: ShardTable, region: Region, watches: ShardWatches, now_ns: Callable[[], int]
    ) -> None:
        self._table = table
        self._region = region
        self._watches = watches
        self._now_ns = now_ns
        self._held: dict[Place, Held] = {}

    def __len__(self) -> int:
        return sum(len(held.states) for held in self._held.values())

    def expect(self, move: str, places: Iterable[Place]) -> None:
        """These shards are about to come; what came for them before is void."""
        now = self._now_ns()
        self._held = {place: held for place, held in self._held.items() if now - held.since_ns < KEPT * 1e9}
        for place in places:
            self._held[place] = Held(move, now)

    def keep(self, move: str, states: Mapping[str, Any], watchers: Watchers) -> None:
        """Of actors of shards that are expected."""
        for actor_id, state in states.items():
            if (held := self._of(move, actor_id)) is not None:
                held.states[actor_id] = state
        for actor_id, nodes in watchers.items():
            if (held := self._of(move, actor_id)) is not None:
                held.watchers[actor_id] = nodes

    def _of(self, move: str, actor_id: str) -> Held | None:
        place = self._table.place(actor_id)
        held = self._held.get(place) if place is not None else None
        return held if held is not None and held.move == move else None

    def on_change(self, place: Place, now: ShardRecord | None) -> None:
        """The table knows more of a shard."""
        held = self._held.pop(place, None) if self._held else None
        if held is not None and now is not None and now.move == held.move and self._region.owns(place):
            self._watches.take(place, held.watchers)
            self._region.take_states(held.states)
