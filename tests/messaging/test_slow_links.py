"""A slow network, and one node that is gone for good: bulk blocks no control, and a breaker goes with its node."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.messaging.nodes import until

RATE = 3_000_000.0  # bytes a second
SIZE = 6_000_000


async def test_acknowledgements_heartbeats_and_asks_pass_a_large_message_on_a_slow_link(
    make_node: Any, make_proxy: Any
) -> None:
    a, b = await make_node("a"), await make_node("b")
    proxy = await make_proxy(b.address)
    a.knows(b, await proxy.start())
    large, small, back = await b.record("large"), await b.record("small"), await a.record("back")
    assert await a.pid("small", b).ask("ready") == 1
    b.knows(a)
    proxy.there.rate = RATE
    clock = asyncio.get_running_loop().time
    begun = clock()
    sending = asyncio.ensure_future(a.pid("large", b).send(b"x" * SIZE))
    await asyncio.sleep(0)
    asks, sends = [], []
    while not large:
        asked = clock()
        await asyncio.wait_for(a.pid("small", b).ask("beside it", timeout=60), 60)
        asks.append(clock() - asked)
        sent = clock()
        await b.pid("back", a).send(len(asks))  # done when a has acknowledged it, on the slow way
        sends.append(clock() - sent)
    await sending
    took = clock() - begun
    assert took > 1.5, "it was slow"
    assert len(asks) >= 3
    assert max(asks) < took / 2
    assert max(sends) < took / 2
    assert back == list(range(1, len(sends) + 1))
    assert a.messaging.peer("b").established == 1, "nobody took the silence for death"
    assert a.messaging.node_alive("b")
    assert b.messaging.node_alive("a")
    assert len(small) == len(asks) + 1


async def test_a_breaker_goes_with_its_node_and_what_was_parked_is_told(
    make_node: Any, make_proxy: Any
) -> None:
    a, b = (
        await make_node("a", failure_threshold=2, failure_spacing=0.01, reset_timeout=60.0),
        await make_node("b"),
    )
    log = await b.record("x")
    proxy = await make_proxy(b.address)
    proxy.refusing = True
    a.knows(b, await proxy.start())
    parked = a.pid("x", b).send("parked")
    await until(lambda: a.messaging.breaker("b").state == "open")
    assert not parked.done()
    a.table.where.clear()
    a.messaging.remove_node("b", 1)
    assert a.messaging.breaker("b") is None
    await asyncio.wait([parked], timeout=10)
    assert parked.done(), "it was parked for a node that is gone: its sender is told"
    assert parked.exception() is not None
    proxy.refusing = False
    a.knows(b)  # the same incarnation: it had only been cut off
    assert a.messaging.breaker("b").state == "closed"
    assert await a.pid("x", b).ask("again", timeout=10) == 1
    assert log == ["again"]
