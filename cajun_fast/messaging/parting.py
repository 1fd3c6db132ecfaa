"""How two nodes part when one of them leaves in order, so that nothing is lost between them.

    leaver                                        peer
    no actors are left; refuses what comes
    its record goes ─ ─ ─ (metadata store) ─ ─ ─▶ sends nothing new there
    settles: it owes nothing, nothing is owed     settles: all that it has sent there is accepted, its asks answered
    BYE ────────────────────────────────────────▶
    waits        ◀─────────────────────────────── hangs up
    closes what is left

Laws: the peer hangs up, for what it has sent may lie unread at the leaver. Each wait ends when the link is down, and
after `stop_timeout` at the latest: then what has no verdict is told as it is after a loss. Two that leave at the same
time do not wait for each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from cajun_fast._core.asks import Asks
from cajun_fast._core.link import Link
from cajun_fast.messaging.peer import Peer

#: Seconds between two looks at what is owed.
LOOK = 0.005


async def settled(peers: Iterable[Peer], timeout: float, asks: Asks | None = None) -> None:
    """Until each link that has a connection owes and is owed nothing; with ``asks``, until it has brought their answers
    too.
    """
    links = [peer.link for peer in peers]
    await _until(lambda: not any(link.is_up and _is_open(link, asks) for link in links), timeout)


def _is_open(link: Link, asks: Asks | None) -> bool:
    return link.unsettled or link.owes or (asks is not None and asks.waits_on(link))


async def say_goodbye(peers: Iterable[Peer], *, left: bool, timeout: float) -> None:
    """``left``: the others are told that this node has gone, so they hang up."""
    everybody = list(peers)
    for peer in everybody:
        peer.link.goodbye("stopping")
    if left:
        await _until(
            lambda: not any(each.link.is_up and not (each.is_stranger or each.leaves) for each in everybody),
            timeout,
        )


async def _until(is_over: Callable[[], bool], timeout: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while not is_over() and loop.time() < end:  # noqa: ASYNC110 - rare, short and bounded
        await asyncio.sleep(LOOK)
