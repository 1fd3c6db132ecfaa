"""Lanes whose router answers at once, also from within the lane's own question."""

from __future__ import annotations

import asyncio
from typing import Any

from cajun_fast._core.lane import Lane
from cajun_fast.actors import ActorSystem


class Prompt:
    """Leads to the actor from within the second question; the first one is left open."""

    def __init__(self) -> None:
        self.asked = 0
        self.system: ActorSystem

    def resolve(self, lane: Lane) -> None:
        self.asked += 1
        if self.asked == 2:
            cell = self.system.cell(lane.target)
            assert cell is not None
            cell.thaw()
            lane.bind_inbox(cell)

    def refresh(self, lane: Lane) -> None: ...

    def actor_stopped(self, actor_id: str) -> None: ...


async def test_a_way_that_is_found_while_the_lane_flushes_is_taken() -> None:
    router = Prompt()
    got: list[int] = []

    async def receive(message: Any, context: Any) -> None:
        got.append(message)

    router.system = system = ActorSystem("n", router=router)
    await system.start()
    pid = await system.spawn(receive, "x")
    cell = system.cell("x")
    assert cell is not None
    cell.freeze()
    for n in range(3):
        pid.tell(n)
    assert router.asked == 1
    system.exchange.lane("x").bind_inbox(
        cell
    )  # it takes nothing: the lane asks again, and is answered in there
    assert router.asked == 2
    async with asyncio.timeout(5):
        while got != [0, 1, 2]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await system.stop()
