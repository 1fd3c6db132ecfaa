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
from cajun_fast.messaging.peer import Peer

#: Seconds between two looks at what is owed.
LOOK = 0.005


async def settled(peers: Iterable[Peer], timeout: float) -> None:
    """Until each link that has a connection owes and is owed nothing."""
    links = [peer.link for peer in peers]
    await _until(lambda: not any(link.is_up and (link.unsettled or link.owes) for link in links), timeout)


async def settled_with(peer: Peer, asks: Asks, timeout: float) -> None:
    """Until the link to who leaves is settled and has brought all its answers."""
    link = peer.link
    await _until(lambda: not (link.is_up and (link.unsettled or link.owes or asks.waits_on(link))), timeout)


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
