"""A shard goes from this node to another one, both alive.

Laws: in this order, and a failure at any step leaves exactly one owner. Close: nothing of the shard starts or takes
anything, senders park. Quiet: its actors handle what they have. Settle: what they have sent is accepted, so that what
they send from the other node cannot overtake it. Prepare: the other node says that it will have it, and is sent the
states of volatile actors that can say them, which it holds inactive, and who watches whom of them. Stop. Commit: one
compare-and-set for each shard, (S, e) to (T, e + 1). Until the commit this node owns the shard and opens it again;
after it the other one does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cajun_fast._core.lane import Exchange
from cajun_fast._core.link import Link
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.shards.ids import root_of
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.shards.region import Region
from cajun_fast.cluster.shards.table import Place, ShardTable
from cajun_fast.cluster.shards.watches import ShardWatches, Watchers
from cajun_fast.cluster.tasks import Backoff
from cajun_fast.errors import CajunError, MetadataStoreError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, MetadataStore, Outcome, Put

log = logging.getLogger("cajun_fast.cluster")

#: Shards in one transaction: etcd takes 128 operations of each kind.
BATCH = 50
#: Seconds that what was sent may take to be accepted, and the pause between two looks.
SETTLE_TIMEOUT, SETTLE_LOOK = 1.0, 0.002
#: States, and watched actors, in one message to the other node.
STATES_AT_ONCE = 100

#: Prepares a node for shards that come: its id, the name of the move, type and shards, and states of their actors by
#: id, and who watches them. With no shards: more of the same move. Raises CajunError if that node does not want them.
Prepare = Callable[[str, str, str, Sequence[int], dict[str, Any], Watchers], Awaitable[None]]


class Links(Protocol):
    """What is needed of the messaging system."""

    def links(self) -> Iterable[Link]: ...


@dataclass(frozen=True, slots=True)
class Moved:
    """Of some shards: those that went, and why the others did not."""

    moved: tuple[int, ...]
    kept: tuple[int, ...]
    why: str = ""


class Handover:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        table: ShardTable,
        region: Region,
        exchange: Exchange,
        links: Links,
        prepare: Prepare,
        watches: ShardWatches,
        name: Callable[[], str],
        backoff: Backoff,
        timeout: float,
    ) -> None:
        """``name``: a name that no other hand-over of the cluster has. ``timeout``: seconds that actors have to handle
        what they have.
        """
        self._store = store
        self._keys = keys
        self._table = table
        self._region = region
        self._exchange = exchange
        self._links = links
        self._prepare = prepare
        self._watches = watches
        self._name = name
        self._backoff = backoff
        self._timeout = timeout
        self._under_way: set[Place] = set()

    async def move(self, type_name: str, shards: Sequence[int], target: Owner) -> Moved:
        """Give shards to another node. Never raises for what can go wrong on the way: it says so."""
        places = [
            place
            for number in shards
            if self._region.owns(place := (type_name, number)) and place not in self._under_way
        ]
        if not places:
            return Moved((), tuple(shards), "they are not this node's, or are on their way already")
        if any(link.unsettled and not link.is_up for link in self._links.links()):
            return Moved(
                (), tuple(shards), "what this node has sent cannot be settled now: a connection is down"
            )
        self._under_way.update(places)
        self._region.close(places)
        try:
            moved, why = await self._go(type_name, places, target)
        finally:
            self._region.open(places)
            self._under_way.difference_update(places)
        return Moved(tuple(moved), tuple(set(shards).difference(moved)), why)

    async def _go(self, type_name: str, places: list[Place], target: Owner) -> tuple[list[int], str]:
        ids = {actor_id for place in places for actor_id in self._region.actors(place)}
        if not await self._region.quiet(places, self._timeout):
            return [], f"its actors were still busy after {self._timeout:g} s"
        if not await self._settled(ids):
            return [], f"what its actors have sent was not accepted within {SETTLE_TIMEOUT:g} s"
        states: dict[str, Any] = {}
        moved: list[int] = []
        move = self._name()
        try:
            states = self._region.states(places)
            await self._send(move, places, states, target)
            await self._region.end_all(places)
            if not await self._settled(ids):
                return [], f"what its actors have sent was not accepted within {SETTLE_TIMEOUT:g} s"
            moved = await self._commit(move, places, target)
            return moved, "" if len(moved) == len(places) else "their records have changed"
        except CajunError as error:
            return moved, str(error)
        except Exception as error:  # of an actor's get_state
            log.exception("shards of %r stay: an actor could not say its state", type_name)
            return moved, f"{type(error).__name__}: {error}"
        finally:
            self._put_back(type_name, states, set(moved))

    async def _send(self, move: str, places: Sequence[Place], states: dict[str, Any], target: Owner) -> None:
        type_name = places[0][0]
        await self._prepare(target.node, move, type_name, [number for _, number in places], {}, {})
        for some in batched(states):
            await self._prepare(target.node, move, type_name, [], some, {})
        for some in batched(self._watches.of(places)):
            await self._prepare(target.node, move, type_name, [], {}, some)

    def _put_back(self, type_name: str, states: dict[str, Any], moved: set[int]) -> None:
        """Those that stopped and did not go start again with what they were."""
        left: dict[str, Any] = {}
        for actor_id, state in states.items():
            place = self._table.place(actor_id)
            if place is not None and place[1] not in moved and actor_id not in self._region.actors(place):
                left[actor_id] = state
                self._region.open([place])
        self._region.take_states(left)

    # ---- what the actors have sent

    async def _settled(self, ids: set[str]) -> bool:
        """Wait until all that these actors have sent stands in a mailbox, or has another end."""
        marks = [(link, link.window.next_seq - 1, bool(link.bulk.bytes)) for link in self._links.links()]
        loop = asyncio.get_running_loop()
        end = loop.time() + SETTLE_TIMEOUT
        while True:
            waits = self._parked(ids)
            if any(root_of(target) in ids for _, target in waits):
                return False  # for each other: only opening them again can end that
            if not waits and all(is_past(*mark) for mark in marks):
                return True
            if loop.time() >= end:
                return False
            await asyncio.sleep(SETTLE_LOOK)

    def _parked(self, ids: set[str]) -> list[tuple[str, str]]:
        return [pair for pair in self._exchange.parked() if root_of(pair[0]) in ids] if ids else []

    # ---- the commit

    async def _commit(self, move: str, places: Sequence[Place], target: Owner) -> list[int]:
        moved: list[int] = []
        for first in range(0, len(places), BATCH):
            moved += await self._write(move, places[first : first + BATCH], target)
        return moved

    async def _write(self, move: str, places: Sequence[Place], target: Owner) -> list[int]:
        records = {place: record for place in places if (record := self._table.get(place)) is not None}
        new = {place: ShardRecord(target, record.epoch + 1, move=move) for place, record in records.items()}
        compares = [Compare(self._keys.shard(*place), record.revision) for place, record in records.items()]
        puts = [Put(self._keys.shard(*place), record.encode()) for place, record in new.items()]
        try:
            outcome = await self._store.transact(compares, puts)
        except MetadataStoreError as error:
            log.warning("whether shards of %r have gone is in doubt: %s", places[0][0], error)
            await self._end_doubt(records)
        else:
            for place, record in new.items():
                self._learn(place, record, outcome)
        return [
            place[1] for place in new if (now := self._table.get(place)) is not None and now.owner == target
        ]

    def _learn(self, place: Place, written: ShardRecord, outcome: Outcome) -> None:
        entry = outcome.current.get(self._keys.shard(*place))
        if outcome.succeeded:
            self._table.apply(place, replace(written, revision=outcome.revision))
        elif entry is not None:
            self._table.on_put(entry)

    async def _end_doubt(self, records: Mapping[Place, ShardRecord]) -> None:
        """An answer was lost: the write may have been applied, or may yet be. Writing over what it compares with
        ends that: either this fails, and the shard has gone, or it stands, and the other write never can. The shards
        stay closed for as long as this takes.
        """
        for place, record in records.items():
            own = ShardRecord(record.owner, record.epoch + 1)
            while True:
                try:
                    outcome = await self._store.compare_and_set(
                        self._keys.shard(*place), record.revision, own.encode()
                    )
                    break
                except MetadataStoreError:
                    await self._backoff.wait()
            self._learn(place, own, outcome)
        self._backoff.reset()


def batched(entries: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same in portions of one message."""
    items = list(entries.items())
    for first in range(0, len(items), STATES_AT_ONCE):
        yield dict(items[first : first + STATES_AT_ONCE])


def is_past(link: Link, mark: int, had_bulk: bool) -> bool:
    """Whether all up to ``mark`` has its verdict."""
    if link.ended:
        return True
    return not link.unsettled if had_bulk else link.window.acked >= mark
