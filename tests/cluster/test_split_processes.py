"""Networks that split between real processes: nodes cut off from each other and from their store, one way and both
ways, stopped and killed meanwhile, on sqlite and on etcd. Histories of senders and handlers are compared message by
message.

By hand, for longer: CAJUN_SPLIT_ROUNDS=20 CAJUN_SPLIT_SEED=7 pytest -s tests/cluster/test_split_processes.py
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cajun_fast.testing.etcd import throwaway_etcd
from tests.cluster.split_processes import NAMES, SplitNodes

ROUNDS = int(os.environ.get("CAJUN_SPLIT_ROUNDS", "0"))
SEED = int(os.environ.get("CAJUN_SPLIT_SEED", "1"))
pytestmark = [pytest.mark.processes, pytest.mark.timeout(120 + 150 * ROUNDS)]

Story = Callable[[SplitNodes, str], Awaitable[None]]


@pytest.fixture(params=["sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
async def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SplitNodes]:
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(throwaway_etcd()) if request.param == "etcd" else None
        made = SplitNodes(tmp_path, etcd, SEED)
        stack.push_async_callback(made.stop)
        await made.start()
        yield made


# ---- stories: what befalls one node; they end as soon as the network may be healed


async def links_one_way(nodes: SplitNodes, name: str) -> None:
    """One pair, one direction: each hears the store, nobody is lost."""
    other = nodes.chance.choice([each for each in NAMES if each != name])
    nodes.cut(name, other, back=False)
    await asyncio.sleep(2.5)


async def links_both_ways(nodes: SplitNodes, name: str) -> None:
    nodes.isolate(name)
    await asyncio.sleep(2.5)


async def nobody_hears_it(nodes: SplitNodes, name: str) -> None:
    nodes.isolate(name, deaf=False)
    await asyncio.sleep(2.5)


async def store_one_way(nodes: SplitNodes, name: str) -> None:
    """What it asks is done, and it is told nothing of it; or the other way round."""
    mute = nodes.chance.random() < 0.5
    nodes.cut_off_from_store(name, mute=mute, deaf=not mute)
    await asyncio.sleep(nodes.chance.choice([1.0, 2.5, 5.0]))


async def from_everything(nodes: SplitNodes, name: str) -> None:
    """Its actors run elsewhere before it is back."""
    nodes.isolate(name)
    nodes.cut_off_from_store(name)
    await until_lost(nodes, name)
    await asyncio.sleep(0.5)


async def from_everything_one_way(nodes: SplitNodes, name: str) -> None:
    mute = nodes.chance.random() < 0.5
    nodes.isolate(name, mute=mute, deaf=not mute)
    nodes.cut_off_from_store(name, mute=mute, deaf=not mute)
    await asyncio.sleep(4.0)


async def stopped(nodes: SplitNodes, name: str) -> None:
    await nodes.pause(name, nodes.chance.choice([1.0, 2.5, 4.0]))


async def stopped_while_cut_off(nodes: SplitNodes, name: str) -> None:
    nodes.isolate(name)
    await nodes.pause(name, 2.5)


async def killed(nodes: SplitNodes, name: str) -> None:
    """While two others cannot talk to each other."""
    one, other = (each for each in NAMES if each != name)
    nodes.cut(one, other)
    await asyncio.sleep(0.5)
    await nodes.kill(name)
    await asyncio.sleep(1.5)
    nodes.heal(reset=True)
    await nodes.start_node(name)
    await nodes.begin_sending(name)


async def killed_while_cut_off(nodes: SplitNodes, name: str) -> None:
    nodes.isolate(name)
    nodes.cut_off_from_store(name)
    await asyncio.sleep(1.0)
    await nodes.kill(name)
    await asyncio.sleep(1.0)
    nodes.heal(reset=True)
    await nodes.start_node(name)
    await nodes.begin_sending(name)


STORIES: list[Story] = [
    links_one_way, links_both_ways, nobody_hears_it, store_one_way, from_everything, from_everything_one_way,
    stopped, stopped_while_cut_off, killed, killed_while_cut_off,
]  # fmt: skip


async def until_lost(nodes: SplitNodes, name: str) -> None:
    client = nodes.client
    assert client is not None
    async with asyncio.timeout(20):
        while name in client.known_nodes:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0.05)


async def tell(nodes: SplitNodes, *stories: Story) -> dict[str, int]:
    for number, story in enumerate(stories):
        name = NAMES[(number + SEED) % 3]
        await story(nodes, name)
        nodes.heal(reset=nodes.chance.random() < 0.5)
        await nodes.whole()
    return await nodes.finish()


async def test_whatever_is_cut_nothing_is_lost_doubled_or_reordered_and_nobody_owns_beside_another(
    nodes: SplitNodes,
) -> None:
    stories = [links_one_way, from_everything, killed]
    for _ in range(ROUNDS):
        stories += nodes.chance.sample(STORIES, len(STORIES))
    counts = await tell(nodes, *stories)
    print(f"\n{counts}, {nodes.cables.counts}")  # noqa: T201 - the figures of a long run
    assert counts["ok"] > 100
    assert nodes.cables.counts.held
    assert nodes.cables.counts.dropped
