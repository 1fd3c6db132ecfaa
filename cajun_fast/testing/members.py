"""A cluster in one process, for tests: nodes on a store and a network in memory, and the faults that happen to them.

Laws: what runs is the production code; only clock, chance, network and store are handed in. Whatever a test leaves
running is stopped with the cluster.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

from cajun_fast.actors.registry import Registry, registry
from cajun_fast.cluster.factory import ClusterFactory
from cajun_fast.cluster.settings import store_of
from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.config import ClusterConfig
from cajun_fast.errors import ConfigError
from cajun_fast.ports import Ports
from cajun_fast.testing.faulty_store import FaultyStore
from cajun_fast.testing.network import MemoryNetwork
from cajun_fast.testing.probe import Probe
from cajun_fast.testing.turned import LoopClock

_names = itertools.count(1)


class Members:
    """See the module's laws. An async context manager; as a pytest fixture it is called ``cluster``."""

    def __init__(self, *, seed: int = 1, delay: float = 0.0, types: Registry | None = None) -> None:
        """``seed``: all chance comes from it. ``delay``: seconds that bytes are on their way between nodes.
        ``types``: the actor types that nodes know; default: all that ``@cajun_fast.actor`` has registered."""
        self.network = MemoryNetwork(delay=delay)
        self.types = types or registry
        self.nodes: dict[str, ClusterActorSystem] = {}
        #: What each node sees of the store: ``stores["a"].fall()`` takes it away from that node, ``rise()`` back.
        self.stores: dict[str, FaultyStore] = {}
        self._random = random.Random(seed)
        self._url = f"memory://members-{next(_names)}"

    def __getitem__(self, name: str) -> ClusterActorSystem:
        """A running node. Raises ConfigError for one that was not started."""
        if name not in self.nodes:
            raise ConfigError(f"no node {name!r} was started: await cluster.start({name!r})")
        return self.nodes[name]

    async def start(self, *names: str, client: bool = False, **settings: Any) -> list[ClusterActorSystem]:
        """Start nodes and wait until all see each other. ``settings`` as for ``ClusterConfig.load``, for example
        ``membership_lease_ttl=1``."""
        for name in names:
            values = {"membership_lease_ttl": 3.0, "messaging_port": 0, "client": client, **settings}
            config = ClusterConfig.load(None, {}, system_id=name, store=self._url, **values)
            ports = Ports(
                clock=LoopClock(),
                random=random.Random(self._random.getrandbits(64)),
                network=self.network.of(name),
            )
            store = FaultyStore(store_of(config, ports))
            system = ClusterFactory.create_cluster_system(config, ports=ports, store=store, types=self.types)
            await system.start()
            self.nodes[name], self.stores[name] = system, store
        await self.settled()
        return [self.nodes[name] for name in names]

    async def settled(self, timeout: float = 10.0) -> None:
        """Until each running node sees exactly the others."""
        await self.until(
            lambda: all(set(system.known_nodes) == set(self.nodes) for system in self.nodes.values()), timeout
        )

    async def stop(self, name: str) -> None:
        """A node leaves in order."""
        await self.nodes.pop(name).stop()

    async def crash(self, name: str) -> None:
        """A node is gone without a word: its process was killed, as far as the others can tell."""
        system = self.nodes.pop(name)
        self.stores[name].fall()
        self.network.cut(name, [*self.nodes, name])
        self.network.break_links(name)
        await system.stop()
        self.network.heal()

    def cut(self, one: str | Iterable[str], other: str | Iterable[str]) -> None:
        """Nothing passes between nodes of the two sides until ``heal``; the store is seen by all."""
        self.network.cut(one, other)

    def heal(self) -> None:
        """All that was cut is whole again."""
        self.network.heal()

    async def probe(
        self, node: str, actor_id: str = "probe", reply: Callable[[Any], Any] | None = None
    ) -> Probe:
        """An actor on that node that keeps what it gets, for the test to wait for."""
        probe = Probe(reply)
        probe.pid = await self[node].register(probe.receive, actor_id)
        return probe

    async def leader(self, timeout: float = 10.0) -> ClusterActorSystem:
        """The node that leads, once there is one."""
        found: list[ClusterActorSystem] = []

        def leads() -> bool:
            found[:] = [system for system in self.nodes.values() if system.is_leader]
            return bool(found)

        await self.until(leads, timeout)
        return found[0]

    async def until(self, holds: Callable[[], object | Awaitable[object]], timeout: float = 10.0) -> None:
        """Until ``holds()``, which may be a coroutine function; AssertionError if it does not in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while True:
            found = holds()
            if await found if isinstance(found, Awaitable) else found:
                return
            assert loop.time() < end, f"not within {timeout} s: {holds}"
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Stop what is left."""
        self.network.heal()
        for name in reversed(list(self.nodes)):
            await self.stop(name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
