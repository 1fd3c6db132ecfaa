"""Durable actors in a cluster: the store they are kept in, the epoch of each ownership, and notes between nodes.

Laws: the epoch of an actor is the revision at which this node's claim of it, or of its shard, was written, within the
life of the metadata store (its realm, a text drawn once and kept in it): a later owner has a higher one, and a
metadata store that was begun anew is another realm. A copy whose commit is refused is stopped and nothing is written
for it. Every member can send to durable actors, clients too; hosting them takes a persistence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cajun_fast._core.cell import Cell
from cajun_fast.cluster.standstill import top_of
from cajun_fast.errors import CajunError, ConfigError, NotRunningError
from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.messaging.faults import decode_error, encode_error
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.persistence import Durability, Epoch, Persistence, open_persistence

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

log = logging.getLogger("cajun_fast.cluster")

#: Seconds between two looks at messages whose commit nobody has told of.
LOOK = 1.0


def durable_id(node_id: str) -> str:
    """Id of the actor that takes a node's notes of commits."""
    return f"cajun:durable@{node_id}"


async def realm_of(store: MetadataStore, keys: KeySpace, chance: Callable[[], str]) -> str:
    """The text that names this life of the metadata store; drawn by whoever comes first."""
    key = keys.setting("realm")
    while True:
        entry = await store.get(key)
        if entry is not None:
            return entry.value.decode()
        await store.compare_and_set(key, 0, chance().encode())


class DurableActors:
    """See the module's laws. ``persistence``: instead of the configured one."""

    def __init__(self, node: Node, persistence: Persistence | None = None) -> None:
        url = node.config.persistence
        self._node = node
        self._persistence = persistence or (open_persistence(url) if url and not node.config.client else None)
        self._realm = ""
        self.durability: Durability | None = None

    async def start(self) -> None:
        """Open the store and take notes. Raises ConfigError, PersistenceUnavailableError."""
        node = self._node
        node.exchange.ways.send = self._send
        await node.actors.register_function(self._take_notes, durable_id(node.owner.node))
        if self._persistence is None:
            return
        random = node.ports.random
        self._realm = await realm_of(node.store, node.keys, lambda: f"{random.getrandbits(64):016x}")
        durability = Durability(
            self._persistence,
            node.exchange,
            random,
            epoch_of=self._epoch_of,
            on_lost=self._on_lost,
            encode_error=encode_error,
            decode_error=decode_error,
        )
        await durability.start()
        self.durability = node.actors.durability = durability

    async def stop(self) -> None:
        """After the actors."""
        if self.durability is not None:
            await self.durability.stop()

    async def look_after(self) -> None:
        """For ever: ask after messages whose commit is overdue."""
        while True:
            await asyncio.sleep(LOOK)
            self._node.exchange.ways.look_after()

    # ---- notes

    def _send(self, node_id: str, notes: list[Any]) -> None:
        try:
            pid = self._node.exchange.pid(durable_id(node_id))
            pid.tell(notes, guarantee=DeliveryGuarantee.AT_MOST_ONCE)
        except CajunError as error:  # who waits for it asks again
            log.debug("notes for node %r were not sent: %s", node_id, error)

    def _take_notes(self, message: Any, context: Any) -> None:
        ways = self._node.exchange.ways
        match message:
            case list(notes):
                for note in notes:
                    match note:
                        case [str(target), str(stream), int(committed), int(again)]:
                            ways.on_note(target, stream, committed, again)

    # ---- ownership

    def _epoch_of(self, actor_id: str) -> Epoch:
        cell = self._node.actors.cell(actor_id)
        top = top_of(cell) if cell is not None else actor_id
        standing = self._node.hosting.owned.get(top)
        number = standing.revision if standing is not None else self._node.sharding.epoch_of(top)
        if number is None:
            raise NotRunningError(
                f"durable actor {actor_id!r} is not this node's any more: it was not started"
            )
        return Epoch(self._realm, number)

    def _on_lost(self, cell: Cell, why: str) -> None:
        node, actor_id = self._node, str(cell.id)
        if actor_id in node.hosting.owned:
            node.hosting.lose(actor_id, why)
        else:
            node.actors.stop_cell(cell)

    # ---- for whoever moves, forgets or looks

    async def let_go(self, actor_id: str) -> None:
        """Of a frozen durable actor of this node: have the store hold everything that it has handled, and its senders
        look for its next owner. Of any other actor: nothing."""
        cell = self._node.actors.cell(actor_id)
        if cell is not None and cell.gate is not None and self.durability is not None:
            await self.durability.let_go(cell)

    async def forget(self, actor_id: str) -> bool:
        """Delete what is kept of an actor that does not run."""
        if self._persistence is None:
            raise ConfigError(
                f"node {self._node.owner.node!r} has no persistence to delete the state of actor {actor_id!r} from"
            )
        return await self._persistence.delete(actor_id)
