"""What a user holds of a sharded type: pids by the ids of entities, and where they are.

Laws: pure arithmetic and the table that stands here; nothing is asked.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cajun_fast._core.lane import Exchange, Pid
from cajun_fast.actors.registry import Registry
from cajun_fast.cluster.shards.ids import place_of, sharded_id
from cajun_fast.errors import ConfigError, NotRunningError, UnknownActorTypeError

if TYPE_CHECKING:
    from cajun_fast.cluster.shards.parts import Sharding


class ShardedType:
    """The actors of one sharded type. Made by ``system.sharded(type)``."""

    __slots__ = ("_exchange", "_sharding", "name")

    def __init__(self, name: str, sharding: Sharding, exchange: Exchange, types: Registry) -> None:
        try:
            if not types.lookup(name).sharded:
                raise ConfigError(
                    f"actor type {name!r} is not sharded: write @cajun_fast.actor({name!r}, sharded=True)"
                )
        except UnknownActorTypeError:
            pass  # other nodes host it
        self.name = name
        self._sharding = sharding
        self._exchange = exchange

    def __repr__(self) -> str:
        return f"ShardedType({self.name!r})"

    def id(self, entity: str) -> str:
        """The actor id of an entity, ``type#entity``. Raises ConfigError for one that is none."""
        return sharded_id(self.name, entity)

    def pid(self, entity: str) -> Pid:
        """A handle on the actor of an entity: it starts with its first message, wherever its shard is.

        Raises ConfigError for an entity id that is none.
        """
        return self._exchange.pid(sharded_id(self.name, entity))

    def shard(self, entity: str) -> int:
        """The number of an entity's shard. Raises NotRunningError while no node has named the number of shards."""
        count = self._sharding.table.count
        if count is None:
            raise NotRunningError(
                f"no node of this cluster has a sharded type yet, so the shard of {self.name!r} {entity!r} is not known"
            )
        return place_of(sharded_id(self.name, entity), count)[1]

    def node(self, entity: str) -> str | None:
        """The node that owns an entity's shard as far as this node knows; None while nobody does."""
        record = self._sharding.table.of_actor(sharded_id(self.name, entity))
        return None if record is None else record.owner.node

    def shards(self) -> dict[int, str]:
        """Shards with their nodes, by number."""
        return {
            number: record.owner.node
            for number, record in sorted(self._sharding.table.of_type(self.name).items())
        }

    def spread(self) -> Counter[str]:
        """How many shards each node owns."""
        return Counter(self.shards().values())
