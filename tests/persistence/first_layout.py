"""A database from before messages carried traces, and the nodes that come upon it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cajun_fast.persistence.base import Commit, Persistence, Told
from cajun_fast.testing.persistence_contract import FIRST, SECOND


async def check_it_is_brought_up(make: Callable[[], Persistence], age: Callable[[], Awaitable[None]]) -> None:
    """``make``: a store on one database; ``age``: give that its first layout. Nodes that start at the same time add the
    column once, and what stands in it stays."""
    async with make() as store:
        await store.restore("a", FIRST, "b")
        told = [Told(1, "x", "@a#b.1", 1, 2, b"hello")]
        assert await store.commit([Commit(actor_id="a", epoch=FIRST, version=0, told=told)]) == [None]
    await age()
    stores = [make() for _ in range(4)]
    await asyncio.gather(*(store.connect() for store in stores))
    told = [Told(2, "x", "@a#b.1", 2, 2, b"bye", b"trace")]
    assert await stores[0].commit([Commit(actor_id="a", epoch=FIRST, version=1, told=told)]) == [None]
    restored = await stores[3].restore("a", SECOND, "b")
    assert list(restored.outbox) == [Told(1, "x", "@a#b.1", 1, 2, b"hello"), *told]
    for store in stores:
        await store.close()
