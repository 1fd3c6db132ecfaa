"""A node that has lost its seat comes back, whatever goes wrong on the way, and can be stopped while it tries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.messaging import parting
from tests.cluster.conftest import Cluster, eventually


class Tally(cf.Actor):
    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: Any, context: Any) -> Any:
        self.count += message
        return self.count


@pytest.fixture
def store_url(tmp_path: Any) -> str:
    """One kind of store is enough here."""
    return f"memory://{tmp_path.name}"


class Fault:
    """In the place of one step of a return: raises so many times what nobody expects."""

    def __init__(self, step: Callable[..., Any], times: int) -> None:
        self.step = step
        self.left = times
        self.raised = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.left == 0:
            return self.step(*args, **kwargs)
        self.left -= 1
        self.raised += 1
        raise RuntimeError("as asked")


STEPS = ["take_incarnation", "close_links", "open_links", "membership.enter", "sync"]


def plant(monkeypatch: pytest.MonkeyPatch, system: cf.ClusterActorSystem, step: str, times: int) -> Fault:
    part: Any = system._node
    *path, name = step.split(".")
    for each in path:
        part = getattr(part, each)
    fault = Fault(getattr(part, name), times)
    monkeypatch.setattr(part, name, fault)
    return fault


async def joined(cluster: Cluster) -> list[cf.ClusterActorSystem]:
    cluster.settings |= {"membership.lease_ttl": 30.0, "membership.suspicion_timeout": 20.0}
    a, b = await cluster.start("a", "b")
    await a.register(Tally, "x")
    assert await b.pid("x").ask(1) == 1
    return [a, b]


@pytest.mark.parametrize("step", STEPS)
async def test_a_return_that_fails_in_an_unexpected_way_is_tried_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    a, b = await joined(cluster)
    fault = plant(monkeypatch, a, step, 2)
    before = a.incarnation
    a._node.membership._fence("as asked")
    await eventually(lambda: fault.raised == 2 and a.incarnation > before and not a.is_fenced, 30)
    await eventually(lambda: not a._node.standstill._held, 30)
    await a.register(Tally, "y")
    assert await b.pid("y").ask(2, timeout=20) == 2


@pytest.mark.parametrize("step", STEPS)
async def test_a_node_whose_return_goes_on_failing_can_be_stopped(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    a, _ = await joined(cluster)
    fault = plant(monkeypatch, a, step, -1)
    a._node.membership._fence("as asked")
    await eventually(lambda: fault.raised)
    del cluster.members["a"]
    monkeypatch.undo()  # what a stop calls is whole
    await asyncio.wait_for(a.stop(), 30)


async def test_a_stop_in_the_middle_of_a_return_leaves_no_connection(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = await joined(cluster)
    links, waiting = a._node.messaging, asyncio.Event()
    await eventually(lambda: links._connections)

    async def for_ever(*_: Any) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(parting, "settled", for_ever)
    a._node.membership._fence("as asked")
    await asyncio.wait_for(waiting.wait(), 10)
    monkeypatch.undo()
    del cluster.members["a"]
    await asyncio.wait_for(a.stop(), 30)
    await eventually(lambda: not links._connections and not links._tasks)
