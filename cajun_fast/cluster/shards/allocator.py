"""What the leader does for shards: gives those without an owner to a node, and keeps the spread even.

Laws: only a leader works here, and all it writes is guarded by its term. From a living node it takes nothing: it asks
that node to hand over. From a lost one it takes whole batches of shards in one write each, guarded by the loser's
absence. A node of which this leader has never heard gets ``grace`` seconds to come. The spread is made even some
shards at a time, and not before the nodes have stayed the same for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cajun_fast.clock import Clock
from cajun_fast.cluster.leader import Term
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.shards.handover import BATCH, Moved
from cajun_fast.cluster.shards.plan import Move, Planner
from cajun_fast.cluster.shards.records import ShardRecord
from cajun_fast.cluster.shards.table import ShardTable
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import CajunError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, MetadataStore, Put

log = logging.getLogger("cajun_fast.cluster")

#: Seconds between two looks at all shards while nothing happens, and at who lives.
AUDIT, LOOK = 30.0, 0.1
#: Shards whose candidates are computed before others have their turn.
STRIDE = 64

#: Asks a node to hand over: node, type, shards, to whom. Raises CajunError.
AskToMove = Callable[[str, str, Sequence[int], Owner], Awaitable[Moved]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How shards move for evenness."""

    #: Seconds that the nodes must have stayed the same.
    delay: float = 2.0
    #: Shards that are on their way at the same time.
    batch: int = 32
    #: Seconds between two batches.
    pause: float = 0.5
    #: Seconds after the election until nodes of which nothing is known count as lost.
    grace: float = 5.0


class Allocator:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        table: ShardTable,
        members: Members,
        clock: Clock,
        ask: AskToMove,
        backoff: Backoff,
        pace: Pace,
        may_take: Callable[[], bool],
    ) -> None:
        self._store = store
        self._keys = keys
        self._table = table
        self._members = members
        self._clock = clock
        self._ask = ask
        self._backoff = backoff
        self._pace = pace
        self._may_take = may_take
        self._planners: dict[str, Planner] = {}
        self._wake = asyncio.Event()
        self._left: set[Owner] = set()
        self._hosts: dict[str, list[str]] = {}
        self._steady_since = 0
        self._grace_ends = 0
        self._worker: asyncio.Task[None] | None = None
        self._tasks = Tasks("shard allocator")
        #: Since the start of this node, as a leader: writes that gave shards away, shards given, shards moved.
        self.writes = self.given = self.moved = 0

    # ---- what it is told

    def on_elected(self, term: Term) -> None:
        now = self._clock.now_ns()
        self._grace_ends, self._steady_since = now + round(self._pace.grace * 1e9), now
        self._wake.set()
        self._worker = self._tasks.start(self._work(term), "work")

    def on_deposed(self, why: str) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()

    def node_left(self, owner: Owner) -> None:
        self._left.add(owner)
        self._wake.set()

    def look(self) -> None:
        """Something has changed."""
        self._wake.set()

    async def stop(self) -> None:
        await self._tasks.stop()

    # ---- the leader's work

    async def _work(self, term: Term) -> None:
        while True:
            self._wake.clear()
            await self._rest(await self._round(term))

    async def _rest(self, seconds: float) -> None:
        """Until something happens, or after that time. What happens to this node's own record nobody reports."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self._wake.is_set() and loop.time() < end and self._living_hosts() == self._hosts:
            try:
                async with asyncio.timeout(min(LOOK, max(0.0, end - loop.time()))):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _round(self, term: Term) -> float:
        """Look at all shards once; seconds until the next look, if nothing happens before."""
        try:
            if not self._may_take() or not self._table.in_sync or self._table.count is None:
                return self._backoff.next()
            hosts = self._see_hosts()
            settled = True
            for type_name in sorted({*hosts, *(name for (name, _), _ in self._table.items())}):
                settled &= await self._give_lost(term, type_name, hosts.get(type_name, []))
            if not settled:
                return self._backoff.next()
            self._backoff.reset()
            return await self._level(hosts)
        except CajunError as error:
            log.warning("shards are not settled yet: %s", error)
            return self._backoff.next()

    def _see_hosts(self) -> dict[str, list[str]]:
        hosts = self._living_hosts()
        if hosts != self._hosts:
            self._hosts, self._steady_since = hosts, self._clock.now_ns()
        return self._hosts

    def _living_hosts(self) -> dict[str, list[str]]:
        """Nodes that may have shards, by type."""
        hosts: dict[str, list[str]] = {}
        for record in self._members.hosts():
            for type_name in record.sharded:
                hosts.setdefault(type_name, []).append(record.node)
        return hosts

    # ---- shards without an owner

    async def _give_lost(self, term: Term, type_name: str, hosts: list[str]) -> bool:
        """Give every shard of a type that has lost its owner to a node; False if another look is needed."""
        count = self._table.count or 0
        records = self._table.of_type(type_name)
        owners, lost, waiting = self._sort(records, count)
        if not lost or not hosts:
            if lost and not hosts:
                log.warning("no living node hosts sharded type %r: its actors are out of reach", type_name)
            return not waiting
        planner = self._planner(type_name)
        await self._think(planner, lost, hosts)
        chosen = planner.place(lost, owners, hosts, self._load_besides(type_name))
        batches = [lost[first : first + BATCH] for first in range(0, len(lost), BATCH)]
        results = [await self._give(term, type_name, batch, chosen) for batch in batches]
        return all(results) and not waiting

    def _sort(self, records: Mapping[int, ShardRecord], count: int) -> tuple[dict[int, str], list[int], bool]:
        """Who owns what; what is lost; whether an owner may yet come back."""
        owners: dict[int, str] = {}
        lost: list[int] = []
        waiting = False
        for shard in range(count):
            record = records.get(shard)
            if record is None or self._is_lost(record.owner):
                lost.append(shard)
            elif self._members.lives(record.owner):
                owners[shard] = record.owner.node
            else:
                waiting = True
        return owners, lost, waiting

    def _is_lost(self, owner: Owner) -> bool:
        if self._members.lives(owner):
            return False
        record = self._members.get(owner.node)
        later_life = record is not None and record.incarnation > owner.incarnation
        return later_life or owner in self._left or self._clock.now_ns() >= self._grace_ends

    async def _give(self, term: Term, type_name: str, shards: Sequence[int], chosen: dict[int, str]) -> bool:
        """One write for a batch; False if nothing was written, or not all could be asked for."""
        records = {shard: self._table.get((type_name, shard)) for shard in shards}
        losers = {record.owner for record in records.values() if record is not None}
        absences = {owner: await self._absence(owner) for owner in losers}
        new: dict[int, ShardRecord] = {}
        for shard, record in records.items():
            target = self._members.get(chosen[shard])
            if target is not None and (record is None or absences[record.owner] is not None):
                new[shard] = ShardRecord(target.owner, record.epoch + 1 if record is not None else 1)
        if not new or not self._may_take():
            return False
        guards = {guard for shard in new if (record := records[shard]) and (guard := absences[record.owner])}
        compares = [
            Compare(self._keys.shard(type_name, shard), record.revision if record is not None else 0)
            for shard in new
            for record in (records[shard],)
        ]
        puts = [Put(self._keys.shard(type_name, shard), record.encode()) for shard, record in new.items()]
        self.writes += 1
        outcome = await self._store.transact([term.guard, *guards, *compares], puts)
        if not outcome.succeeded:
            prefix = self._keys.shards
            for key, entry in outcome.current.items():
                if key.startswith(prefix):
                    self._table.on_put(entry)
            return False
        self.given += len(new)
        for shard, record in new.items():
            self._table.apply((type_name, shard), replace(record, revision=outcome.revision))
        return len(new) == len(shards)

    async def _absence(self, owner: Owner) -> Compare | None:
        """What holds as long as the owner is gone; None if it is there after all."""
        key = self._keys.node(owner.node)
        entry = await self._store.get(key)
        if entry is None:
            return Compare(key, 0)
        record = NodeRecord.decode(owner.node, entry.value)
        return Compare(key, entry.revision) if record.incarnation > owner.incarnation else None

    # ---- evenness

    async def _level(self, hosts: dict[str, list[str]]) -> float:
        """Have some shards moved; seconds until the next look."""
        moves = [(name, move) for name in sorted(hosts) for move in await self._moves(name, hosts[name])]
        urgent = [(name, move) for name, move in moves if move.source not in hosts[name]]
        steady = (self._clock.now_ns() - self._steady_since) / 1e9
        if not moves:
            return max(0.0, self._grace_left()) or AUDIT
        if not urgent and steady < self._pace.delay:
            return self._pace.delay - steady
        moved = self.moved
        await self._move((urgent or moves)[: self._pace.batch])
        return 0.0 if urgent and self.moved > moved else self._pace.pause

    def _grace_left(self) -> float:
        return (self._grace_ends - self._clock.now_ns()) / 1e9

    async def _moves(self, type_name: str, hosts: list[str]) -> list[Move]:
        owners = {
            shard: record.owner.node
            for shard, record in self._table.of_type(type_name).items()
            if self._members.lives(record.owner) and not self._is_leaving(record.owner.node)
        }
        planner = self._planner(type_name)
        await self._think(planner, list(owners), hosts)
        return planner.rebalance(owners, hosts)

    def _is_leaving(self, node: str) -> bool:
        record = self._members.get(node)
        return record is None or record.leaving

    async def _move(self, moves: Sequence[tuple[str, Move]]) -> None:
        groups: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        for name, move in moves:
            groups[name, move.source, move.target].append(move.shard)
        await asyncio.gather(*(self._move_group(*group, shards) for group, shards in groups.items()))

    async def _move_group(self, type_name: str, source: str, target: str, shards: list[int]) -> None:
        record = self._members.get(target)
        if record is None:
            return
        try:
            result = await self._ask(source, type_name, shards, record.owner)
        except CajunError as error:
            log.warning("node %r did not hand over shards of %r: %s", source, type_name, error)
            return
        self.moved += len(result.moved)
        if result.kept:
            log.info(
                "%d shards of %r stay on %r for now: %s", len(result.kept), type_name, source, result.why
            )

    # ---- planning

    def _planner(self, type_name: str) -> Planner:
        return self._planners.setdefault(type_name, Planner(type_name))

    async def _think(self, planner: Planner, shards: Sequence[int], hosts: Sequence[str]) -> None:
        """Compute candidates without holding everybody up."""
        for number, shard in enumerate(shards):
            planner.of_shard(shard, hosts)
            if number % STRIDE == STRIDE - 1:
                await asyncio.sleep(0)

    def _load_besides(self, type_name: str) -> Counter[str]:
        """Shards of other types, by node."""
        return Counter(self._owners_besides(type_name))

    def _owners_besides(self, type_name: str) -> Iterator[str]:
        for (name, _), record in self._table.items():
            if name != type_name:
                yield record.owner.node
