"""Hand-offs at the node that shall own the actors: performs what ``arrival`` says.

Laws: nothing starts but by the directory's leave. What came is bounded in bytes and in number; what is given
up is let go of at once. A commit that arrives for something that was given up (its owner was lost in the
middle) starts the actor anew, as after a crash: it is ours, and nobody else would.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast.actors import moving
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.hosting import describe
from cajun_fast.cluster.movement import luggage
from cajun_fast.cluster.movement.arrival import Act, Arrival, Event, State
from cajun_fast.cluster.movement.luggage import Piece
from cajun_fast.cluster.movement.world import World
from cajun_fast.cluster.records import Owner
from cajun_fast.errors import (
    CajunError,
    ConfigError,
    LeaseLostError,
    NodeUnavailableError,
    PersistenceUnavailableError,
    ProtocolError,
)

log = logging.getLogger("cajun_fast.cluster")

#: Claims of given-up arrivals that are remembered.
REMEMBERED = 1000
#: Seconds before another try to start a durable actor whose persistence has not answered.
TRY_AGAIN = 0.5


@dataclass(eq=False, slots=True)
class Incoming:
    """One arrival and what has come of it."""

    actor_id: str
    claim: int
    source: Owner
    revision: int
    machine: Arrival = field(default_factory=Arrival)
    data: bytearray = field(default_factory=bytearray)
    pieces: list[Piece] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    standing: Standing | None = None
    timer: asyncio.TimerHandle | None = None
    started: asyncio.Future[None] | None = None


class Destination:
    """See the module's laws."""

    def __init__(self, world: World, is_cordoned: Callable[[], bool]) -> None:
        self._world = world
        self._is_cordoned = is_cordoned
        self._incoming: dict[str, Incoming] = {}
        self._given_up: OrderedDict[tuple[str, int], None] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        """Arrivals that are under way."""
        return len(self._incoming)

    # ---- what the owner asks

    async def reserve(self, source: Owner, actor_id: str, types: list[str], revision: int) -> dict[str, Any]:
        """Take an actor in, if it can be hosted here; the claim under which it shall be ours."""
        self._check_room(actor_id)  # what makes no sense is told at once, whatever the seat
        for name in types:
            self._world.parts.types.lookup(name)
        await self._check_seat()
        self._check_room(actor_id)
        earlier = self._incoming.get(actor_id)
        if earlier is not None:
            if (
                earlier.machine.state not in (State.LOADING, State.READY)
                or earlier.source.node != source.node
            ):
                raise ConfigError(f"actor {actor_id!r} arrives on node {self._world.owner.node!r} already")
            self._feed(earlier, Event.FORGET)  # its owner began anew
        incoming = Incoming(actor_id, self._world.parts.hosting.new_claim(), source, revision)
        self._incoming[actor_id] = incoming
        self._world.parts.hosting.arriving.add(actor_id)
        self._watch_out(incoming)
        return self._grant(incoming)

    async def _check_seat(self) -> None:
        if not await self._world.seated():
            node = self._world.owner.node
            raise NodeUnavailableError(f"node {node!r} does not hold its seat in the cluster", node)

    def _check_room(self, actor_id: str) -> None:
        node, settings = self._world.owner.node, self._world.settings
        if self._world.parts.is_client:
            raise ConfigError(f"node {node!r} is a client and hosts no actors: choose another node")
        if self._is_cordoned():
            raise NodeUnavailableError(f"node {node!r} is cordoned: it takes no actors", node)
        if actor_id in self._world.parts.hosting.owned:
            raise ConfigError(f"actor {actor_id!r} lives on node {node!r} already")
        if len(self._incoming) >= settings.arrivals_at_once:
            raise NodeUnavailableError(
                f"{len(self._incoming)} actors arrive on node {node!r} already: try again, or raise "
                "movement.arrivals_at_once",
                node,
            )

    def _grant(self, incoming: Incoming) -> dict[str, Any]:
        return {
            "claim": incoming.claim,
            "incarnation": self._world.owner.incarnation,
            "seat": self._world.parts.membership.revision,
        }

    def _find(self, actor_id: str, claim: int) -> Incoming:
        incoming = self._incoming.get(actor_id)
        if incoming is None or incoming.claim != claim:
            raise LeaseLostError(
                f"node {self._world.owner.node!r} does not expect actor {actor_id!r} (any more)"
            )
        return incoming

    async def load(self, actor_id: str, claim: int, offset: int, total: int, data: bytes) -> dict[str, Any]:
        """One chunk; behind the last one the actor is put together, and nothing of it runs."""
        incoming = self._find(actor_id, claim)
        if (
            offset != len(incoming.data)
            or offset + len(data) > total
            or total > self._world.settings.max_bytes
        ):
            raise ProtocolError(
                f"bytes {offset} to {offset + len(data)} of {total} where {len(incoming.data)} have come "
                f"and {self._world.settings.max_bytes} are the most"
            )
        incoming.data += data
        self.bytes += len(data)
        self._watch_out(incoming)
        if len(incoming.data) == total:
            await self._put_together(incoming)
        return self._grant(incoming)

    async def _put_together(self, incoming: Incoming) -> None:
        try:
            incoming.pieces = luggage.decode(bytes(incoming.data))
            incoming.cells = await self._world.unpacker.put_together(incoming.pieces)
        except BaseException:
            self._feed(incoming, Event.BROKEN)
            raise
        if incoming.machine.is_over:  # its owner has changed its mind meanwhile
            moving.drop(incoming.cells)
            raise LeaseLostError(
                f"node {self._world.owner.node!r} does not expect actor {incoming.actor_id!r} any more"
            )
        self._feed(incoming, Event.COMPLETE)

    async def ready(self, actor_id: str, claim: int) -> dict[str, Any]:
        """Whether everything is here and would still be taken."""
        self._find(actor_id, claim)
        seated = await self._world.seated()
        incoming = self._find(actor_id, claim)
        if incoming.machine.state is not State.READY or not seated:
            raise LeaseLostError(
                f"actor {actor_id!r} is {incoming.machine.state.value} on node {self._world.owner.node!r}"
            )
        if self._is_cordoned():
            raise NodeUnavailableError(f"node {self._world.owner.node!r} is cordoned: it takes no actors")
        return self._grant(incoming)

    async def go(self, actor_id: str, claim: int, revision: int) -> dict[str, Any]:
        """It is ours, and its copy has ended: start it. Raises what its start raises; answers at once for one that has
        started by itself.
        """
        incoming = self._incoming.get(actor_id)
        if incoming is not None and incoming.claim == claim:
            incoming.standing = incoming.standing or await self._read(incoming)
            self._feed(incoming, Event.GO)
            if incoming.started is not None:
                await asyncio.shield(incoming.started)
        return {}

    async def _read(self, incoming: Incoming) -> Standing | None:
        standing = await self._world.parts.directory.read(incoming.actor_id, fresh=True)
        if standing is None or not self._is_ours(standing, incoming.claim):
            raise LeaseLostError(f"actor {incoming.actor_id!r} is not this node's by the directory")
        return standing

    def forget(self, source: str, actor_id: str, claim: int) -> None:
        """Its owner keeps it. ``claim`` 0: whatever came of it from there and is not complete."""
        incoming = self._incoming.get(actor_id)
        if incoming is None or incoming.source.node != source:
            return
        if incoming.claim == claim or (claim == 0 and incoming.machine.state is State.LOADING):
            self._feed(incoming, Event.FORGET)

    # ---- what the directory and the members say

    def _is_ours(self, standing: Standing, claim: int) -> bool:
        return standing.record.owner == self._world.owner and standing.record.claim == claim

    def on_moved(self, actor_id: str, standing: Standing | None, revision: int) -> None:
        """A record has changed."""
        incoming = self._incoming.get(actor_id)
        if incoming is None:
            if standing is not None and (actor_id, standing.record.claim) in self._given_up:
                self._late(standing)
        elif revision > incoming.revision:
            self._on_standing(incoming, standing)

    def _on_standing(self, incoming: Incoming, standing: Standing | None) -> None:
        if standing is not None and self._is_ours(standing, incoming.claim):
            incoming.standing = standing
            self._feed(incoming, Event.OURS)
        elif standing is None or standing.revision != incoming.revision:
            self._feed(incoming, Event.OTHER)
        else:
            lives = self._world.parts.members.lives(incoming.source)
            self._feed(incoming, Event.UNCHANGED if lives else Event.ORPHANED)

    def node_left(self, owner: Owner) -> None:
        """That life of a node is over."""
        for incoming in [each for each in self._incoming.values() if each.source == owner]:
            self._feed(incoming, Event.GONE)

    def on_fenced(self) -> None:
        """This life of this node may own nothing any more: what is its own by the directory is somebody else's soon."""
        for incoming in list(self._incoming.values()):
            self._feed(incoming, Event.OTHER)

    def stop(self) -> None:
        """Let go of everything that has not started."""
        for incoming in list(self._incoming.values()):
            self._let_go(incoming)

    # ---- the machine's wishes

    def _feed(self, incoming: Incoming, event: Event) -> None:
        for act in incoming.machine.on(event):
            match act:
                case Act.WATCH_OUT:
                    self._watch_out(incoming)
                case Act.LOOK_UP:
                    self._world.tasks.start(self._look_up(incoming), f"look up {incoming.actor_id}")
                case Act.START:
                    incoming.started = asyncio.get_running_loop().create_future()
                    self._world.tasks.start(
                        self._start(incoming, incoming.started), f"start {incoming.actor_id}"
                    )
                case Act.FORGET:
                    self._give_up(incoming)
                case Act.GIVE_BACK:
                    self._let_go(incoming)

    def _watch_out(self, incoming: Incoming) -> None:
        if incoming.timer is not None:
            incoming.timer.cancel()
        seconds = self._world.settings.silence
        loop = asyncio.get_running_loop()
        incoming.timer = loop.call_later(seconds, self._feed, incoming, Event.SILENCE)

    async def _look_up(self, incoming: Incoming) -> None:
        try:
            standing = await self._world.parts.directory.read(incoming.actor_id, fresh=True)
        except CajunError as error:
            log.info("whose actor %r is cannot be read now: %s", incoming.actor_id, error)
            self._watch_out(incoming)
            return
        self._on_standing(incoming, standing)

    async def _start(self, incoming: Incoming, started: asyncio.Future[None]) -> None:
        world = self._world
        standing = incoming.standing
        try:
            if standing is None:
                standing = await self._read(incoming)
            assert standing is not None
            world.parts.tombstones.remove(incoming.actor_id)
            await world.parts.hosting.settle_in(standing, lambda: self._let_in(incoming))
        except Exception as error:  # told to the owner of before, who waits, and to the log
            log.error("actor %r came to this node and did not start: %s", incoming.actor_id, describe(error))
            self._feed(incoming, Event.FAILED)
            if not started.done():
                started.set_exception(error)
                started.exception()
            if standing is not None and isinstance(error, PersistenceUnavailableError):
                await self._start_anew(standing)
            return
        self._feed(incoming, Event.STARTED)
        self._let_go(incoming, keep_cells=True)
        log.info("actor %r came from node %r", incoming.actor_id, incoming.source.node)
        if not started.done():
            started.set_result(None)

    async def _let_in(self, incoming: Incoming) -> None:
        pieces = {piece.actor_id: piece for piece in incoming.pieces}
        mine = [
            letter.tag
            for piece in incoming.pieces
            for letter in piece.letters
            if letter.tag and letter.asker == self._world.owner.node
        ]
        self._world.carried(self._world.owner.node, mine)
        for cell in incoming.cells:
            self._world.unpacker.unpack_extras(cell, pieces[cell.id])
        await self._world.newcomers.start(
            incoming.cells, lambda cell: self._world.unpacker.set_timers(cell, pieces[cell.id])
        )

    def _give_up(self, incoming: Incoming) -> None:
        self._given_up[incoming.actor_id, incoming.claim] = None
        while len(self._given_up) > REMEMBERED:
            self._given_up.popitem(last=False)
        self._let_go(incoming)

    def _let_go(self, incoming: Incoming, *, keep_cells: bool = False) -> None:
        if self._incoming.get(incoming.actor_id) is incoming:
            del self._incoming[incoming.actor_id]
            self.bytes -= len(incoming.data)
        self._world.parts.hosting.arriving.discard(incoming.actor_id)
        if incoming.timer is not None:
            incoming.timer.cancel()
        if not keep_cells:  # what was ours already is nowhere else
            moving.drop(incoming.cells, told=incoming.standing is not None)
        incoming.data = bytearray()

    def _late(self, standing: Standing) -> None:
        if standing.record.owner == self._world.owner:
            log.error(
                "actor %r became this node's after its owner was lost on the way: it starts anew",
                standing.actor_id,
            )
            self._world.tasks.start(self._start_anew(standing), f"start {standing.actor_id} anew")

    async def _stands(self, standing: Standing) -> bool:
        """Whether the record is the same still, as far as can be read."""
        try:
            now = await self._world.parts.directory.read(standing.actor_id, fresh=True)
        except CajunError:
            return True
        return now is not None and now.revision == standing.revision

    async def _start_anew(self, standing: Standing) -> None:
        """It became ours, and what came with it was let go of: as after a crash of its node. A durable one whose
        state cannot be read is tried again as long as it is ours."""
        actor_id, world = standing.actor_id, self._world
        target = world.parts.types.lookup(standing.record.type or "").target
        args, kwargs = world.exchange.decode(standing.record.arguments)

        async def start() -> None:
            await world.parts.actors.spawn(target, actor_id, *args, **kwargs)

        hosting = world.parts.hosting
        hosting.arriving.add(actor_id)
        try:
            while True:
                try:
                    await hosting.settle_in(standing, start)
                    return
                except PersistenceUnavailableError as error:
                    log.warning("actor %r waits for its state: %s", actor_id, error)
                await asyncio.sleep(TRY_AGAIN)
                if not await self._stands(standing):
                    return
        except Exception as error:  # of the actor's own start; its id is free again
            log.error("actor %r did not start anew: %s", actor_id, describe(error))
        finally:
            hosting.arriving.discard(actor_id)
