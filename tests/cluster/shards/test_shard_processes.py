"""Sharded actors on real node processes, killed and paused under load: handled once and in order, or told; and never in
two places.
"""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

import cajun_fast as cf
from tests.cluster.conftest import eventually
from tests.cluster.test_processes import Nodes, nodes

__all__ = ["nodes"]  # a fixture
pytestmark = pytest.mark.processes

ENTITIES = 40


class Sender:
    """Asks all entities, number after number; knows what was answered and what was told."""

    def __init__(self, system: cf.ClusterActorSystem) -> None:
        self.answered: defaultdict[str, list[int]] = defaultdict(list)
        self.told: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self.sent = 0
        self._stop = False
        ids = [f"ledger#{n}" for n in range(ENTITIES)]
        self._tasks = [asyncio.ensure_future(self._send(system.pid(each))) for each in ids]

    async def _send(self, pid: cf.Pid) -> None:
        while not self._stop:
            self.sent += 1
            number = len(self.answered[pid.id]) + len(self.told[pid.id])
            try:
                await pid.ask(number, timeout=15)
                self.answered[pid.id].append(number)
            except (cf.CajunError, TimeoutError) as error:
                self.told[pid.id][number] = type(error).__name__

    async def stop(self) -> None:
        self._stop = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 40)


def check(log: Path, sender: Sender, *, returns: bool, paused: str = "") -> None:
    """``returns``: whether an entity may come back to a node on which it was before.

    ``paused``: a node that was stopped, perhaps in the middle of a handler. That one ends when it wakes; nobody hears
    of it, and no other may begin.
    """
    handled: defaultdict[str, list[int]] = defaultdict(list)
    places: defaultdict[str, list[str]] = defaultdict(list)
    ended_late: list[str] = []
    for line in log.read_text().splitlines():
        actor_id, node, number = line.split()
        if not number.isdigit():
            continue
        if node == paused and places[actor_id] and places[actor_id][-1] != paused:
            assert int(number) in sender.told[actor_id], f"{line}: from a node that had lost it"
            ended_late.append(line)
            continue
        handled[actor_id].append(int(number))
        places[actor_id].append(node)
    assert len(ended_late) <= 1, ended_late
    for actor_id, numbers in handled.items():
        assert numbers == sorted(set(numbers)), f"{actor_id}: twice, or out of order"
        missing = set(sender.answered[actor_id]) - set(numbers)
        assert not missing, f"{actor_id}: answered and never handled"
        changes = [after for before, after in pairwise(places[actor_id]) if before != after]
        assert returns or len(changes) == len(set(changes)), f"{actor_id}: two owners: {changes}"
    assert len(handled) == ENTITIES


async def level(system: cf.ClusterActorSystem, *names: str) -> None:
    await eventually(
        lambda: (
            set(system.sharded("ledger").spread()) == set(names)
            and max(system.sharded("ledger").spread().values()) <= 64 // len(names) + 1
        ),
        60,
    )


@pytest.fixture
def ledger(nodes: Nodes) -> Path:
    log = nodes.folder / "ledger"
    log.touch()
    nodes.environ = {
        "LEDGER_LOG": str(log), "CAJUN_SHARDING_SHARD_COUNT": "64", "CAJUN_SHARDING_REBALANCE_DELAY": "0.3",
        "CAJUN_SHARDING_REBALANCE_PAUSE": "0.1", "CAJUN_SHARDING_REBALANCE_BATCH": "8",
    }  # fmt: skip
    return log


async def test_a_node_is_killed_and_another_joins_under_load(nodes: Nodes, ledger: Path) -> None:
    await nodes.start("a", "b", "c")
    async with nodes.client() as system:
        await level(system, "a", "b", "c")
        sender = Sender(system)
        await eventually(lambda: sender.sent > 4 * ENTITIES, 20)
        await nodes.signal("b", signal.SIGKILL)
        await level(system, "a", "c")
        await nodes.start("d")
        await level(system, "a", "c", "d")
        await sender.stop()
        check(ledger, sender, returns=True)
        kinds = {kind for told in sender.told.values() for kind in told.values()}
        assert kinds <= {"OutcomeUnknownError"}, "only what was on its way to a lost one is not known"
        # One message of each entity was on its way at a loss; a machine that is held up may take a node for lost.
        assert max(map(len, sender.told.values()), default=0) <= 2
    assert await nodes.stop() == [0, 0, 0]


async def test_a_paused_owner_wakes_up_without_its_shards(nodes: Nodes, ledger: Path) -> None:
    nodes.environ["CAJUN_SHARDING_REBALANCE_DELAY"] = (
        "600"  # so that nothing is given back to it by intention
    )
    await nodes.start("a")
    async with nodes.client() as system:
        nodes.environ["CAJUN_SHARDING_REBALANCE_DELAY"] = "600"
        await nodes.start("b")
        await eventually(lambda: len(system.sharded("ledger").shards()) == 64, 20)
        owner = next(iter(system.sharded("ledger").spread()))
        other = "b" if owner == "a" else "a"
        sender = Sender(system)
        await eventually(lambda: sender.sent > 4 * ENTITIES, 20)
        await nodes.signal(owner, signal.SIGSTOP)
        await eventually(lambda: set(system.sharded("ledger").spread()) == {other}, 30)
        before = sender.sent
        await eventually(lambda: sender.sent > before + 4 * ENTITIES, 20)
        await nodes.signal(owner, signal.SIGCONT)
        before = sender.sent
        await eventually(lambda: sender.sent > before + 20 * ENTITIES, 30)
        await eventually(lambda: owner in system.known_nodes, 20)
        await sender.stop()
        check(ledger, sender, returns=False, paused=owner)
    assert await nodes.stop() == [0, 0]
