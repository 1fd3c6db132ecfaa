"""What both halves of a hand-off need of their node.

Laws: no decisions here; each method is one thing done to one part of the node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast._core.lane import Exchange
from cajun_fast._core.link import Link
from cajun_fast.actors.moving import Newcomers
from cajun_fast.actors.registry import ActorType, Registry
from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.host import decode_answer
from cajun_fast.cluster.hosting import Hosting
from cajun_fast.cluster.locator import Locator
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.membership import Membership
from cajun_fast.cluster.movement.packing import Packer, Unpacker
from cajun_fast.cluster.movement.tombstones import Tombstones
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.config_groups import MovementConfig
from cajun_fast.errors import CajunError, UnknownActorTypeError
from cajun_fast.messaging.system import MessagingSystem
from cajun_fast.metadata.keys import KeySpace


def mover_id(node_id: str) -> str:
    """Id of the system actor by which a node speaks of moves."""
    return f"cajun:move@{node_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Of a node."""

    actors: ActorSystem
    hosting: Hosting
    registrar: Registrar
    directory: Directory
    locator: Locator
    members: Members
    membership: Membership
    types: Registry
    keys: KeySpace
    tombstones: Tombstones
    messaging: Callable[[], MessagingSystem]
    settings: MovementConfig
    is_client: bool


class World:
    """See the module's laws."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.exchange: Exchange = parts.actors.exchange
        self.settings = parts.settings
        self.keys = parts.keys
        self.registrar = parts.registrar
        self.newcomers = Newcomers(parts.actors.keeper)
        self.packer = Packer(self.exchange)
        self.unpacker = Unpacker(
            self.exchange,
            self.newcomers,
            self.packer.companions,
            lambda name: parts.types.lookup(name).target,
            lambda node: parts.messaging().replies_for(node),
        )
        self.tasks = Tasks(f"movement {self.owner.node}")

    @property
    def owner(self) -> Owner:
        """This life of this node."""
        return self.parts.hosting.owner

    def may_own(self) -> bool:
        """Whether this node holds its seat."""
        return self.parts.membership.holds

    async def seated(self) -> bool:
        """The same, once it is known: a node that stands still for a moment is not one that has lost its seat."""
        return await self.parts.membership.settled()

    def known_type(self, name: str) -> ActorType | None:
        """The type of that name here."""
        try:
            return self.parts.types.lookup(name)
        except UnknownActorTypeError:
            return None

    def links(self) -> list[Link]:
        """To all nodes."""
        messaging = self.parts.messaging()
        peers = (messaging.peer(node) for node in messaging.nodes)
        return [peer.link for peer in peers if peer is not None]

    # ---- other nodes

    async def ask(self, node: str, request: Mapping[str, Any], timeout: float) -> Any:
        """Ask a node's mover. Raises what it raises, NodeUnavailableError, AskTimeoutError, OutcomeUnknownError."""
        pid = self.exchange.pid(mover_id(node))
        return decode_answer(await pid.ask(dict(request), timeout=timeout), pid)

    def tell(self, node: str, notice: Mapping[str, Any]) -> None:
        """Tell a node's mover, if it can be told."""
        try:
            self.exchange.pid(mover_id(node)).tell(dict(notice))
        except CajunError:
            return  # it is told again by what it asks, or by the directory

    def tell_askers(self, target: str, askers: Mapping[str, Sequence[int]]) -> None:
        """Asks that wait in the mailbox have gone to ``target``: they are lost with that node now, not with this."""
        for node, tags in askers.items():
            if node == self.owner.node:
                self.carried(target, tags)
            else:
                self.tell(node, {"op": "carried", "node": target, "tags": list(tags)})

    def carried(self, target: str, tags: Sequence[int]) -> None:
        """Asks of this node have moved on to ``target``."""
        try:
            link = None if target == self.owner.node else self.parts.messaging().link(target)
        except CajunError:
            link = None
        for tag in tags:
            self.exchange.asks.carry(tag, link)

    # ---- leaving

    def has_left(self, standing: Standing) -> None:
        """The commit stands: from now on this node says where it has gone."""
        actor_id, record = standing.actor_id, standing.record
        node, now = record.owner.node, self.exchange.clock()
        self.parts.hosting.owned.pop(actor_id, None)
        self.parts.tombstones.put(actor_id, node)
        self.parts.locator.cache.put(actor_id, node, standing.revision, now, record.durable)

    async def end_copy(self, cell: Cell) -> None:
        """Its ``post_stop``, and nothing of it is left here."""
        keeper = self.parts.actors.keeper
        await keeper.dispatcher.task(keeper.move_out(cell), cell.pid, f"move out {cell.id}")

    async def goes_on(self, standing: Standing) -> None:
        """It stays; an ownership of an earlier life is put back."""
        hosting = self.parts.hosting
        ours = hosting.owned.get(standing.actor_id)
        hosting.departing.pop(standing.actor_id, None)
        if ours is not None and ours.record.owner != hosting.owner:
            self.tasks.start(self._confirm(ours), f"confirm {standing.actor_id}")

    async def _confirm(self, ours: Standing) -> None:
        await asyncio.sleep(0)
        await self.parts.hosting.confirm(ours)

    def lost(self, actor_id: str, why: str) -> None:
        """Somebody else owns it: end the copy here, write nothing."""
        self.parts.hosting.departing.pop(actor_id, None)
        self.parts.hosting.lose(actor_id, why)
