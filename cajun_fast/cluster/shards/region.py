"""The sharded actors of this node: started by their first message, ended when idle, held still when their shard goes.

Laws: an actor starts here only while the table names this life of this node as the owner of its shard, this node
holds its seat, and the shard is not on its way out. An actor that ends is shut first (senders park), handles what it
has, and is gone before the next one of its id starts. A start that fails is told to each message that waited for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from cajun_fast._core.cell import Cell
from cajun_fast._core.lane import Exchange
from cajun_fast.actors.actor import Actor
from cajun_fast.actors.deaths import FAILED, MOVED, PASSIVATED, STOPPED
from cajun_fast.actors.registry import ActorType
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards.ids import is_sharded, root_of, type_of_id
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.shards.table import Place, ShardTable
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import UnknownActorTypeError

log = logging.getLogger("cajun_fast.cluster")

#: Pauses between two looks at whether actors have handled what they had: the first, and the longest.
FIRST_LOOK, LONGEST_LOOK = 0.001, 0.02


class Runtime(Protocol):
    """What is needed of the actor system."""

    def begin(
        self,
        target: Any,
        actor_id: str,
        prepare: Callable[[Cell], None],
        failed: Callable[[Cell, BaseException | None], None],
    ) -> Cell: ...

    def end(
        self, cell: Cell, *, said_goodbye: bool = False, why: str = STOPPED
    ) -> asyncio.Task[None] | None: ...

    def cell(self, actor_id: str) -> Cell | None: ...


class Types(Protocol):
    """What is needed of the registry of actor types."""

    def lookup(self, name: str) -> ActorType: ...


class Region:
    """See the module's laws."""

    def __init__(
        self,
        table: ShardTable,
        types: Types,
        runtime: Runtime,
        exchange: Exchange,
        owner: Callable[[], Owner],
        may_own: Callable[[], bool],
    ) -> None:
        self._table = table
        self._types = types
        self._runtime = runtime
        self._exchange = exchange
        self._owner = owner
        self._may_own = may_own
        self._actors: dict[Place, dict[str, Cell]] = {}
        self._closing: set[Place] = set()
        self._ending: set[str] = set()
        self._states: dict[str, tuple[Any]] = {}
        self._tasks = Tasks("shard region")
        #: Nothing starts here any more.
        self.is_stopping = False
        self.count = 0
        self.started = 0
        self.passivated = 0

    # ---- looking

    def owns(self, place: Place) -> bool:
        """Whether the shard is this node's, as far as the table says."""
        record = self._table.get(place)
        return record is not None and record.owner == self._owner()

    def keeps(self, place: Place) -> bool:
        """Whether the shard is this node's and is not on its way out."""
        return self.owns(place) and place not in self._closing and not self.is_stopping

    def actors(self, place: Place) -> dict[str, Cell]:
        """The actors of a shard that are here, by id."""
        return self._actors.get(place, {})

    def places(self) -> list[Place]:
        """Shards that have actors here."""
        return list(self._actors)

    def __contains__(self, actor_id: object) -> bool:
        """Whether it is a sharded actor whose shard is this node's: it may go on after a standstill."""
        if not isinstance(actor_id, str) or not is_sharded(actor_id):
            return False
        place = self._table.place(actor_id)
        return place is not None and self.owns(place)

    # ---- starting

    def activate(self, actor_id: str) -> Cell | None:
        """For ``Exchange.find_inbox``: the actor, started if it may be; None if it is not to be here now."""
        if not is_sharded(actor_id):
            return None
        root = root_of(actor_id)
        if root == actor_id:
            return self._activate(root)
        if root not in self._exchange.inboxes and self._activate(root) is None:
            return None
        child: Cell | None = self._exchange.inboxes.get(actor_id)
        return child

    def _activate(self, actor_id: str) -> Cell | None:
        place = self._table.place(actor_id)
        if place is None or place in self._closing or self.is_stopping or not self.owns(place):
            return None
        if not self._may_own() or self._runtime.cell(actor_id) is not None:
            return None
        try:
            kind = self._types.lookup(type_of_id(actor_id))
        except UnknownActorTypeError:
            return None
        return self._start(kind, actor_id, place) if kind.sharded else None

    def _start(self, kind: ActorType, actor_id: str, place: Place) -> Cell:
        state = self._states.pop(actor_id, None)

        def prepare(cell: Cell) -> None:
            if state is not None:
                cell.instance.set_state(state[0])

        try:
            cell = self._runtime.begin(kind.target, actor_id, prepare, self._start_failed)
        except Exception as error:  # of the actor's own code: told to whoever sent to it
            log.error("sharded actor %r did not start", actor_id, exc_info=error)
            cell = self._runtime.begin(self._stand_in(actor_id, error), actor_id, lambda cell: None, _nothing)
            self._join(place, actor_id, cell)
            self._tasks.start(self._end(cell, FAILED, said_goodbye=True), f"end {actor_id}")
            return cell
        self._join(place, actor_id, cell)
        self.started += 1
        return cell

    def _join(self, place: Place, actor_id: str, cell: Cell) -> None:
        self._actors.setdefault(place, {})[actor_id] = cell
        self.count += 1

    def _start_failed(self, cell: Cell, error: BaseException | None) -> None:
        """``pre_start`` raised: what waits is told so, by a stand-in that takes the actor's place for the moment."""
        error = error or RuntimeError(f"the start of actor {cell.id!r} was cancelled")
        log.error("sharded actor %r did not start", cell.id, exc_info=error)
        cell.bind(None, self._stand_in(cell.id, error), True)
        cell.shut()
        cell.run_now()
        self._tasks.start(self._end(cell, FAILED, said_goodbye=True), f"end {cell.id}")

    def _stand_in(self, actor_id: str, error: BaseException) -> Callable[[Any, Any], None]:
        dead_letters = self._exchange.dead_letters

        def receive(message: Any, context: Any) -> None:
            if not context.reply_later().fail(error):
                dead_letters.record(actor_id, message, "start-failed", context.sender)

        return receive

    # ---- ending

    def passivate(self, cell: Cell) -> bool:
        """End it once it has handled what it has; the next message starts it again. False: it is not sharded."""
        if cell.parent is not None or not is_sharded(cell.id):
            return False
        if cell.state in ("stopping", "stopped") or cell.id in self._ending:
            return True
        self.passivated += 1
        cell.shut()
        self._tasks.start(self._end(cell, PASSIVATED), f"passivate {cell.id}")
        return True

    async def _end(self, cell: Cell, why: str, *, said_goodbye: bool = False) -> None:
        """Shut, handled, gone. A shard on its way out looks after its actors itself."""
        self._ending.add(cell.id)
        try:
            await self._handled(cell)
            end = self._runtime.end(cell, said_goodbye=said_goodbye, why=why)
            if end is not None:
                await asyncio.shield(end)
        finally:
            self._ending.discard(cell.id)

    async def _handled(self, cell: Cell) -> None:
        """Shut it and its children, and wait until nothing of them is left to do."""
        family = [cell, *descendants(cell)]
        for each in family:
            each.shut()
        pause = FIRST_LOOK
        while not all(map(is_done, family)):
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK)

    def actor_stopped(self, actor_id: str) -> None:
        """The runtime says that an actor is gone, for whatever reason."""
        if "/" in actor_id or not is_sharded(actor_id):
            return
        place = self._table.place(actor_id)
        actors = self._actors.get(place) if place is not None else None
        if place is None or actors is None or actors.pop(actor_id, None) is None:
            return
        self.count -= 1
        if not actors:
            del self._actors[place]

    # ---- a shard that goes

    def close(self, places: Iterable[Place]) -> None:
        """Nothing of these shards starts or takes anything from now on."""
        for place in places:
            self._closing.add(place)
            for cell in list(self.actors(place).values()):
                for each in (cell, *descendants(cell)):
                    each.shut()

    def open(self, places: Iterable[Place]) -> None:
        """They stay, or have gone: what is still here goes on."""
        for place in places:
            self._closing.discard(place)
            for cell in list(self.actors(place).values()):
                for each in (cell, *descendants(cell)):
                    if each.state not in ("stopping", "stopped"):
                        each.reopen()

    async def quiet(self, places: Iterable[Place], timeout: float) -> bool:
        """Wait until all actors of closed shards have handled what they have; False if the time is over before."""
        cells = [
            each
            for place in places
            for cell in self.actors(place).values()
            for each in (cell, *descendants(cell))
        ]
        try:
            async with asyncio.timeout(timeout):
                pause = FIRST_LOOK
                while cells := [cell for cell in cells if not is_done(cell)]:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_LOOK)
        except TimeoutError:
            return False
        return True

    def states(self, places: Iterable[Place]) -> dict[str, Any]:
        """What the volatile actors of closed, quiet shards want to keep. Raises what their ``get_state`` raises."""
        return {
            actor_id: cell.instance.get_state()
            for place in places
            for actor_id, cell in self.actors(place).items()
            if keeps_state(cell)
        }

    async def end_all(self, places: Iterable[Place]) -> None:
        """Stop the actors of closed shards; returns when nothing of them is left."""
        for place in places:
            cells = list(self.actors(place).values())
            ends = [end for cell in cells if (end := self._runtime.end(cell, why=MOVED)) is not None]
            if ends:
                await asyncio.wait(ends)

    def take_states(self, states: dict[str, Any]) -> None:
        """What actors were elsewhere: they start with it, and do so now."""
        for actor_id, state in states.items():
            self._states[actor_id] = (state,)
            if self._exchange.find_inbox(actor_id) is None:
                del self._states[actor_id]
                log.warning("the state of actor %r came to a node that does not own it: dropped", actor_id)

    # ---- a shard that is lost

    def on_change(self, place: Place, before: ShardRecord | None, now: ShardRecord | None) -> None:
        """Stop what runs here of a shard that somebody else owns."""
        if place in self._actors and place not in self._closing and not self.owns(place) and self._may_own():
            log.warning(
                "shard %d of %r is not this node's any more: its actors are stopped", place[1], place[0]
            )
            self._tasks.start(self._lose(place), f"lose {place}")

    async def _lose(self, place: Place) -> None:
        self._closing.add(place)
        try:
            await self.end_all([place])
        finally:
            self._closing.discard(place)

    async def drop_lost(self) -> int:
        """After a standstill: stop the actors of shards that are not this node's any more; how many."""
        lost = [place for place in self.places() if not self.owns(place)]
        count = sum(len(self.actors(place)) for place in lost)
        for place in lost:
            await self._lose(place)
        return count

    # ---- the node's end

    async def finish(self, timeout: float) -> None:
        """Before the node stops: all sharded actors handle what they have. Nothing more starts here."""
        self.is_stopping = True
        places = self.places()
        self.close(places)
        if not await self.quiet(places, timeout):
            log.warning("sharded actors had messages left when this node stopped: they become dead letters")

    async def stop(self) -> None:
        self.is_stopping = True
        await self._tasks.stop()


def descendants(cell: Cell) -> Iterator[Cell]:
    """Children, and theirs."""
    for child in list((cell.children or {}).values()):
        yield child
        yield from descendants(child)


def is_done(cell: Cell) -> bool:
    """Shut, and nothing left: or on its way out already."""
    return cell.is_resting or cell.state in ("stopping", "stopped")


def keeps_state(cell: Cell) -> bool:
    """Whether an actor has a state that is kept nowhere else."""
    kind = type(cell.instance)
    return (
        issubclass(kind, Actor)
        and not kind.durable
        and kind.get_state is not Actor.get_state
        and kind.set_state is not Actor.set_state
    )


def _nothing(*_: object) -> None:
    pass
