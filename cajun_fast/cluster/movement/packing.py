"""Taking an actor apart into its luggage, and putting it together from it.

Laws: packing changes nothing at the actor; it is frozen, and whoever packs can let it go on. What cannot be
encoded is said by the name of what it is. Putting together makes instances and gives them their state;
nothing of it runs, and nobody can reach it, before ``Newcomers.start``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cajun_fast._core.cell import Cell
from cajun_fast._core.lane import Exchange
from cajun_fast._core.ports import Nobody, Replies
from cajun_fast.actors.moving import Newcomers, drop, has_state, is_durable, set_timers, state_of, take_state
from cajun_fast.actors.registry import type_of
from cajun_fast.cluster.movement.luggage import Alarm, Letter, Piece, Postponed
from cajun_fast.errors import CajunError, SerializationError

#: Delayed tells by the id of their sender: target, message, guarantee, loop time, trace.
Parked = dict[str, list[tuple[str, Any, int, float, bytes | None]]]


class Companion(Protocol):
    """Something that belongs to an actor and travels with it, beyond what the actor itself says: cursors, watchers.

    ``pack`` is called with the frozen actor; a CajunError from it ends the move and leaves the actor where it is.
    ``unpack`` is called on the new node once the actor is its own, before its ``pre_start``.
    """

    def pack(self, cell: Cell) -> bytes | None:
        """What travels, None for nothing."""
        ...

    def unpack(self, cell: Cell, data: bytes) -> None: ...


class Packer:
    """See the module's laws. ``companions`` by the name under which theirs travels; others may add theirs."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.companions: dict[str, Companion] = {}

    async def pack(
        self, cells: Sequence[Cell], parked: Parked, root_type: str, root_arguments: bytes
    ) -> list[Piece]:
        """Raises SerializationError naming what cannot travel, CajunError from a companion, and what ``get_state``
        raises."""
        return [
            await self._piece(
                cell,
                root_type if cell is cells[0] else type_of(cell.recipe.target).name,  # type: ignore[union-attr]
                root_arguments if cell is cells[0] else self._arguments(cell),
                parked,
            )
            for cell in cells
        ]

    async def _piece(self, cell: Cell, type_name: str, arguments: bytes, parked: Parked) -> Piece:
        durable = is_durable(cell)  # its state stands in the store, and its senders send again what waits
        takes_state = has_state(cell) and not durable
        state = self._encode(await state_of(cell), cell, "its state") if takes_state else None
        now = self._exchange.loop.time()
        extras = {
            name: data for name, each in self.companions.items() if (data := each.pack(cell)) is not None
        }
        return Piece(
            actor_id=cell.id,
            type=type_name,
            arguments=arguments,
            state=state,
            letters=() if durable else tuple(self._letter(cell, *each) for each in cell.waiting()),
            alarms=tuple(
                Alarm(
                    self._encode(timer.message, cell, "the message of a timer"),
                    timer.remaining,
                    timer.interval,
                    timer.trace,
                )
                for timer in cell.timers or ()
                if timer.active
            ),
            postponed=tuple(
                Postponed(
                    target,
                    self._encode(message, cell, "a delayed tell"),
                    guarantee,
                    max(0.0, at - now),
                    trace,
                )
                for target, message, guarantee, at, trace in parked.get(cell.id, ())
            ),
            extras=extras,
        )

    def _letter(
        self, cell: Cell, message: Any, sender: Any, replies: Replies | None, tag: int, deadline: int,
        trace: bytes | None,
    ) -> Letter:  # fmt: skip
        return Letter(
            self._encode(message, cell, "a message in its mailbox"),
            None if sender is None else sender.id,
            tag,
            replies.node if tag and replies is not None else None,
            (deadline - self._exchange.clock()) / 1e9 if deadline else None,
            trace,
        )

    def _arguments(self, cell: Cell) -> bytes:
        recipe, props = cell.recipe, cell.recipe.props
        kwargs = dict(recipe.kwargs or {}) | {
            "mailbox_capacity": props.mailbox_capacity,
            "mailbox_policy": props.mailbox_policy.name.lower().replace("_", "-"),
        }
        return self._encode([list(recipe.args), kwargs], cell, "its arguments")

    def _encode(self, value: Any, cell: Cell, what: str) -> bytes:
        try:
            return self._exchange.encode(value)
        except CajunError as exc:
            raise SerializationError(f"{what} cannot travel with actor {cell.id!r}: {exc}") from exc


class Unpacker:
    """See the module's laws."""

    def __init__(
        self,
        exchange: Exchange,
        newcomers: Newcomers,
        companions: dict[str, Companion],
        type_of_name: Callable[[str], Any],
        replies_for: Callable[[str], Replies],
    ) -> None:
        self._exchange = exchange
        self._newcomers = newcomers
        self._companions = companions
        self._type_of_name = type_of_name
        self._replies_for = replies_for

    async def put_together(self, pieces: Sequence[Piece]) -> list[Cell]:
        """Cells with their state and their mailboxes. Raises what constructors and ``set_state`` raise,
        UnknownActorTypeError, SerializationError; then nothing is left.
        """
        cells: dict[str, Cell] = {}
        try:
            for piece in pieces:
                cell = self._build(piece, cells.get(piece.actor_id.rpartition("/")[0]))
                cells[piece.actor_id] = cell
                if piece.state is not None:
                    await take_state(cell, self._exchange.decode(piece.state))
                cell.refill([self._entry(letter) for letter in piece.letters])
        except BaseException:
            drop(cells.values())
            raise
        return list(cells.values())

    def _build(self, piece: Piece, parent: Cell | None) -> Cell:
        args, kwargs = self._exchange.decode(piece.arguments)
        return self._newcomers.build(
            self._type_of_name(piece.type), piece.actor_id, tuple(args), kwargs, parent
        )

    def _entry(self, letter: Letter) -> tuple[Any, Any, Replies | None, int, int, bytes | None]:
        sender = None if letter.sender is None else self._exchange.pid(letter.sender)
        deadline = 0 if letter.left is None else self._exchange.clock() + round(letter.left * 1e9)
        return (
            self._exchange.decode(letter.message),
            sender,
            self._asker(letter.asker) if letter.tag else None,
            letter.tag,
            deadline,
            letter.trace,
        )

    def _asker(self, node: str | None) -> Replies:
        try:
            return self._replies_for(node or "")
        except CajunError:
            return Nobody(node or "")  # gone with the ask

    def unpack_extras(self, cell: Cell, piece: Piece) -> None:
        """What companions have sent along; the actor is this node's now."""
        for name, data in piece.extras.items():
            if name in self._companions:
                self._companions[name].unpack(cell, data)

    def set_timers(self, cell: Cell, piece: Piece) -> None:
        """Those that came along, and delayed tells; once ``pre_start`` is done."""
        decode = self._exchange.decode
        alarms = [(decode(each.message), each.left, each.interval, each.trace) for each in piece.alarms]
        set_timers(self._exchange.loop, cell, alarms)
        for each in piece.postponed:
            target = self._exchange.pid(each.target)
            self._exchange.tell_later(
                target, decode(each.message), each.left, each.guarantee, cell.pid, each.trace
            )
