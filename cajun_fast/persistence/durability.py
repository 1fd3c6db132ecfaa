"""Durable actors of one node: what the actor runtime asks for when one starts, fails and ends.

Laws: an actor's state is there before its first message and before ``pre_start``; it ends only when everything that it
has handled is committed, or its copy is lost. Whoever moves an actor awaits ``let_go``: then the store has all of it,
and senders look for its next owner.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast._core.gate import DurableGate
from cajun_fast._core.lane import Exchange
from cajun_fast.errors import CajunError, ConfigError, PersistenceError
from cajun_fast.persistence.base import Epoch, Persistence, Restored
from cajun_fast.persistence.committer import Committer, Owned, until_answered

log = logging.getLogger("cajun_fast.persistence")

#: Seconds for which a start waits for a store that does not answer.
RESTORE_PATIENCE = 10.0


class Durability:
    """See the module's laws. ``epoch_of``: under which ownership this node has an actor."""

    def __init__(
        self,
        persistence: Persistence,
        exchange: Exchange,
        chance: random.Random,
        *,
        epoch_of: Callable[[str], Epoch],
        on_lost: Callable[[Cell, str], None],
        encode_error: Callable[[BaseException], Any],
        decode_error: Callable[[Any, str], CajunError],
    ) -> None:
        self.persistence = persistence
        self.committer = Committer(persistence, self._lost)
        self._exchange = exchange
        self._random = chance
        self._epoch_of = epoch_of
        self._on_lost = on_lost
        self._encode_error = encode_error
        self._decode_error = decode_error
        self._starting: dict[str, Epoch] = {}

    async def start(self) -> None:
        """Open the store. Raises ConfigError, PersistenceUnavailableError."""
        await self.persistence.connect()
        self.committer.start()

    async def stop(self) -> None:
        """After the actors have stopped."""
        await self.committer.stop()
        await self.persistence.close()

    # ---- for the keeper of the actors

    def attach(self, cell: Cell) -> None:
        """Put a gate before a cell that was just made."""
        exchange = self._exchange
        DurableGate(
            cell,
            exchange.ways,
            self,
            encode=exchange.encode,
            decode=exchange.decode,
            encode_error=lambda error: exchange.encode(self._encode_error(error)),
            decode_error=lambda kept: self._decode_error(exchange.decode(kept), exchange.node_id),
            snapshot_every=snapshot_every(type(cell.instance)),
        )

    async def restore(self, cell: Cell) -> None:
        """Own it, and give its instance what stands. Raises StaleOwnerError, PersistenceUnavailableError, and what
        ``migrate_state`` and ``set_state`` raise."""
        gate, instance = gate_of(cell), cell.instance
        epoch = self._epoch_of(cell.id)
        birth = f"{self._random.getrandbits(48):012x}"
        restored = await until_answered(self.persistence, cell.id, epoch, birth, RESTORE_PATIENCE)
        if gate.is_lost or cell.state != "starting":
            return
        schema = schema_of(type(instance))
        state, events = self._migrated(cell, restored, schema)
        gate.name = f"@{cell.id}#{restored.birth}.{restored.life}"
        gate.event = restored.events[-1].number if restored.events else 0
        gate.load(dict(restored.cursors), restored.replies, state, events, restored.state)
        gate.restore(instance)
        self.committer.own(Owned(gate, epoch, restored.version, schema))
        gate.load_outbox(restored.outbox)

    def _migrated(self, cell: Cell, restored: Restored, schema: int) -> tuple[bytes | None, list[bytes]]:
        instance, exchange = cell.instance, self._exchange
        state = restored.state
        if state is not None and restored.schema != schema:
            check_schema(cell.id, restored.schema, schema)
            state = exchange.encode(instance.migrate_state(exchange.decode(state), restored.schema))
        events = []
        for event in restored.events:
            value = event.value
            if event.schema != schema:
                check_schema(cell.id, event.schema, schema)
                value = exchange.encode(instance.migrate_event(exchange.decode(value), event.schema))
            events.append(value)
        return state, events

    def opened(self, cell: Cell) -> None:
        """It has started: messages come in."""
        gate_of(cell).open()

    async def flush(self, cell: Cell) -> None:
        """Wait until everything that it has handled is committed."""
        await self.committer.flush(gate_of(cell))

    def closed(self, cell: Cell) -> None:
        """It is gone from here."""
        gate_of(cell).close()
        self.committer.disown(gate_of(cell))

    async def let_go(self, cell: Cell) -> None:
        """For whoever moves a frozen or stopping actor: commit what it has handled. What waits in its mailbox is not
        part of the move: its senders keep it until its commit, and send it to the next owner."""
        await self.flush(cell)
        gate_of(cell).close()

    # ---- for gates

    def enqueue(self, gate: DurableGate) -> None:
        self.committer.enqueue(gate)

    def unkept(self, gate: DurableGate, message: Any, error: Exception) -> None:
        """The state cannot be encoded: the message counts as failed, the state is the one before it."""
        log.error("%s", error, extra={"actor": gate.id})
        self._exchange.dead_letters.record(gate.id, message, "state-not-encodable", None)

    def broken(self, gate: DurableGate, error: Exception) -> None:
        """After a failure its state could not be restored: such a copy must not go on."""
        log.error("durable actor %r cannot take its last state back: it is stopped", gate.id, exc_info=error)
        self._on_lost(gate.cell, f"set_state raised {type(error).__name__}: {error}")

    def _lost(self, gate: DurableGate, error: PersistenceError) -> None:
        log.warning("durable actor %r: its commit was refused: %s", gate.id, error)
        self._on_lost(gate.cell, str(error))


def gate_of(cell: Cell) -> DurableGate:
    assert cell.gate is not None
    return cell.gate


def schema_of(kind: type) -> int:
    return int(getattr(kind, "state_version", 1))


def snapshot_every(kind: type) -> int:
    """Events between two states; 0: the state is kept with each commit."""
    return int(getattr(kind, "snapshot_every", 100)) if getattr(kind, "journaled", False) else 0


def check_schema(actor_id: str, stands: int, known: int) -> None:
    """Raises ConfigError for a state of the future."""
    if stands > known:
        raise ConfigError(
            f"the state of durable actor {actor_id!r} was written by version {stands} of its type, this node has "
            f"version {known}: start it on nodes with the newer code"
        )
