"""One member asks all others for promises, for everybody who asks it: a hundred nodes need not dial each other.

    asker ── promises ──▶ collector ── promise-each, for all askers of a round ──▶ every other member
          ◀── who has promised ──┘◀──────────────────────────────────────────────┘

Laws: a promise is given after it was asked for, so what an asker counts from before it asked holds. A round begins
after its askers have come, and nobody joins one that has begun. A collector that the store answers asks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cajun_fast.cluster.hold import Hold
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import CajunError, NotRunningError

#: Seconds in which askers come together.
GATHER = 0.02

#: Asks a node what it promises to each; raises CajunError if it does not answer.
AskEach = Callable[[str, Sequence[Owner]], Awaitable[Sequence[bool]]]


@dataclass(slots=True)
class Round:
    """Who asks, and who has promised to whom, by the askers' places."""

    askers: list[Owner] = field(default_factory=list)
    promised: list[list[str]] = field(default_factory=list)

    def add(self, asker: Owner) -> int:
        self.askers.append(asker)
        self.promised.append([])
        return len(self.askers) - 1

    def note(self, node: str, answers: Sequence[bool]) -> None:
        for names, answer in zip(self.promised, answers, strict=True):
            if answer is True:
                names.append(node)


class Collector:
    """See the module's laws."""

    def __init__(
        self, hold: Hold, node_id: str, peers: Callable[[], Sequence[str]], ask_each: AskEach
    ) -> None:
        self._hold = hold
        self._node_id = node_id
        self._peers = peers
        self._ask_each = ask_each
        self._next: tuple[Round, asyncio.Task[None]] | None = None
        self._tasks = Tasks("promises")

    async def collect(self, asker: Owner) -> list[str]:
        """Who has promised ``asker`` to take nothing, this node among them. Raises NotRunningError."""
        if self._next is None:
            made = Round()
            task = self._tasks.start(self._run(made), "round")
            if task is None:
                raise NotRunningError(f"node {self._node_id!r} is stopping")
            self._next = made, task
        joined, task = self._next
        place = joined.add(asker)
        await asyncio.shield(task)
        return joined.promised[place]

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _run(self, round_: Round) -> None:
        await asyncio.sleep(GATHER)
        self._next = None
        mine = await self._hold.promise_each(round_.askers)
        if not any(mine):
            return
        round_.note(self._node_id, mine)
        await asyncio.gather(*(self._ask(round_, peer) for peer in self._peers()))

    async def _ask(self, round_: Round, peer: str) -> None:
        try:
            answers = await self._ask_each(peer, round_.askers)
            round_.note(peer, answers)
        except (CajunError, ValueError):
            return  # it has promised nothing; who needs it asks it by himself
