"""Members of a cluster in one process, on real links."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.actors.registry import Registry

STORES = ("memory", "sqlite")

#: A machine that is busy with something else must not look like a lost node.
STEADY = {"membership.lease_ttl": 30.0, "membership.suspicion_timeout": 20.0}
#: For tests in which nodes are lost, and the others are to notice soon.
MORTAL = {"membership.lease_ttl": 3.0, "membership.suspicion_timeout": 0.7}


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}" if request.param == "memory" else f"sqlite:///{tmp_path}/cluster.db"


class Cluster:
    """Starts members and stops those that are left."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.types = Registry()
        self.members: dict[str, cf.ClusterActorSystem] = {}
        self.settings: dict[str, Any] = dict(STEADY)

    def config(self, name: str, **settings: Any) -> cf.ClusterConfig:
        builder = cf.ClusterConfig.Builder(name, self.url).with_messaging_port(0)
        for key, value in {**self.settings, **settings}.items():
            builder.with_setting(key, value)
        return builder.build()

    def make(self, name: str, store: Any = None, **settings: Any) -> cf.ClusterActorSystem:
        return cf.ClusterFactory.create_cluster_system(
            self.config(name, **settings), store=store, types=self.types
        )

    async def start(self, *names: str, **settings: Any) -> list[cf.ClusterActorSystem]:
        systems = [self.make(name, **settings) for name in names]
        for system in systems:
            await system.start()
            self.members[system.system_id] = system
        await self.settle()
        return systems

    async def settle(self) -> None:
        """Until every member sees every other."""
        names = set(self.members)
        await eventually(lambda: all(set(system.known_nodes) == names for system in self.members.values()))

    async def kill(self, name: str) -> None:
        """As far as the others can tell, its process is gone: no word to the store, sockets closed."""
        system = self.members.pop(name)
        node = system._node
        node.membership._lease = None
        node.membership._disarm()
        node.leadership._lock = None
        await node.tasks.stop()
        for part in (
            node.membership._tasks,
            node.leadership._tasks,
            node.failover,
            node.health,
            node.members,
        ):
            await part.stop()
        await node.messaging.stop()
        await node.locator.stop()
        node.hosting.owned.clear()
        await system.stop()

    async def leader(self) -> cf.ClusterActorSystem:
        async with asyncio.timeout(10):
            while True:
                for system in self.members.values():
                    if system.is_leader:
                        return system
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for system in reversed(list(self.members.values())):
            await system.stop()


@pytest.fixture
async def cluster(store_url: str) -> AsyncIterator[Cluster]:
    made = Cluster(store_url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(made.stop)
        yield made


async def eventually(holds: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What it answers, once that is true."""
    async with asyncio.timeout(seconds):
        while True:
            result = holds()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return result
            await asyncio.sleep(0.02)
