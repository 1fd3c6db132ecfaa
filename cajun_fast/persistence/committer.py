"""Commits: what durable actors of one node have to commit leaves in groups, one transaction for many actors.

Laws: one commit of an actor is under way at a time. While a group is under way the next one gathers, so it is as large
as the store is slow and nobody waits for a clock. A store that does not answer is asked again, with the same commits,
until it does; meanwhile senders fill up and wait. A commit that is refused ends its copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from cajun_fast._core.gate import DurableGate
from cajun_fast.errors import NotRunningError, PersistenceError, PersistenceUnavailableError
from cajun_fast.persistence.base import Commit, Epoch, Persistence, Reply, Told

log = logging.getLogger("cajun_fast.persistence")

#: Actors in one group.
GROUP = 256
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0


class Owned:
    """What the committer knows of an actor beside its gate."""

    __slots__ = ("epoch", "gate", "schema", "settled", "version")

    def __init__(self, gate: DurableGate, epoch: Epoch, version: int, schema: int) -> None:
        self.gate = gate
        self.epoch = epoch
        self.version = version
        self.schema = schema
        #: Futures of those who wait until everything is committed.
        self.settled: list[asyncio.Future[None]] = []


class Committer:
    """See the module's laws. ``on_lost(gate, error)``: its commit was refused, its copy must end."""

    def __init__(
        self, persistence: Persistence, on_lost: Callable[[DurableGate, PersistenceError], None]
    ) -> None:
        self._persistence = persistence
        self._on_lost = on_lost
        self._owned: dict[str, Owned] = {}
        self._due: deque[Owned] = deque()
        self._wake = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._failing = False
        #: Since the start: transactions, commits of actors in them, refused ones.
        self.transactions = self.commits = self.refused = 0

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._workers = [
            loop.create_task(self._work(), name=f"commits {number}")
            for number in range(self._persistence.parallel)
        ]

    async def stop(self) -> None:
        """Break off what is under way; whoever needs it committed has called ``flush`` before."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        for owned in self._owned.values():
            self._tell_settled(owned)

    @property
    def is_failing(self) -> bool:
        """Whether the store does not answer just now."""
        return self._failing

    def own(self, owned: Owned) -> None:
        self._owned[owned.gate.id] = owned

    def disown(self, gate: DurableGate) -> None:
        owned = self._owned.get(gate.id)
        if owned is not None and owned.gate is gate:
            del self._owned[gate.id]
            self._tell_settled(owned)

    def enqueue(self, gate: DurableGate) -> None:
        """It has something to commit."""
        owned = self._owned.get(gate.id)
        if owned is not None and owned.gate is gate:
            self._due.append(owned)
            self._wake.set()

    async def flush(self, gate: DurableGate) -> None:
        """Wait until everything that was handled is committed, or the copy is lost."""
        owned = self._owned.get(gate.id)
        while owned is not None and not gate.is_lost and not gate.is_clean:
            waiter = asyncio.get_running_loop().create_future()
            owned.settled.append(waiter)
            await waiter
            if self._owned.get(gate.id) is not owned:
                return

    # ---- the work

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)  # what this turn of the loop handles goes together
            while self._due:
                await self._commit_group()

    async def _commit_group(self) -> None:
        group: list[tuple[Owned, Commit, list[Told]]] = []
        while self._due and len(group) < GROUP:
            owned = self._due.popleft()
            parts = owned.gate.take()
            if parts is not None:
                group.append((owned, *self._commit(owned, parts)))
            elif owned.gate.is_clean:
                self._tell_settled(owned)
        if not group:
            return
        outcomes = await self._persist([commit for _, commit, _ in group])
        for (owned, _, told), outcome in zip(group, outcomes, strict=True):
            self._settle(owned, told, outcome)

    def _commit(self, owned: Owned, parts: dict[str, Any]) -> tuple[Commit, list[Told]]:
        told = [Told(*each) for each in parts.pop("told")]
        replies = [Reply(*each) for each in parts.pop("replies")]
        commit = Commit(
            actor_id=owned.gate.id,
            epoch=owned.epoch,
            version=owned.version,
            schema=owned.schema,
            replies=replies,
            told=told,
            **parts,
        )
        return commit, told

    async def _persist(self, commits: list[Commit]) -> list[PersistenceError | None]:
        pause = FIRST_PAUSE
        while True:
            try:
                outcomes = await self._persistence.commit(commits)
            except PersistenceUnavailableError as error:
                if not self._failing:
                    log.error("durable actors wait for their persistence: %s", error)
                self._failing = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if self._failing:
                    log.warning("persistence %s answers again", self._persistence.url)
                self._failing = False
                self.transactions += 1
                self.commits += len(commits)
                return outcomes

    def _settle(self, owned: Owned, told: list[Told], outcome: PersistenceError | None) -> None:
        gate = owned.gate
        if gate.is_lost:
            self._tell_settled(owned)
        elif outcome is None:
            owned.version += 1
            gate.settle(True, told)
            if gate.is_clean:
                self._tell_settled(owned)
        else:
            self.refused += 1
            gate.settle(False)
            self._tell_settled(owned)
            self._on_lost(gate, outcome)

    def _tell_settled(self, owned: Owned) -> None:
        waiters, owned.settled = owned.settled, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


async def until_answered(
    persistence: Persistence, actor_id: str, epoch: Epoch, birth: str, patience: float
) -> Any:
    """``restore``, again while the store does not answer, for ``patience`` seconds."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience
    pause = FIRST_PAUSE
    while True:
        try:
            return await persistence.restore(actor_id, epoch, birth)
        except PersistenceUnavailableError:
            if loop.time() + pause > give_up:
                raise
        except NotRunningError as exc:
            raise NotRunningError(f"durable actor {actor_id!r} was not started: {exc}") from exc
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
