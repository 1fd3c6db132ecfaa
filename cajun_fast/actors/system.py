"""The actors of one node: the face of this package. Knows nothing of clusters.

Laws: bound to the loop and thread that started it; after ``stop`` nothing of it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Self

from cajun_fast._core.cell import Cell
from cajun_fast._core.durable import Ways
from cajun_fast._core.instruments import Sampler
from cajun_fast._core.lane import Exchange, running
from cajun_fast._core.mail import Volatile
from cajun_fast._core.turns import Dispatcher
from cajun_fast.actors.dead_letters import DeadLetters
from cajun_fast.actors.deaths import STOPPED, Deaths
from cajun_fast.actors.groups import Group, Groups
from cajun_fast.actors.lifecycle import Keeper, ancestors
from cajun_fast.actors.ports import Durability, LocalRouter, Router
from cajun_fast.actors.settings import ActorSettings
from cajun_fast.errors import NotRunningError, WrongThreadError
from cajun_fast.pid import Pid
from cajun_fast.ports import Ports

logger = logging.getLogger("cajun_fast.actors")
Target = Callable[..., Any]


class ActorSystem:
    """Runs actors. ``router`` finds those that are not here; without one they are nowhere."""

    def __init__(
        self,
        node_id: str,
        *,
        ports: Ports | None = None,
        settings: ActorSettings | None = None,
        router: Router | None = None,
    ) -> None:
        self.node_id = node_id
        self.ports = ports or Ports()
        self.settings = settings or ActorSettings()
        self.dead_letters = DeadLetters(
            self.ports.clock,
            keep=self.settings.dead_letters_kept,
            logged_per_second=self.settings.dead_letters_logged_per_second,
        )
        self._router: Router = router or LocalRouter()
        self._keeper: Keeper | None = None
        self._stopped = False

    # ---- Life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the running loop as its own. Raises NotRunningError when it was started before."""
        if self._keeper is not None or self._stopped:
            raise NotRunningError(f"actor system {self.node_id!r} was started before: make a new one")
        settings, loop = self.settings, asyncio.get_running_loop()
        exchange = Exchange(
            self.node_id,
            loop=loop,
            clock=self.ports.clock.now_ns,
            router=self._router,
            dead_letters=self.dead_letters,
            encode=as_it_is,
            decode=as_it_is,
            first_tag=self.ports.random.getrandbits(62) | 1,
            guarantee=settings.guarantee,
            waiting_limit=settings.waiting_limit,
            waiting_bytes_limit=settings.waiting_bytes,
            waiting_bytes_total=settings.waiting_bytes_total,
            raise_when_full=settings.raise_when_full,
            max_asks=settings.max_asks,
            sampler=Sampler(settings.sample_budget),
            notes=settings.notes,
        )
        exchange.ways = Ways(exchange, f"{self.node_id}#{self.ports.random.getrandbits(64):016x}")
        exchange.volatile = Volatile(exchange)
        self._keeper = Keeper(exchange, settings, self.ports, SystemView(self))
        self.exchange = exchange

    async def stop(self, timeout: float = 5.0) -> None:
        """Stop all actors, children before parents; those that are left after ``timeout`` seconds are cancelled
        and named in the log. A second call does nothing."""
        if self._keeper is None or self._stopped:
            self._stopped = True
            return
        self._stopped = True
        stuck = await self._keeper.stop_all(timeout)
        if stuck:
            logger.error("actors that would not stop: %s", ", ".join(sorted(set(stuck))))
        self.exchange.close()
        self.exchange.ways.close()
        self._keeper.dispatcher.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def keeper(self) -> Keeper:
        """Who keeps the actors: for whoever moves them between systems."""
        return self._running

    @property
    def dispatcher(self) -> Dispatcher:
        """Who gives the actors of this node their turns; a link's frame loop asks it when to stop."""
        return self._running.dispatcher

    @property
    def durability(self) -> Durability | None:
        """What keeps the state of durable actors; without it they cannot be spawned."""
        return self._running.durability

    @durability.setter
    def durability(self, durability: Durability) -> None:
        self._running.durability = durability

    @property
    def _running(self) -> Keeper:
        if self._keeper is None or self._stopped:
            state = "is stopped" if self._stopped else "has not been started: await start() first"
            raise NotRunningError(f"actor system {self.node_id!r} {state}")
        return self._keeper

    # ---- Actors --------------------------------------------------------------------------------------------

    async def spawn(self, target: Target, actor_id: str | None = None, /, *args: Any, **kwargs: Any) -> Pid:
        """Start an actor: a class with ``receive``, made with the arguments; or a ``function(message, context)``.

        Without an id it gets one. ``mailbox_capacity``, ``mailbox_policy`` and ``supervision`` are keywords of
        spawn itself. Done when ``pre_start`` is done. Raises what the constructor and ``pre_start`` raise,
        ActorAlreadyExistsError, ConfigError, NotRunningError; then nothing is left behind.
        """
        return await self._spawn(target, actor_id, args, kwargs, reserved=False)

    async def register_function(self, function: Target, actor_id: str, /, **kwargs: Any) -> Pid:
        """As ``spawn``, for the engine's own actors: the id may start with ``cajun:``."""
        return await self._spawn(function, actor_id, (), kwargs, reserved=True)

    async def _spawn(
        self,
        target: Target,
        actor_id: str | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reserved: bool,
    ) -> Pid:
        keeper = self._running
        if asyncio.get_running_loop() is not self.exchange.loop:
            raise WrongThreadError(
                f"actor system {self.node_id!r} runs on another loop: spawn from a coroutine there"
            )
        cell = keeper.make(target, actor_id, args, kwargs, reserved=reserved)
        start = keeper.begin(cell)
        if start is not None:
            await keeper.started(cell, start)
        return cell.pid

    def begin(
        self,
        target: Target,
        actor_id: str,
        prepare: Callable[[Cell], None],
        failed: Callable[[Cell, BaseException | None], None],
    ) -> Cell:
        """Make an actor that takes messages from now on and handles them once it has started.

        ``prepare`` is called with the cell before its start, ``failed`` when ``pre_start`` raises. Raises what
        the constructor and ``prepare`` raise; then nothing is left behind.
        """
        keeper = self._running
        cell = keeper.make(target, actor_id, (), {})
        try:
            prepare(cell)
        except BaseException:
            keeper.stop(cell, said_goodbye=True)
            raise
        keeper.begin(cell, lambda error: failed(cell, error))
        return cell

    def end(self, cell: Cell, *, said_goodbye: bool = False, why: str = STOPPED) -> asyncio.Task[None] | None:
        """Begin to stop it, children first; the task that does so, or None where it has been done."""
        return self._running.stop(cell, said_goodbye=said_goodbye, why=why)

    def on_passivate(self, passivate: Callable[[Cell], bool]) -> None:
        """Who is asked when an actor calls ``context.passivate``; answers whether it is one of its own."""
        self._running.on_passivate = passivate

    async def stop_actor(self, actor_id: str) -> bool:
        """Stop an actor and its children; done when ``post_stop`` is done. False: there is none of that id.

        Raises RuntimeError for an actor that would wait for its own end or an ancestor's: use ``context.stop()``.
        """
        keeper = self._running
        cell = keeper.cells.get(actor_id)
        if cell is None:
            return False
        caller = running()
        waiting = keeper.cells.get(caller.id) if caller is not None else None
        if waiting is not None and (waiting is cell or cell in ancestors(waiting)):
            raise RuntimeError(
                f"actor {waiting.id!r} cannot wait for the end of {actor_id!r}: use context.stop()"
            )
        end = keeper.stop(cell)
        if end is not None:
            await asyncio.shield(end)
        return True

    def stop_cell(self, cell: Cell) -> None:
        """Begin to stop an actor, without waiting."""
        self._running.stop(cell)

    def pid(self, actor_id: str) -> Pid:
        """A handle on the actor of that id; whether there is one is not checked."""
        self._running  # noqa: B018 - raises before the start
        return self.exchange.pid(actor_id)

    def group(self, topic: str) -> Group:
        """A handle on a topic, to publish to. Raises ConfigError for a bad name, NotRunningError."""
        return Group(self._running.groups, self.exchange, topic)

    @property
    def deaths(self) -> Deaths:
        """Who watches whom on this node."""
        return self._running.deaths

    @property
    def groups(self) -> Groups:
        """Who on this node has subscribed to what."""
        return self._running.groups

    def on_end(self, ended: Callable[[str, str], None]) -> None:
        """Have ``ended(actor_id, reason)`` called for each actor of this node that is gone; it must not raise."""
        self._running.on_end.append(ended)

    def actor_ids(self) -> Iterable[str]:
        """Ids of the actors here, those that are starting or stopping among them."""
        return tuple(self._keeper.cells) if self._keeper is not None else ()

    def cell(self, actor_id: str) -> Cell | None:
        """The running actor of that id, for inspection."""
        return self._keeper.cells.get(actor_id) if self._keeper is not None else None

    def freeze(self, exempt: str, held: dict[str, Cell], rising: dict[str, Cell]) -> None:
        """All actors here but ids that begin with ``exempt``; those that run now go to ``held``, those that come up
        to ``rising``."""
        if self._keeper is not None:
            self._keeper.cells.freeze(exempt, held, rising)

    @property
    def actor_count(self) -> int:
        """How many actors are here."""
        return len(self._keeper.cells) if self._keeper is not None else 0

    @property
    def view(self) -> Any:
        """What actors see as ``context.system``; a cluster puts its own in this place."""
        return self._running.view

    @view.setter
    def view(self, view: Any) -> None:
        self._running.view = view


class SystemView:
    """An actor system as its actors see it."""

    __slots__ = ("_system",)

    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    @property
    def node_id(self) -> str:
        """The id of this node."""
        return self._system.node_id

    async def spawn(self, target: Target, actor_id: str | None = None, /, *args: Any, **kwargs: Any) -> Pid:
        """Start an actor without a parent: see ``ActorSystem.spawn``."""
        return await self._system.spawn(target, actor_id, *args, **kwargs)

    async def stop_actor(self, actor_id: str) -> bool:
        """Stop an actor and wait for it: see ``ActorSystem.stop_actor``."""
        return await self._system.stop_actor(actor_id)

    def pid(self, actor_id: str) -> Pid:
        """A handle on the actor of that id."""
        return self._system.pid(actor_id)

    def group(self, topic: str) -> Group:
        """A handle on a topic: see ``ActorSystem.group``."""
        return self._system.group(topic)

    def actor_ids(self) -> Iterable[str]:
        """Ids of the actors of this node."""
        return self._system.actor_ids()


def as_it_is(message: Any) -> Any:
    """Stands where a serializer goes once there is a network."""
    return message
