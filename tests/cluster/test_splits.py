"""Networks that split: members cut off from each other and from the store, one way and both ways, under load."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cajun_fast.metadata import open_store
from cajun_fast.testing.etcd import throwaway_etcd
from tests.cluster.conftest import eventually
from tests.cluster.splits import Split

#: Rounds of the long stories; more by hand: CAJUN_SPLIT_ROUNDS=20.
ROUNDS = int(os.environ.get("CAJUN_SPLIT_ROUNDS", "1"))


@pytest.fixture
async def split(tmp_path: Path) -> AsyncIterator[Split]:
    made = Split(lambda: open_store(f"sqlite:///{tmp_path}/cluster.db"))
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def split_on_etcd() -> AsyncIterator[Split]:
    async with throwaway_etcd() as url:
        made = Split(lambda: open_store(url))
        try:
            await made.start()
            yield made
        finally:
            await made.stop()


async def one_way_and_both(split: Split) -> None:
    """Cut off from the others only: it answers through the store, so nobody moves; whatever could not go waits."""
    before = [split.members[name].incarnation for name in "abc"]
    for ways in ({"mute": True, "deaf": True}, {"mute": True, "deaf": False}, {"mute": False, "deaf": True}):
        split.isolate("b", **ways)
        await asyncio.sleep(2.5)
        assert all(set(system.known_nodes) == {"a", "b", "c"} for system in split.members.values())
        await split.heal()
    assert [split.members[name].incarnation for name in "abc"] == before


async def cut_off_from_everything(split: Split, name: str) -> None:
    """From the store too: it stands still before its actors run elsewhere, and comes back without them."""
    before = split.members[name].incarnation
    split.isolate(name)
    split.stores[name].fall()
    others = [each for each in split.members if each != name]
    await eventually(lambda: all(name not in split.members[each].known_nodes for each in others), 20)
    assert split.members[name].is_fenced
    await asyncio.sleep(1)
    await split.heal()
    assert split.members[name].incarnation == before + 1


@pytest.mark.timeout(60 + 60 * ROUNDS)
async def test_members_cut_off_from_each_other_lose_nothing_and_move_nobody(split: Split) -> None:
    for _ in range(ROUNDS):
        await one_way_and_both(split)
    await split.finish()
    counts = split.check()
    assert not any(system._node.failover.outcomes["adopted"] for system in split.members.values())
    assert set(counts) == {"ok"}, counts


@pytest.mark.timeout(60 + 60 * ROUNDS)
async def test_a_member_cut_off_from_everything_is_never_an_owner_beside_another_one(split: Split) -> None:
    for _ in range(ROUNDS):
        for name in "bca"[: 1 if ROUNDS == 1 else 3]:
            await cut_off_from_everything(split, name)
    await split.finish()
    assert split.check()["ok"] > 0


@pytest.mark.etcd
@pytest.mark.timeout(90 + 90 * ROUNDS)
async def test_the_same_on_etcd(split_on_etcd: Split) -> None:
    split = split_on_etcd
    for _ in range(ROUNDS):
        if ROUNDS > 1:
            await one_way_and_both(split)
        await cut_off_from_everything(split, "b")
    await split.finish()
    assert split.check()["ok"] > 0
