"""A real etcd that is stopped for longer than every lease, or drops them all: nothing moves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.testing.etcd import EtcdCluster
from tests.cluster.conftest import Cluster, eventually

pytestmark = pytest.mark.etcd
TTL = 3.0


class Tally(cf.Actor):
    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: int, context: Any) -> Any:
        self.count += message
        return [context.node_id, self.count]


@pytest.fixture
async def etcd() -> AsyncIterator[EtcdCluster]:
    async with EtcdCluster.of(1) as made:
        yield made


@pytest.fixture
async def cluster(etcd: EtcdCluster) -> AsyncIterator[Cluster]:
    made = Cluster(etcd.url)
    made.settings = {"membership.lease_ttl": TTL, "metadata.timeout": 2.0}
    made.types.actor("tally")(Tally)
    yield made
    await made.stop()


async def populate(cluster: Cluster) -> list[cf.ClusterActorSystem]:
    systems = await cluster.start("a", "b", "c")
    for system in systems:
        await system.register("tally", f"of-{system.system_id}")
    for system in systems:
        for name in "abc":
            await system.pid(f"of-{name}").ask(1, timeout=10)
    await cluster.leader()
    return systems


async def nothing_moved(systems: list[cf.ClusterActorSystem], at_least: int) -> None:
    await eventually(lambda: all(system.is_store_available for system in systems), 20)
    await eventually(lambda: any(system.is_leader for system in systems), 20)
    await asyncio.sleep(2)
    for system in systems:
        assert set(system.known_nodes) == {"a", "b", "c"}
        assert system.incarnation == 1
        assert not system.is_fenced
        assert not system._node.failover.outcomes["adopted"]
        for name in "abc":
            node, count = await system.pid(f"of-{name}").ask(0, timeout=10)
            assert node == name
            assert count >= at_least, "it was started anew"


async def test_every_lease_dropped_at_once_moves_nothing(cluster: Cluster) -> None:
    systems = await populate(cluster)
    for system in systems:
        lock = system._node.leadership._lock
        for lease in (system._node.membership.lease_id, lock.lease.id if lock is not None else 0):
            if lease:
                await system._node.store.attach_lease(lease, TTL).revoke()
    await nothing_moved(systems, 3)


async def test_an_etcd_that_stands_for_longer_than_every_lease_moves_nothing(
    cluster: Cluster, etcd: EtcdCluster
) -> None:
    systems = await populate(cluster)
    (member,) = etcd.members
    member.send(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    began, answered = loop.time(), 0
    try:
        while loop.time() < began + 2 * TTL:
            for system in systems:
                for name in "abc":
                    answered += (await system.pid(f"of-{name}").ask(1, timeout=10))[0] == name
            await asyncio.sleep(0.05)
        await eventually(lambda: not any(system.is_store_available for system in systems))
    finally:
        member.send(signal.SIGCONT)
    assert answered > 30, "actors went on without the store"
    await nothing_moved(systems, 3 + answered // 9)
