"""Whether what an actor has sent was accepted: before it sends from another node, or that could overtake.

Laws: looks and waits, changes nothing; bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from cajun_fast._core.cell import Cell
from cajun_fast._core.lane import Exchange
from cajun_fast._core.link import Link

#: Seconds between two looks: the first, and the longest.
FIRST_LOOK, LONGEST_LOOK = 0.001, 0.02


async def accepted(
    exchange: Exchange, links: Iterable[Link], cells: Sequence[Cell], seconds: float
) -> str | None:
    """Wait until nothing that these actors sent is on its way; what still was after so many seconds."""
    loop = asyncio.get_running_loop()
    end, pause = loop.time() + seconds, FIRST_LOOK
    links = list(links)
    while (left := still_on_its_way(exchange, links, cells)) is not None:
        if loop.time() >= end:
            return f"{left} after {seconds:g} s"
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_LOOK)
    return None


def still_on_its_way(exchange: Exchange, links: Sequence[Link], cells: Sequence[Cell]) -> str | None:
    """What has not been accepted yet; None: everything has."""
    for cell in cells:
        for link in links:
            if link.mentions(cell.pid.lane):
                return f"node {link.peer!r} has not accepted all that actor {cell.id!r} sent there"
        count = exchange.parked_from(cell.pid)
        if count:
            return f"{count} messages of actor {cell.id!r} still wait for their way"
    return None
