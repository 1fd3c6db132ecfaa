"""The keeper: starts, judges, recovers and stops the cells of one system. Cells ask it on their slow paths.

Laws: whatever is begun ends, in bounded time; each task has its owner here; children end before their parents;
hooks run with their actor as the running one.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import weakref
from collections.abc import Callable
from typing import Any

from cajun_fast._core.cell import Cell
from cajun_fast._core.lane import Exchange
from cajun_fast._core.turns import Dispatcher
from cajun_fast.actors.actor import Actor
from cajun_fast.actors.dead_letters import Throttle
from cajun_fast.actors.deaths import FAILED, MOVED, STOPPED, Deaths
from cajun_fast.actors.groups import Groups
from cajun_fast.actors.ids import IdStrategy, check_id, random_ids
from cajun_fast.actors.ports import Durability
from cajun_fast.actors.props import Props, take_props
from cajun_fast.actors.recipe import Kind, Recipe, kind_of
from cajun_fast.actors.registry import type_props
from cajun_fast.actors.roster import Roster
from cajun_fast.actors.settings import ActorSettings
from cajun_fast.actors.supervision import Directive, RestartLedger
from cajun_fast.actors.timers import Timer, cancel_all
from cajun_fast.errors import ActorAlreadyExistsError, ActorNotFoundError, ConfigError, NotRunningError
from cajun_fast.pid import Pid
from cajun_fast.ports import Ports

logger = logging.getLogger("cajun_fast.actors")
GRACE = 1.0  # seconds that a cancelled handler has for its clean-up
STOPS_A_TURN = 200  # actors that begin to stop in one turn of the loop, when all of them stop


class Keeper:
    """Everything slow in the life of an actor."""

    def __init__(self, exchange: Exchange, settings: ActorSettings, ports: Ports, view: Any) -> None:
        self.view = view
        self.cells = Roster(exchange)
        self.stuck: list[str] = []
        self.durability: Durability | None = None
        self.closing = False
        #: For ``context.passivate``; None where no actor starts again by its next message.
        self.on_passivate: Callable[[Cell], bool] | None = None
        self._exchange = exchange
        self._settings = settings
        self._defaults = Props(settings.mailbox_capacity, settings.mailbox_policy, settings.supervision)
        self._clock = ports.clock
        self._ids: IdStrategy = settings.ids or random_ids(ports.random)
        self._children_made = 0
        self._why: dict[str, str] = {}
        #: Told of each actor that is gone, and why: nobody, unless actors watch or subscribe.
        self.on_end: list[Callable[[str, str], None]] = []
        #: Which of the children that came along with a moved actor it means when it spawns one; see ``moving``.
        self.came_along: Callable[[Cell, Any, str | None], str | None] = lambda parent, target, name: None
        self._shared: weakref.WeakValueDictionary[Kind, Recipe] = weakref.WeakValueDictionary()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, asyncio.Future[None]] = {}
        self._throttle = Throttle(ports.clock, settings.dead_letters_logged_per_second)
        self.dispatcher = Dispatcher(
            exchange, self, time_slice=settings.time_slice, batch=settings.batch, timing=settings.timing
        )

    @functools.cached_property
    def deaths(self) -> Deaths:
        """Who watches whom."""
        deaths = Deaths(self._exchange, self.cells)
        self.on_end.append(deaths.actor_ended)
        return deaths

    @functools.cached_property
    def groups(self) -> Groups:
        """Who has subscribed to what."""
        groups = Groups(self._exchange, lambda: self.closing)
        self.on_end.append(groups.actor_ended)
        return groups

    # ---- Start ---------------------------------------------------------------------------------------------

    def make(
        self,
        target: Any,
        actor_id: str | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Cell | None = None,
        *,
        reserved: bool = False,
    ) -> Cell:
        """A cell that takes messages and does not handle them yet; raises with nothing left behind."""
        if self.closing:
            raise NotRunningError(
                f"node {self._exchange.node_id!r} is stopping: nothing can be spawned on it"
            )
        cell = self.build(target, actor_id, args, kwargs, parent, reserved=reserved)
        self.join(cell)
        return cell

    def build(
        self,
        target: Any,
        actor_id: str | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Cell | None = None,
        *,
        reserved: bool = False,
    ) -> Cell:
        """A cell with its instance that nobody can reach yet; raises with nothing left behind."""
        recipe = self._recipe(target, args, kwargs)
        durability = self._durability(recipe) if recipe.kind.durable else None
        actor_id = check_id(self._ids(recipe.kind.name) if actor_id is None else actor_id, reserved=reserved)
        self._check_free(actor_id)
        instance, receive, bare = recipe.make()
        self._check_free(actor_id)  # the constructor may have taken it
        cell = Cell(self.dispatcher, self._exchange.pid(actor_id), recipe, parent)
        self._bind(cell, instance, receive, bare)
        if durability is not None:
            durability.attach(cell)
        return cell

    def join(self, cell: Cell) -> None:
        """From now on it takes messages. Raises ActorAlreadyExistsError if its id was taken meanwhile."""
        self._check_free(cell.id)
        if cell.parent is not None:
            cell.parent.children = cell.parent.children or {}
            cell.parent.children[cell.id] = cell
        self.cells.join(cell)

    def _durability(self, recipe: Recipe) -> Durability:
        if self.durability is None:
            raise ConfigError(
                f"class {recipe.target.__name__} says durable = True, and node {self._exchange.node_id!r} has no "
                "persistence: set persistence (--persistence, with_persistence) to e.g. 'sqlite:///state.db', or "
                "remove durable to run it as a volatile actor"
            )
        return self.durability

    def _recipe(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recipe:
        """How to make it; those that are spawned without arguments share one for their type."""
        if args or kwargs:
            props = take_props(kwargs).over(type_props(target)).over(self._defaults)
            return Recipe(target, kind_of(target), args, kwargs, props)
        kind = kind_of(target)
        recipe = self._shared.get(kind)
        if recipe is None or recipe.target is not target:
            recipe = Recipe(target, kind, (), {}, type_props(target).over(self._defaults))
            self._shared[kind] = recipe
        return recipe

    def _check_free(self, actor_id: str) -> None:
        if actor_id in self.cells:
            raise ActorAlreadyExistsError(actor_id, self._exchange.node_id)

    def _bind(self, cell: Cell, instance: Any, receive: Callable[..., Any], bare: bool) -> None:
        if isinstance(instance, Actor):
            instance._cell = cell
        cell.bind(instance, receive, bare)

    def begin(
        self, cell: Cell, failed: Callable[[BaseException | None], None] | None = None
    ) -> asyncio.Task[None] | None:
        """Start it: at once, or by the returned task, which raises what ``pre_start`` raises.

        ``failed`` is told then and looks after the cell; else it is stopped.
        """
        if "pre_start" not in cell.recipe.kind.hooks and cell.gate is None:
            cell.run_now()
            return None
        task = self.dispatcher.task(self._start(cell), cell.pid, f"start {cell.id}")
        self._starting[cell.id] = task
        task.add_done_callback(lambda task: self._started(cell, task, failed))
        return task

    async def _start(self, cell: Cell) -> None:
        if cell.gate is not None and self.durability is not None:
            await self.durability.restore(cell)
        await self._hook(cell, "pre_start")
        if cell.state == "starting":
            cell.run_now()
            if cell.gate is not None and self.durability is not None:
                self.durability.opened(cell)

    def _started(
        self, cell: Cell, task: asyncio.Task[None], failed: Callable[[BaseException | None], None] | None
    ) -> None:
        """Not in ``_start``: a task that is cancelled before its first step runs nothing of it."""
        self._starting.pop(cell.id, None)
        if not task.cancelled() and task.exception() is None:
            return
        if failed is not None and cell.state == "starting":
            failed(None if task.cancelled() else task.exception())
        else:
            self.stop(cell, said_goodbye=True, why=FAILED)

    async def started(self, cell: Cell, task: asyncio.Task[None]) -> None:
        """Wait for the start; where it fails, until nothing of it is left."""
        try:
            await task
        except Exception:
            if (end := self.stop(cell, said_goodbye=True)) is not None:
                await asyncio.shield(end)
            raise

    def spawn_child(
        self, parent: Cell, target: Any, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, asyncio.Task[None] | None]:
        """Begin a child: its id, and the task that starts it, if it takes one. A failed start is logged too."""
        if parent.state in ("stopping", "stopped"):
            raise NotRunningError(f"actor {parent.id!r} is stopping: it cannot have more children")
        came_along = self.came_along(parent, target, name)
        if came_along is not None:
            return came_along, None
        if name is None:
            name = self._child_name(parent, kind_of(target).name)
        reserved = parent.id.startswith("cajun:")
        cell = self.make(target, f"{parent.id}/{check_id(name)}", args, kwargs, parent, reserved=reserved)
        task = self.begin(cell)
        if task is not None:
            task.add_done_callback(lambda task: log_failed_start(cell.id, task))
        return cell.id, task

    def _child_name(self, parent: Cell, kind: str) -> str:
        while True:
            self._children_made += 1
            name = f"{kind}-{self._children_made}"
            if f"{parent.id}/{name}" not in self.cells:
                return name

    async def _hook(self, cell: Cell, name: str, *args: Any) -> None:
        if name in cell.recipe.kind.hooks:
            done = getattr(cell.instance, name)(*args)
            if inspect.isawaitable(done):
                await done

    # ---- Failures ------------------------------------------------------------------------------------------

    def judge(self, cell: Cell, error: BaseException, message: Any, told: bool) -> bool:
        """What is to happen after a handler raised; True: restart. ``told``: an asker has the error."""
        directive = cell.recipe.supervision.directive(error)
        self._log_failure(cell, error, message, directive, quiet=told and directive is Directive.RESUME)
        return self._apply(cell, directive, error, message)

    def _apply(self, cell: Cell, directive: Directive, error: BaseException, message: Any) -> bool:
        if cell.state not in ("running", "suspended") or directive is Directive.RESUME:
            return False
        if directive is Directive.RESTART:
            if self._may_restart(cell):
                self._restart_siblings(cell, error, message)
                return True
            directive = cell.recipe.supervision.then
        self._give_up(cell, directive, error, message)
        return False

    def _may_restart(self, cell: Cell) -> bool:
        cell.restarts = cell.restarts or RestartLedger()
        return bool(cell.restarts.spend(cell.recipe.supervision, self._clock.now_ns()))

    def _restart_siblings(self, cell: Cell, error: BaseException, message: Any) -> None:
        if cell.recipe.supervision.all_for_one and cell.parent is not None:
            for sibling in tuple((cell.parent.children or {}).values()):
                if sibling is not cell:
                    sibling.recover_from(error, message)

    def _give_up(self, cell: Cell, directive: Directive, error: BaseException, message: Any) -> None:
        """Stop it, or let its parent's strategy decide; a parent that resumes lets the child resume."""
        parent = cell.parent
        if directive is Directive.ESCALATE and parent is not None:
            directive = parent.recipe.supervision.directive(error)
            if directive is Directive.RESUME and cell.state != "restarting":
                return
            if self._apply(parent, directive, error, message):
                parent.recover_from(error, message)
        self.stop(cell, why=FAILED)

    async def recover(self, cell: Cell, error: BaseException, message: Any) -> None:
        """Restart: runs in the pump of the cell, which goes on with the mailbox afterwards."""
        await self._pause(cell)
        await self._end_children(cell)
        cancel_all(cell)
        if cell.state != "restarting":
            return
        try:
            await self._hook(cell, "pre_restart", error, message)
        except Exception:
            logger.exception("pre_restart of actor %r failed; it is restarted all the same", cell.id)
        while cell.state == "restarting":
            try:
                self._bind(cell, *cell.recipe.make())
                if cell.gate is not None:
                    cell.gate.restore(cell.instance)
                await self._hook(cell, "pre_start")
            except Exception as failure:
                await self._restart_failed(cell, failure, message)
            else:
                if cell.state == "restarting":
                    cell.run_now()

    async def _restart_failed(self, cell: Cell, failure: Exception, message: Any) -> None:
        self._log_failure(cell, failure, message, Directive.RESTART, quiet=False)
        if self._may_restart(cell):
            await self._pause(cell)
        elif cell.state == "restarting":
            self._give_up(cell, cell.recipe.supervision.then, failure, message)

    async def _pause(self, cell: Cell) -> None:
        """The delay before a restart; a stop ends it at once."""
        delay = cell.restarts.delay if cell.restarts is not None else 0.0
        if delay > 0 and cell.state == "restarting":
            loop = self._exchange.loop
            pause = self._pauses[cell.id] = loop.create_future()
            timer = loop.call_later(delay, end_pause, pause)
            try:
                await pause
            finally:
                timer.cancel()
                del self._pauses[cell.id]

    def _log_failure(
        self, cell: Cell, error: BaseException, message: Any, directive: Directive, *, quiet: bool
    ) -> None:
        skipped = None if quiet else self._throttle.pass_one()
        if skipped is None:
            return
        logger.error(
            "actor %r raised on a %s: %s%s",
            cell.id,
            type(message).__name__,
            directive.name.lower(),
            f" ({skipped} more failures were not logged)" if skipped else "",
            exc_info=error,
            extra={"actor": cell.id},
        )

    # ---- Stop ----------------------------------------------------------------------------------------------

    def stop(
        self, cell: Cell, *, said_goodbye: bool = False, why: str = STOPPED
    ) -> asyncio.Task[None] | None:
        """Begin to stop it, children first; the task that does so, or None where it has been done. ``why`` is told to
        ``on_end``; the first to stop it says so.
        """
        if cell.id in self._ending or cell.state == "stopped":
            return self._ending.get(cell.id)
        if why != STOPPED:
            self._why[cell.id] = why
        self.cells.leave(cell)
        resting = cell.is_resting
        cell.stop_taking()
        if pause := self._pauses.get(cell.id):
            end_pause(pause)
        if resting and not cell.children and "post_stop" not in cell.recipe.kind.hooks and cell.gate is None:
            self._bury(cell)
            return None
        task = self.dispatcher.task(self._end(cell, said_goodbye), cell.pid, f"stop {cell.id}")
        self._ending[cell.id] = task
        return task

    def passivate(self, cell: Cell) -> None:
        """For ``context.passivate``."""
        if self.on_passivate is None or not self.on_passivate(cell):
            raise ConfigError(
                f"actor {cell.id!r} is not sharded: nothing would start it again; use context.stop()"
            )

    def stop_from(self, cell: Cell, pid: Pid | None) -> None:
        """For ``context.stop``: itself or a descendant."""
        if pid is None or pid.id == cell.id:
            self.stop(cell)
            return
        other = self.cells.get(pid.id)
        if other is None:
            raise ActorNotFoundError(f"there is no actor {pid.id!r} on this node to stop", pid.id)
        if cell not in ancestors(other):
            raise ValueError(f"actor {cell.id!r} may stop itself and its descendants, not {pid.id!r}")
        self.stop(other)

    async def _end(self, cell: Cell, said_goodbye: bool) -> None:
        try:
            await self._end_children(cell)
            cancel_all(cell)
            await self._quiet(cell)
            await self._flush(cell)
            if not said_goodbye:
                await self._say_goodbye(cell)
        finally:
            self._bury(cell)

    async def _end_children(self, cell: Cell) -> None:
        children = reversed(tuple((cell.children or {}).values()))
        ends = [task for child in children if (task := self.stop(child)) is not None]
        if ends:
            await asyncio.wait(ends)

    async def _quiet(self, cell: Cell) -> None:
        """Wait until its handler has ended; past the time for that, cancel it."""
        start = self._starting.get(cell.id)
        task = start or cell.task
        if task is None or task.done():
            return
        if start is not None:
            start.cancel()
        _, pending = await asyncio.wait({task}, timeout=self._settings.stop_timeout)
        if pending:
            logger.warning(
                "actor %r has not ended its handler in %g s: cancelled", cell.id, self._settings.stop_timeout
            )
            task.cancel()
            _, pending = await asyncio.wait({task}, timeout=GRACE)
        if pending:
            self.stuck.append(cell.id)
            logger.error("actor %r does not let itself be cancelled: left behind", cell.id)

    async def _flush(self, cell: Cell) -> None:
        if cell.gate is None or self.durability is None:
            return
        try:
            await asyncio.wait_for(self.durability.flush(cell), self._settings.stop_timeout)
        except TimeoutError:
            logger.error(
                "durable actor %r stops, and its persistence has not answered for its last messages within %g s: "
                "their senders are told that the outcome is unknown",
                cell.id,
                self._settings.stop_timeout,
            )

    async def _say_goodbye(self, cell: Cell) -> None:
        try:
            await asyncio.wait_for(self._hook(cell, "post_stop"), self._settings.stop_timeout)
        except TimeoutError:
            logger.error(
                "post_stop of actor %r took over %g s: cancelled", cell.id, self._settings.stop_timeout
            )
        except Exception:
            logger.exception("post_stop of actor %r failed", cell.id)

    def _bury(self, cell: Cell) -> None:
        if cell.state == "stopped":
            return
        cancel_all(cell)
        if cell.gate is not None and self.durability is not None:
            self.durability.closed(cell)
        cell.close()
        self.cells.forget(cell)
        self._ending.pop(cell.id, None)
        if cell.parent is not None and cell.parent.children:
            cell.parent.children.pop(cell.id, None)
        reason = self._why.pop(cell.id, STOPPED)
        for on_end in self.on_end:
            on_end(cell.id, reason)
        self._exchange.router.actor_stopped(cell.id)

    async def move_out(self, cell: Cell) -> None:
        """It lives on elsewhere, and so does what waits for it: end the copy here, children first."""
        self.cells.leave(cell)
        cell.stop_taking()
        for child in reversed(tuple((cell.children or {}).values())):
            await self.move_out(child)
        cancel_all(cell)
        await self._say_goodbye(cell)
        if cell.gate is not None and self.durability is not None:
            self.durability.closed(cell)
        cell.close_moved()
        self.cells.forget(cell)
        if cell.parent is not None and cell.parent.children:
            cell.parent.children.pop(cell.id, None)
        for on_end in self.on_end:
            on_end(cell.id, MOVED)

    async def stop_all(self, timeout: float) -> list[str]:
        """Stop every actor within ``timeout`` seconds; the ids of those that would not."""
        self.closing = True
        loop = self._exchange.loop
        give_up = loop.time() + timeout
        ends = await self._stop_tops()
        if ends:
            _, pending = await asyncio.wait(ends, timeout=max(0.0, give_up - loop.time()))
            if pending:
                await self._abandon()
        return self.stuck

    async def _stop_tops(self) -> list[asyncio.Task[None]]:
        """Begin to stop all, the newest first; some in each turn of the loop, which has to keep the node's seat and
        links meanwhile."""
        tops = [cell for cell in self.cells.cells() if cell.parent is None]
        ends = []
        for number, cell in enumerate(reversed(tops), 1):
            if (task := self.stop(cell)) is not None:
                ends.append(task)
            if number % STOPS_A_TURN == 0:
                await asyncio.sleep(0)
        return ends

    async def _abandon(self) -> None:
        running = {cell.task for cell in self.cells.cells() if cell.task is not None}
        self.stuck.extend(self.cells)
        for task in (tasks := {*self._ending.values(), *self._starting.values(), *running}):
            task.cancel()
        await asyncio.wait(tasks, timeout=GRACE)
        for cell in self.cells.cells():
            self._bury(cell)

    # ---- Timers --------------------------------------------------------------------------------------------

    def schedule(self, cell: Cell, delay: float, message: Any, interval: float | None) -> Timer:
        """For ``context.schedule``."""
        if cell.state in ("stopping", "stopped"):
            raise NotRunningError(f"actor {cell.id!r} is stopping: it cannot schedule {message!r}")
        trace = self._exchange.begin_trace("schedule", cell.id, cell.pid)
        return Timer(self._exchange.loop, cell, delay, message, interval, trace)


def ancestors(cell: Cell) -> list[Cell]:
    """The parent, its parent and so on."""
    found = []
    parent = cell.parent
    while parent is not None:
        found.append(parent)
        parent = parent.parent
    return found


def end_pause(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


def log_failed_start(actor_id: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("child %r did not start", actor_id, exc_info=error, extra={"actor": actor_id})
