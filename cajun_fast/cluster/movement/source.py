"""A hand-off at the node that owns the actor: performs what ``departure`` says.

Laws: one hand-off an actor at a time. Everything that the actor has stays in it until the commit is known, so
going on here is letting go. Whatever interrupts before the commit (an operator, a lost seat, somebody else's
record) ends the step that is under way; the commit itself is waited for however long the store takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast.actors import moving
from cajun_fast.actors.registry import type_of
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.hosting import describe
from cajun_fast.cluster.movement import luggage
from cajun_fast.cluster.movement.departure import Act, Departure, Event, State
from cajun_fast.cluster.movement.packing import Parked
from cajun_fast.cluster.movement.results import MigrationResult, Outcome
from cajun_fast.cluster.movement.settle import accepted
from cajun_fast.cluster.movement.world import World
from cajun_fast.cluster.records import ActorRecord, Owner
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    ActorNotFoundError,
    CajunError,
    LeaseLostError,
    NotRunningError,
)
from cajun_fast.metadata.store import Compare

log = logging.getLogger("cajun_fast.cluster")

Told = tuple[Event, str]


@dataclass(slots=True)
class Grant:
    """What the target has answered: the claim under which it shall own, and the revision of its seat."""

    claim: int
    incarnation: int
    seat: int


class HandOff:
    """One hand-off; see the module's laws."""

    def __init__(
        self, world: World, standing: Standing, cell: Cell, target: str, *, without_state: bool
    ) -> None:
        self._world = world
        self._standing = standing
        self._cell = cell
        self._cells = [cell]
        self._target = target
        self._without_state = without_state
        self._machine = Departure()
        self._interrupted: asyncio.Future[Told] = world.exchange.loop.create_future()
        self._grant: Grant | None = None
        self._parked: Parked = {}
        self._data = b""
        self._letters = 0
        self._askers: dict[str, list[int]] = {}
        self._taken: Standing | None = None
        self._began = self._frozen_at = world.exchange.loop.time()
        self._frozen = 0.0
        self._acts: dict[Act, Callable[[], Coroutine[Any, Any, Told | None]]] = {
            Act.ASK: self._ask,
            Act.HOLD: self._hold,
            Act.PACK: self._pack,
            Act.SEND: self._send,
            Act.COMMIT: self._commit,
            Act.ASK_AGAIN: self._ask_again,
            Act.CLOSE: self._close,
            Act.START: self._start,
            Act.GO_ON: self._go_on,
            Act.FORGET: self._forget,
            Act.DROP: self._drop,
        }

    @property
    def state(self) -> str:
        """Where it stands."""
        return self._machine.state.value

    # ---- what happens from outside

    def interrupt(self, event: Event, reason: str) -> None:
        """CANCELLED or OUTRUN: end the step that is under way, unless it is decided already."""
        if not self._interrupted.done():
            self._interrupted.set_result((event, reason))

    def on_record(self, standing: Standing | None) -> None:
        """The record has changed, and not by this node's own claim."""
        owner = None if standing is None else standing.record.owner
        grant = self._grant
        if grant is not None and owner == Owner(self._target, grant.incarnation):
            return  # our own commit, seen before its answer
        self.interrupt(Event.OUTRUN, f"{'nobody' if owner is None else f'node {owner.node!r}'} owns it now")

    # ---- the run

    async def run(self) -> MigrationResult:
        """To its end. Cancelled before the commit, it lets the actor go on."""
        acts = deque(self._machine.begin())
        try:
            while acts:
                told = await self._perform(acts.popleft())
                if told is not None:
                    acts.extend(self._machine.on(*told))
        except asyncio.CancelledError:
            if not self._machine.is_decided:
                await self._go_on()
            raise
        return self._result()

    async def _perform(self, act: Act) -> Told | None:
        step: asyncio.Task[Told | None] = asyncio.create_task(self._acts[act]())
        try:
            if not self._machine.is_decided:
                either: list[asyncio.Future[Any]] = [step, self._interrupted]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._machine.is_decided or step.done():
                return await step
            return self._interrupted.result()
        except CajunError as error:
            return Event.FAILED, str(error)
        except (
            Exception
        ) as error:  # of the actor's own code, or a fault of ours: it stays here, and it is told
            log.exception("moving actor %r: %s", self._cell.id, act.value)
            return Event.FAILED, describe(error)
        finally:
            if not step.done():
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)

    def _result(self) -> MigrationResult:
        state, world = self._machine.state, self._world
        outcome = Outcome.MOVED if state is State.MOVED else Outcome.STAYED
        taken = self._taken or self._standing
        return MigrationResult(
            self._cell.id,
            world.owner.node,
            self._target,
            outcome,
            self._machine.reason,
            epoch=taken.record.epoch,
            revision=taken.revision,
            messages=self._letters if state is State.MOVED else 0,
            bytes=len(self._data) if state is State.MOVED else 0,
            seconds=world.exchange.loop.time() - self._began,
            frozen=self._frozen,
        )

    # ---- the steps

    async def _asked(self, op: str, timeout: float | None = None, **more: Any) -> Any:
        request = {"op": op, "id": self._cell.id, **more}
        return await self._world.ask(self._target, request, timeout or self._world.settings.answer_timeout)

    def _take_grant(self, answer: Any) -> Told:
        match answer:
            case {"claim": int(claim), "incarnation": int(incarnation), "seat": int(seat)}:
                self._grant = Grant(claim, incarnation, seat)
                return Event.GRANTED, ""
        return Event.FAILED, f"node {self._target!r} gave an answer that cannot be read: {answer!r:.200}"

    async def _ask(self) -> Told:
        self._cells = moving.family(self._cell)
        for cell in self._cells:
            reason = moving.why_not(cell, self._world.known_type, without_state=self._without_state)
            if reason is not None:
                return Event.FAILED, reason
        record = self._standing.record
        return self._take_grant(
            await self._asked(
                "reserve",
                types=[type_of(cell.recipe.target).name for cell in self._cells],  # type: ignore[union-attr]
                epoch=record.epoch,
                revision=self._standing.revision,
                owner=list(record.owner),
            )
        )

    async def _hold(self) -> Told:
        settings = self._world.settings
        reason = await moving.quiet(self._cells, settings.handler_timeout)
        if reason is None and moving.family(self._cell) != self._cells:
            reason = "its children have changed meanwhile: try again"
        if reason is None:
            reason = await accepted(
                self._world.exchange, self._world.links(), self._cells, settings.settle_timeout
            )
        return (Event.QUIET, "") if reason is None else (Event.FAILED, reason)

    async def _pack(self) -> Told:
        world, record = self._world, self._standing.record
        self._frozen_at = world.exchange.loop.time()
        moving.freeze(self._cells)
        if not await moving.kept(world.parts.actors.keeper, self._cells, world.settings.settle_timeout):
            return Event.FAILED, "its persistence has not answered for what it has handled: try again"
        self._parked = {cell.id: world.exchange.take_delayed(cell.pid) for cell in self._cells}
        pieces = await world.packer.pack(self._cells, self._parked, record.type or "", record.arguments)
        self._data = luggage.encode(pieces)
        self._letters = sum(len(piece.letters) for piece in pieces)
        for piece in pieces:
            for letter in piece.letters:
                if letter.tag and letter.asker is not None:
                    self._askers.setdefault(letter.asker, []).append(letter.tag)
        if len(self._data) > world.settings.max_bytes:
            return Event.FAILED, (
                f"it takes {len(self._data)} bytes with its mailbox, the limit is {world.settings.max_bytes}: "
                "raise movement.max_bytes"
            )
        return Event.PACKED, ""

    async def _send(self) -> Told:
        assert self._grant is not None
        data, size, claim = memoryview(self._data), self._world.settings.chunk_bytes, self._grant.claim
        answer: Any = None
        for offset in range(0, len(data), size):
            chunk = bytes(data[offset : offset + size])
            answer = await self._asked("load", claim=claim, offset=offset, total=len(data), data=chunk)
        event, reason = self._take_grant(answer)
        return (Event.TAKEN, "") if event is Event.GRANTED else (event, reason)

    async def _commit(self) -> Told:
        grant, old, world = self._grant, self._standing.record, self._world
        assert grant is not None
        record = ActorRecord(
            owner=Owner(self._target, grant.incarnation),
            claim=grant.claim,
            epoch=old.epoch + 1,
            type=old.type,
            arguments=old.arguments,
            durable=old.durable,
            extra=old.extra,
        )
        guard = Compare(world.keys.node(self._target), grant.seat)
        try:
            self._taken = await world.registrar.hand_over(self._standing, record, (guard,))
        except LeaseLostError as error:
            return Event.STALE, str(error)
        except (ActorAlreadyExistsError, ActorNotFoundError) as error:
            return Event.OUTRUN, str(error)
        except NotRunningError as error:  # whether it was written is not known, and this node is at its end
            return Event.OUTRUN, str(error)
        return Event.COMMITTED, ""

    async def _ask_again(self) -> Told:
        assert self._grant is not None
        return self._take_grant(await self._asked("ready", claim=self._grant.claim))

    async def _close(self) -> Told:
        assert self._taken is not None
        world = self._world
        world.has_left(self._taken)
        await world.end_copy(self._cell)
        reason = await accepted(world.exchange, world.links(), self._cells, world.settings.settle_timeout)
        world.tell_askers(self._target, self._askers)
        return Event.CLOSED, reason or ""

    async def _start(self) -> Told:
        assert self._taken is not None
        try:
            await self._asked(
                "go",
                self._world.settings.start_timeout,
                claim=self._taken.record.claim,
                revision=self._taken.revision,
            )
        except CajunError as error:
            self._stop_watch()
            return Event.FAILED, f"it belongs to node {self._target!r}, which did not start it yet: {error}"
        self._stop_watch()
        return Event.STARTED, ""

    def _stop_watch(self) -> None:
        self._frozen = self._world.exchange.loop.time() - self._frozen_at

    async def _go_on(self) -> None:
        world = self._world
        for cell in self._cells:
            for target, message, guarantee, at, trace in self._parked.pop(cell.id, ()):
                left, pid = max(0.0, at - world.exchange.loop.time()), world.exchange.pid(target)
                world.exchange.tell_later(pid, message, left, guarantee, cell.pid, trace)
        moving.go_on(self._cells, thaw=world.may_own())
        await world.goes_on(self._standing)

    async def _forget(self) -> None:
        if self._grant is not None or self._machine.state is State.STAYED:
            claim = 0 if self._grant is None else self._grant.claim
            self._world.tell(
                self._target,
                {"op": "forget", "id": self._cell.id, "claim": claim, "from": self._world.owner.node},
            )

    async def _drop(self) -> None:
        moving.go_on(self._cells, thaw=False)
        self._world.lost(self._cell.id, self._machine.reason)
