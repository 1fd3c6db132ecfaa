"""Whole nodes in one process or in several: actors, links and real sockets, without a cluster around them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cajun_fast._core.lane import Lane
from cajun_fast.actors.system import ActorSystem
from cajun_fast.errors import ActorNotFoundError, CajunError
from cajun_fast.messaging.hearts import SocketHearts
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.messaging.settings import LinkSettings
from cajun_fast.messaging.system import MessagingSystem
from cajun_fast.ports import Address, Ports

FAST = {"first_pause": 0.005, "longest_pause": 0.05, "heartbeat_timeout": 0.6}


class Table:
    """A router that is told where actors live. One that refuses is asked again after a pause, for a while."""

    def __init__(self) -> None:
        self.where: dict[str, str] = {}
        self.patience = 100
        self.node: Node | None = None

    def resolve(self, lane: Lane) -> None:
        assert self.node is not None
        inbox = self.node.actors.exchange.inboxes.get(lane.target)
        home = self.where.get(lane.target)
        if inbox is not None:
            lane.bind_inbox(inbox)
        elif home is None or lane.refusals > self.patience:
            lane.fail(ActorNotFoundError(f"no actor {lane.target!r}", lane.target))
        elif lane.refusals:
            self.node.loop.call_later(0.01, self._bind, lane, home)
        else:
            self._bind(lane, home)

    def _bind(self, lane: Lane, home: str) -> None:
        assert self.node is not None
        try:
            lane.bind_carrier(self.node.messaging.link(home))
        except CajunError as error:
            lane.fail(error)

    def refresh(self, lane: Lane) -> None:
        """Nothing expires."""

    def actor_stopped(self, actor_id: str) -> None:
        """Nobody else needs to know."""


class Node:
    """One node of two."""

    def __init__(
        self,
        name: str,
        incarnation: int = 1,
        *,
        unix: bool = False,
        cluster: str = "c",
        security: Any = None,
        **settings: Any,
    ):
        self.name, self.incarnation = name, incarnation
        self.ports = Ports(network=SocketNetwork(unix=unix), hearts=SocketHearts())
        self.table = Table()
        self.table.node = self
        self.loop = asyncio.get_running_loop()
        self.actors = ActorSystem(name, ports=self.ports, router=self.table)
        self.messaging: MessagingSystem
        self.settings = LinkSettings(**{**FAST, **settings})
        self.cluster = cluster
        self.security = security
        self.address: Address

    async def start(self, host: str = "127.0.0.1") -> Node:
        await self.actors.start()
        self.messaging = MessagingSystem(
            self.name, self.incarnation, self.cluster, self.actors.exchange, self.actors.dispatcher, self.ports,
            self.settings, security=self.security,
        )  # fmt: skip
        self.address = await self.messaging.start(host, 0)
        return self

    async def stop(self) -> None:
        await self.messaging.stop()
        await self.actors.stop()

    def knows(self, other: Node, address: Address | None = None) -> None:
        self.messaging.add_node(other.name, other.incarnation, [address or other.address])

    def pid(self, actor_id: str, home: Node | str) -> Any:
        self.table.where[actor_id] = home if isinstance(home, str) else home.name
        return self.actors.pid(actor_id)

    async def record(self, actor_id: str, **options: Any) -> list[Any]:
        """An actor that writes down what it gets and answers with how many there were."""
        log: list[Any] = []

        def recorder(message: Any, context: Any) -> int:
            log.append(message)
            return len(log)

        await self.actors.spawn(recorder, actor_id, **options)
        return log

    def link(self, other: Node) -> Any:
        peer = self.messaging.peer(other.name)
        return None if peer is None else peer.link

    @property
    def dead(self) -> list[Any]:
        return [(letter.message, letter.reason) for letter in self.actors.dead_letters]


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Return as soon as ``condition()`` holds."""
    end = asyncio.get_running_loop().time() + timeout
    while not condition():
        if asyncio.get_running_loop().time() > end:
            raise TimeoutError("it did not come to be")
        await asyncio.sleep(0.002)


async def tell_all(
    pid: Any, messages: list[Any], breath: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Tell each, waiting for room where there is none."""
    from cajun_fast.errors import BackpressureError

    for i, message in enumerate(messages):
        while True:
            try:
                pid.tell(message)
                break
            except BackpressureError:
                await pid.ready()
        if breath is not None and i % 50 == 49:
            await breath()
