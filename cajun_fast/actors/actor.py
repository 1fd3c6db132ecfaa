"""What a user writes: a class with a ``receive``.

Laws: no machinery here; an Actor works as a plain object in a test that has no system.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, ClassVar

from cajun_fast.errors import NotRunningError

if TYPE_CHECKING:
    from cajun_fast._core.cell import Cell
    from cajun_fast._core.context import Context


class Actor:
    """Base of all actors: state in attributes, changed by one message at a time.

    Each method may be a plain one or ``async def``; while one awaits, no other message is begun. The actor's own
    means are there as ``self.context`` from ``pre_start`` to ``post_stop``.
    """

    __slots__ = ("_cell",)

    _cell: Cell

    #: True: the state is kept by the configured persistence and comes back on another node after a crash.
    #: Needs ``get_state`` and ``set_state``. See docs/durability.md.
    durable: ClassVar[bool] = False
    #: Of the form of the state: raise it when that changes, and write ``migrate_state``.
    state_version: ClassVar[int] = 1
    #: True: changes are kept as events (``persist``, ``apply``), and the state after each ``snapshot_every`` of them.
    journaled: ClassVar[bool] = False
    snapshot_every: ClassVar[int] = 100

    @property
    def context(self) -> Context:
        """For hooks: as in ``receive``, without a message. Raises NotRunningError before ``pre_start``."""
        try:
            return self._cell.hook_context()
        except AttributeError:
            raise NotRunningError(
                f"{type(self).__name__} has no context in __init__: move what needs it to pre_start"
            ) from None

    def receive(self, message: Any, context: Context) -> Any:
        """Handle one message. What is returned answers an ask; what is raised fails it, and is supervised."""
        raise NotImplementedError(
            f"{type(self).__name__} got a {type(message).__name__} and has no receive(self, message, context)"
        )

    def pre_start(self) -> Awaitable[None] | None:
        """Called before the first message, of a restarted actor too. What it raises, the spawner gets."""

    def post_stop(self) -> Awaitable[None] | None:
        """Called once after the last message; children have stopped already. What it raises is logged."""

    def pre_restart(self, error: BaseException, message: Any) -> Awaitable[None] | None:
        """Called on the failed instance before a fresh one takes over its mailbox; ``message`` failed."""

    def get_state(self) -> Any:
        """All that must survive a move or a crash, as an encodable value: called between two messages."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot say its state: give it get_state and set_state(self, state)"
        )

    def set_state(self, state: Any) -> None:
        """Take over what ``get_state`` gave: called on a fresh instance, before ``pre_start``; and on a durable actor
        whose handler has raised, to go back to the state before. So it must set all that ``get_state`` tells."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot take its state back: give it get_state and set_state(self, state)"
        )

    def migrate_state(self, state: Any, version: int) -> Any:
        """A state that an earlier ``state_version`` wrote, in today's form."""
        raise NotImplementedError(
            f"{type(self).__name__} has state_version {self.state_version}, and its state was written by version "
            f"{version}: give it migrate_state(self, state, version)"
        )

    def apply(self, event: Any) -> None:
        """Change the state as ``event`` says, and do nothing else: called by ``persist``, and again at a restore."""
        raise NotImplementedError(f"{type(self).__name__} has no apply(self, event)")

    def migrate_event(self, event: Any, version: int) -> Any:
        """An event that an earlier ``state_version`` wrote, in today's form."""
        raise NotImplementedError(
            f"{type(self).__name__} has state_version {self.state_version}, and an event was written by version "
            f"{version}: give it migrate_event(self, event, version)"
        )

    def persist(self, event: Any) -> None:
        """For a journaled actor, in a handler: apply ``event`` and keep it. Only what events change is kept.

        Raises SerializationError, NotRunningError outside of a handler, and what ``apply`` raises.
        """
        gate = self._cell.gate if self.journaled and self.durable else None
        if gate is None:
            raise NotRunningError(
                f"{type(self).__name__} cannot persist events: it needs durable = True and journaled = True"
            )
        gate.persist(event)
