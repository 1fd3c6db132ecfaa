"""A mover of the parts of a node.

Laws: the only place in this room that knows what a node calls its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgpack

from cajun_fast._core.cell import Cell
from cajun_fast.actors.deaths import Deaths
from cajun_fast.actors.groups import Groups
from cajun_fast.cluster.deaths import ClusterDeaths
from cajun_fast.cluster.movement.mover import Mover
from cajun_fast.cluster.movement.world import Parts

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node


class Watched:
    """Where those are that the actor watches, and what it has not been told of them: unpacked before the watches."""

    def __init__(self, deaths: Callable[[], ClusterDeaths]) -> None:
        self._deaths = deaths

    def pack(self, cell: Cell) -> bytes | None:
        targets = self._deaths().packed(cell.id)
        packed: bytes | None = msgpack.packb(targets) if targets else None
        return packed

    def unpack(self, cell: Cell, data: bytes) -> None:
        self._deaths().unpack(cell.pid, msgpack.unpackb(data))


class Watches:
    """Whom the actor watches: it goes on doing so. Who watches it follows by the directory."""

    def __init__(self, deaths: Deaths) -> None:
        self._deaths = deaths

    def pack(self, cell: Cell) -> bytes | None:
        targets = sorted(self._deaths.targets_of(cell.id))
        packed: bytes | None = msgpack.packb(targets) if targets else None
        return packed

    def unpack(self, cell: Cell, data: bytes) -> None:
        for target in msgpack.unpackb(data):
            self._deaths.watch(cell.pid, str(target))


class Subscriptions:
    """What the actor has subscribed to: it goes on hearing of it."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups

    def pack(self, cell: Cell) -> bytes | None:
        topics = sorted(self._groups.topics_of(cell.id))
        packed: bytes | None = msgpack.packb(topics) if topics else None
        return packed

    def unpack(self, cell: Cell, data: bytes) -> None:
        for topic in msgpack.unpackb(data):
            self._groups.subscribe(cell.pid, str(topic))


def make_mover(node: Node) -> Mover:
    """For a node whose actors, links and hosting are there."""
    mover = Mover(
        Parts(
            actors=node.actors,
            hosting=node.hosting,
            registrar=node.registrar,
            directory=node.directory,
            locator=node.locator,
            members=node.members,
            membership=node.membership,
            types=node.types,
            keys=node.keys,
            tombstones=node.tombstones,
            messaging=lambda: node.messaging,
            settings=node.config.movement,
            is_client=node.config.client,
        )
    )
    mover.tell = node.events.add
    mover.world.packer.companions["watched"] = Watched(lambda: node.deaths)
    mover.world.packer.companions["watches"] = Watches(node.actors.keeper.deaths)
    mover.world.packer.companions["subscriptions"] = Subscriptions(node.actors.keeper.groups)
    return mover
