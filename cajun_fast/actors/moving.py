"""Actors between two nodes: holding one and its descendants still, looking at what they are, bringing them in.

Laws: nothing here ends an actor or changes what it has: whoever holds one can let it go on as if nothing had
been. A moved actor's ``pre_start`` runs again; what it spawns or schedules there that has come along anyway
is what came along, not a second one.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast.actors.lifecycle import Keeper
from cajun_fast.actors.recipe import overrides
from cajun_fast.actors.registry import ActorType, type_of
from cajun_fast.actors.timers import Timer

#: Seconds between two looks at an actor whose handler runs without a task of its own.
LOOK = 0.002


def family(cell: Cell) -> list[Cell]:
    """The actor and its descendants, parents first."""
    found = [cell]
    for each in found:
        found.extend((each.children or {}).values())
    return found


def has_state(cell: Cell) -> bool:
    """Whether it can say its state and take it back."""
    kind = cell.recipe.kind
    return bool(
        kind.is_class and all(overrides(cell.recipe.target, name) for name in ("get_state", "set_state"))
    )


def is_durable(cell: Cell) -> bool:
    """Whether its state is kept by a persistence, and what is sent to it by its senders, until it is committed."""
    return bool(getattr(cell.recipe.kind, "durable", False))


def is_stateless(cell: Cell) -> bool:
    """Whether there is nothing to say: a function, or an instance without an attribute of its own."""
    return not cell.recipe.kind.is_class or not (
        getattr(cell.instance, "__dict__", None) or any(True for _ in _slots(type(cell.instance)))
    )


def _slots(kind: type) -> Iterable[str]:
    for each in kind.__mro__:
        slots = each.__dict__.get("__slots__", ())
        yield from (
            name
            for name in ((slots,) if isinstance(slots, str) else slots)
            if name not in ("_cell", "__weakref__")
        )


def why_not(cell: Cell, known: Callable[[str], ActorType | None], *, without_state: bool) -> str | None:
    """Why it cannot be made on another node, or None. ``known``: the registered type of that name."""
    kind = type_of(cell.recipe.target)
    name = getattr(cell.recipe.target, "__qualname__", repr(cell.recipe.target))
    if kind is None or known(kind.name) is None:
        return (
            f"{name} of actor {cell.id!r} has no name that other nodes know: "
            'decorate it with @cajun_fast.actor("name")'
        )
    if not (without_state or has_state(cell) or is_stateless(cell)):
        return (
            f"{name} of actor {cell.id!r} cannot say its state, which would be lost: give it get_state and "
            "set_state(self, state), or move it without_state=True"
        )
    return None


async def quiet(cells: Sequence[Cell], seconds: float) -> str | None:
    """Hold them, parents first, and wait until no handler of them runs; why not, after so many seconds.

    A parent's running handler may ask a child, so children go on until their parent has come to an end.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    for cell in cells:
        cell.hold()
        while not cell.is_quiet:
            if cell.state in ("stopping", "stopped"):
                return f"actor {cell.id!r} has stopped meanwhile"
            left = end - loop.time()
            if left <= 0:
                return f"actor {cell.id!r} is {cell.state}: its handler has not ended within {seconds:g} s"
            if cell.task is not None:
                await asyncio.wait({cell.task}, timeout=min(left, 0.05))
            else:
                await asyncio.sleep(LOOK)
    return None


def freeze(cells: Iterable[Cell]) -> None:
    """They take nothing more, senders park; timers wait."""
    for cell in cells:
        if cell.state == "running":
            cell.freeze()
        for timer in tuple(cell.timers or ()):
            timer.hold()


async def kept(keeper: Keeper, cells: Iterable[Cell], seconds: float) -> bool:
    """Wait until all that the durable ones of them have handled is committed; False after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            for cell in cells:
                if cell.gate is not None and keeper.durability is not None:
                    await keeper.durability.flush(cell)
    except TimeoutError:
        return False
    return True


def go_on(cells: Iterable[Cell], *, thaw: bool) -> None:
    """As if nothing had been; ``thaw`` False: somebody else will thaw what is frozen."""
    for cell in cells:
        cell.unhold()
        if cell.state == "frozen" and thaw:
            cell.thaw()
        for timer in tuple(cell.timers or ()):
            timer.go_on()


async def state_of(cell: Cell) -> Any:
    """What ``get_state`` gives; raises what it raises."""
    state = cell.instance.get_state()
    return await state if inspect.isawaitable(state) else state


async def take_state(cell: Cell, state: Any) -> None:
    """Hand it to ``set_state``; raises what that raises."""
    done = cell.instance.set_state(state)
    if inspect.isawaitable(done):
        await done


class Newcomers:
    """Actors that came from another node, until they have started."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        #: Children that came along and that no ``pre_start`` has spawned again yet: by parent's id.
        self._children: dict[str, dict[str, Cell]] = {}
        keeper.came_along = self._claim

    def build(
        self, target: Any, actor_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], parent: Cell | None
    ) -> Cell:
        """Made, and out of everybody's reach. Raises what its constructor raises."""
        return self._keeper.build(target, actor_id, args, kwargs, parent)

    async def start(self, cells: Sequence[Cell], timers: Callable[[Cell], None]) -> None:
        """Let them in and start them, parents first; ``timers`` sets those of one, after its ``pre_start``.

        Raises what a ``pre_start`` raises: then all of them have ended.
        """
        top = cells[0]
        try:
            for cell in cells:
                self._keeper.join(cell)
            for cell in cells:
                if cell.parent is not None:
                    self._children.setdefault(cell.parent.id, {})[cell.id] = cell
            for cell in cells:
                start = self._keeper.begin(cell)
                if start is not None:
                    await self._keeper.started(cell, start)
                timers(cell)
        except BaseException:
            await self.end(top)
            drop([cell for cell in cells if self._keeper.cells.get(cell.id) is not cell], told=True)
            raise
        finally:
            for cell in cells:
                self._children.pop(cell.id, None)

    async def end(self, cell: Cell) -> None:
        """Stop what has been let in; drop what has not."""
        if self._keeper.cells.get(cell.id) is cell:
            task = self._keeper.stop(cell)
            if task is not None:
                await asyncio.shield(task)

    def _claim(self, parent: Cell, target: Any, name: str | None) -> str | None:
        """A child of ``parent`` that came along and is what it spawns now; its id, or None."""
        children = self._children.get(parent.id)
        for actor_id, cell in (children or {}).items():
            same_name = name is None or actor_id == f"{parent.id}/{name}"
            if same_name and cell.recipe.target is target and children is not None:
                del children[actor_id]
                return actor_id
        return None


def drop(cells: Iterable[Cell], *, told: bool = False) -> None:
    """Let go of cells that were built and never let in. ``told``: what waits in them is nowhere else, so it ends as
    that of an actor that stopped.
    """
    for cell in cells:
        if cell.state == "starting":
            cell.stop_taking()
            if told:
                cell.close()
            else:
                cell.close_moved()


def set_timers(
    loop: asyncio.AbstractEventLoop,
    cell: Cell,
    timers: Iterable[tuple[Any, float, float | None, bytes | None]],
) -> None:
    """Timers that came along: message, seconds left, interval, trace. One that ``pre_start`` has set again is the same
    one, and keeps its time.
    """
    anew = list(cell.timers or ())
    for message, left, interval, trace in timers:
        same = next((each for each in anew if each.interval == interval and each.message == message), None)
        if same is None:
            Timer(loop, cell, left, message, interval, trace)
        else:
            anew.remove(same)
            same.postpone(left)
            same.trace = trace
