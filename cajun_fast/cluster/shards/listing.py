"""The sharded actors that run, in pages: each node lists its own, whoever asks puts the lists together.

Laws: no record stands in the store for them, so this is what nodes say at the moment; a node never goes over more than
a piece of its actors in one turn of the loop; a page is bounded by who asks.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cajun_fast.cluster.shards.parts import Sharding

#: Actors that are looked at in one turn of the loop.
PIECE = 2000
#: The most that one page has.
MOST = 1000
QUESTION = "sharded-actors"


async def list_sharded(sharding: Sharding, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Answers ``{"actors": [[id, epoch of its shard], …], "more": …}``, in order of id: those that begin with
    ``prefix``, are of ``type`` and stand behind ``after``; ``limit`` of them at most."""
    limit = min(MOST, max(1, int(asked.get("limit") or MOST)))
    prefix, kind, after = str(asked.get("prefix") or ""), asked.get("type"), str(asked.get("after") or "")
    region, table = sharding.region, sharding.table
    found: list[tuple[str, int]] = []
    looked = 0
    for place in region.places():
        if kind is not None and place[0] != kind:
            continue
        record = table.get(place)
        epoch = record.epoch if record is not None else 0
        here = list(region.actors(place))
        found += [(each, epoch) for each in here if each > after and each.startswith(prefix)]
        looked += len(here) + 1
        if looked >= PIECE:
            looked, found = 0, heapq.nsmallest(limit + 1, found)
            await asyncio.sleep(0)
    found = heapq.nsmallest(limit + 1, found)
    return {"actors": [list(each) for each in found[:limit]], "more": len(found) > limit}
