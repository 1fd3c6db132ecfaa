"""The engine itself, as an application uses it: members of a cluster, default settings, ordinary dicts.

    options   guarantee   the node's default one          links    sending nodes in the one sending process
              transport   "unix" or "tcp"                 actors   targets; told in turns when there are many
              handler     "sync" or "async"               name     of the sending nodes, before their number
              off         settings of observability that are turned off

Laws: the public API only; nothing is set but what an option says.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

from cajun_fast._core.lane import Pid
from cajun_fast.actors import Actor, Context
from cajun_fast.cluster import ClusterActorSystem, ClusterFactory
from cajun_fast.config import ClusterConfig
from cajun_fast.errors import BackpressureError
from cajun_fast.management.bench.contestant import (
    JOINED,
    Counter,
    Make,
    Message,
    Options,
    Receiver,
    Sender,
    Tally,
)
from cajun_fast.management.certificates import Folder, make_authority, make_node, make_secret
from cajun_fast.messaging.network import SocketNetwork
from cajun_fast.ports import Ports

SPAWNED_AT_ONCE = 500
PATIENCE = 10.0  # seconds until messages that did not come count as lost


async def join(name: str, options: Options) -> ClusterActorSystem:
    """A member of the contestant's cluster."""
    builder = (
        ClusterConfig.Builder(name, f"sqlite:///{options['store']}")
        .with_messaging_port(0)
        .with_delivery_guarantee(options.get("guarantee", "EXACTLY_ONCE"))
    )
    for name in options.get("off", ()):
        builder.with_setting(f"observability.{name}", False if name == "explain_timeouts" else 0)
    if options.get("secure"):
        secure(builder, name, Path(f"{options['store']}.certs"))
    config = builder.build()
    ports = Ports(network=SocketNetwork(unix=options["transport"] == "unix"))
    system = ClusterFactory.create_cluster_system(config, ports=ports)
    await system.start()
    return system


def secure(builder: ClusterConfig.Builder, name: str, path: Path) -> None:
    """TLS and authentication, with papers of the contestant's own authority, which its first process makes."""
    folder = Folder(path)
    if not folder.ca.exists():
        make_authority(folder)
        make_secret(folder)
    make_node(folder, name)
    builder.with_tls(cert=folder.cert(name), key=folder.key(name), ca=folder.ca)
    builder.with_authentication(key_file=folder.secret)


class Target(Actor):
    """Counts in a counter that all targets share."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def receive(self, message: Any, context: Context) -> Any:
        if message["op"] == "add":
            counter = self.counter
            counter.count += 1
            counter.total += message["v"]
            return None
        return self.counter.answer(message)


class AsyncTarget(Target):
    """The same as a coroutine."""

    async def receive(self, message: Any, context: Context) -> Any:
        if message["op"] == "add":
            counter = self.counter
            counter.count += 1
            counter.total += message["v"]
            return None
        return self.counter.answer(message)


class EngineReceiver(Receiver):
    """A node with the targets."""

    async def open(self) -> Any:
        self._system = await join("receiver", self.options)
        counter = Counter()
        kind = AsyncTarget if self.options.get("handler") == "async" else Target
        count = self.options.get("actors", 1)
        for start in range(0, count, SPAWNED_AT_ONCE):
            numbers = range(start, min(start + SPAWNED_AT_ONCE, count))
            await asyncio.gather(*(self._system.register(kind, f"target-{i}", counter) for i in numbers))
        return None


class EngineSender(Sender):
    """One node, or as many as there are links."""

    async def open(self, address: Any) -> None:
        name = self.options.get("name", "sender")
        names = [f"{name}-{i}" for i in range(self.options.get("links", 1))]
        self._systems = [await join(name, self.options) for name in names]
        count = self.options.get("actors", 1)
        self._pids = [[system.pid(f"target-{i}") for i in range(count)] for system in self._systems]
        self._first = self._pids[0][0]
        for pids in self._pids:
            for start in range(0, count, SPAWNED_AT_ONCE):
                asks = (pid.ask({"op": "echo"}) for pid in pids[start : start + SPAWNED_AT_ONCE])
                await asyncio.gather(*asks)
        self._told = (await self.report()).handled

    def _groups(self) -> Iterator[list[Any]]:
        """Tells of 64 messages at a time: the links in turns, and of one link the actors in turns."""
        turns = [itertools.cycle(grouped([pid.tell for pid in pids])) for pids in self._pids]
        for turn in itertools.cycle(turns):
            yield next(turn)

    async def tell_many(self, make: Make, count: int) -> None:
        groups = self._groups()
        for start in range(0, count, JOINED):
            i = start
            for tell in next(groups)[: count - start]:
                try:
                    tell(make(i))
                except BackpressureError:
                    await tell_when_ready(tell.__self__, make(i))
                i += 1
        self._told += count

    def ask(self, message: Message) -> Awaitable[Any]:
        answer: Awaitable[Any] = self._first.ask(message)
        return answer

    async def report(self) -> Tally:
        return Tally(*await self._first.ask({"op": "report"}, timeout=60.0))

    async def settle(self) -> Tally:
        """What the receiver has done once it has handled all that was told, on every link and in every
        actor."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        tally = await self.report()
        while tally.handled < self._told and loop.time() < until:
            await asyncio.sleep(0.0005)
            tally = await self.report()
        return tally


async def tell_when_ready(pid: Pid, message: Message) -> None:
    """Tell as soon as there is room."""
    while True:
        await pid.ready()
        try:
            pid.tell(message)
        except BackpressureError:
            continue
        return


def grouped(tells: list[Any]) -> list[list[Any]]:
    """In lists of 64, the last one filled up from the front."""
    filled = list(itertools.islice(itertools.cycle(tells), -(-len(tells) // JOINED) * JOINED))
    return [filled[start : start + JOINED] for start in range(0, len(filled), JOINED)]
