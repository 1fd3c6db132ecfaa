"""What the leader does for actors whose node is gone: has them started elsewhere, or says that they are no
more.

Laws: only a leader works here, and all it writes is guarded by its term. It never claims for others: it asks
a node to adopt, and that node claims by compare-and-set against the loser's absence, so an order given twice,
or by a leader that was superseded, does nothing. A node of which this leader has never heard gets ``grace``
seconds to come (a restart of the whole cluster). What could not be settled is tried again until it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from cajun_fast.clock import Clock
from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.host import ADOPTED, FAILED, LATER, TAKEN, UNKNOWN_TYPE
from cajun_fast.cluster.leader import Term
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.placement import able, choose
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import CajunError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, MetadataStore

log = logging.getLogger("cajun_fast.cluster")

#: Requests to adopt that are under way at once, over all nodes.
REQUESTS_AT_ONCE = 8

#: Asks a node to adopt: node id and actors; answers (actor id, outcome, text) for each. Raises CajunError.
Adopt = Callable[[str, Sequence[Standing]], Awaitable[Sequence[tuple[str, str, str]]]]


@dataclass(frozen=True, slots=True)
class FailoverSettings:
    batch_size: int = 100
    #: Seconds after the election until nodes of which nothing is known count as lost.
    grace: float = 5.0
    #: Seconds between two looks at the whole directory while nothing happens.
    audit: float = 300.0


@dataclass(slots=True)
class Sweep:
    """One look through the directory: what it collects, what it has asked for."""

    term: Term
    grace_over: bool
    waiting: defaultdict[str, list[Standing]] = field(default_factory=lambda: defaultdict(list))
    requests: list[asyncio.Task[bool]] = field(default_factory=list)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))
    unplaced: bool = False
    failed: bool = False


class Failover:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        directory: Directory,
        registrar: Registrar,
        members: Members,
        clock: Clock,
        adopt: Adopt,
        backoff: Backoff,
        settings: FailoverSettings,
        may_take: Callable[[], bool] = lambda: True,
    ) -> None:
        """``may_take``: whether this node is free to have actors taken from anybody."""
        self._store = store
        self._keys = keys
        self._directory = directory
        self._registrar = registrar
        self._members = members
        self._clock = clock
        self._adopt = adopt
        self._backoff = backoff
        self._settings = settings
        self._may_take = may_take
        self._wake = asyncio.Event()
        self._term: Term | None = None
        self._worker: asyncio.Task[None] | None = None
        self._tasks = Tasks("failover")
        self._left: set[Owner] = set()
        self._cannot: set[tuple[str, Owner]] = set()
        self._unplaced: set[str] = set()
        #: Since the start of this node: outcomes of what it has settled as a leader.
        self.outcomes: Counter[str] = Counter()

    # ---- what it is told

    def on_elected(self, term: Term) -> None:
        self._term = term
        self._cannot.clear()
        self._wake.set()
        self._worker = self._tasks.start(self._work(term), "work")

    def on_deposed(self, why: str) -> None:
        self._term = None
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()

    def node_left(self, owner: Owner) -> None:
        self._left.add(owner)
        self._wake.set()

    def on_record(self, standing: Standing | None) -> None:
        """A record was written. One that names a life that is over was put back by an adopter that could not have the
        actor, or came late: another one is to have it, and not only at the next audit.
        """
        if self._term is not None and standing is not None and not self._members.lives(standing.record.owner):
            self._wake.set()

    def node_joined(self) -> None:
        """It may host what could not be placed."""
        if self._unplaced:
            self._wake.set()

    async def stop(self) -> None:
        await self._tasks.stop()

    # ---- the leader's work

    async def _work(self, term: Term) -> None:
        grace_ends = self._clock.now_ns() + round(self._settings.grace * 1e9)
        while True:
            try:
                async with asyncio.timeout(self._pause(grace_ends)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if await self._sweep(term, self._clock.now_ns() >= grace_ends):
                self._backoff.reset()
            else:
                await self._backoff.wait()
                self._wake.set()

    def _pause(self, grace_ends: int) -> float:
        left = (grace_ends - self._clock.now_ns()) / 1e9
        return left if left > 0 else self._settings.audit

    async def _sweep(self, term: Term, grace_over: bool) -> bool:
        """Look through the directory once; False if something is left that another try may settle."""
        if not self._may_take():
            return False
        left = set(self._left)
        sweep = Sweep(term, grace_over)
        async with asyncio.TaskGroup() as group:
            try:
                await self._survey(sweep, group)
            except CajunError as error:
                log.warning("actors of lost nodes are not settled yet: %s", error)
                sweep.failed = True
        settled = not sweep.failed and all(request.result() for request in sweep.requests)
        if settled and not sweep.unplaced:
            self._left -= left
        return settled

    async def _survey(self, sweep: Sweep, group: asyncio.TaskGroup) -> None:
        async for page in self._directory.all():
            lost = [each for each in page if self._is_lost(each.record.owner, sweep.grace_over)]
            removals = [each for each in lost if each.record.type is None]
            if removals:
                sweep.requests.append(group.create_task(self._remove(removals, sweep.term)))
            for standing in (each for each in lost if each.record.type is not None):
                target = self._choose(standing)
                if target is None:
                    sweep.unplaced = True
                else:
                    sweep.waiting[target].append(standing)
                    if len(sweep.waiting[target]) >= self._settings.batch_size:
                        await self._give(sweep, group, target)
        for target in list(sweep.waiting):
            await self._give(sweep, group, target)

    async def _give(self, sweep: Sweep, group: asyncio.TaskGroup, target: str) -> None:
        await sweep.room.acquire()
        request = self._request(target, sweep.waiting.pop(target), sweep.room)
        sweep.requests.append(group.create_task(request))

    def _is_lost(self, owner: Owner, grace_over: bool) -> bool:
        if self._members.lives(owner):
            return False
        record = self._members.get(owner.node)
        later_life = record is not None and record.incarnation > owner.incarnation
        return later_life or owner in self._left or grace_over

    def _choose(self, standing: Standing) -> str | None:
        """The node that shall have it; None while no living node knows its type."""
        type_name = standing.record.type or ""
        hosts = [record for record in self._members.hosts() if (type_name, record.owner) not in self._cannot]
        if hosts:
            self._unplaced.discard(type_name)
            return choose(standing.actor_id, able(type_name, hosts))
        if type_name not in self._unplaced:
            self._unplaced.add(type_name)
            log.error(
                "actors of type %r have lost their node and no living node can start them: "
                "start one that imports the module which registers it (--import)",
                type_name,
            )
        return None

    async def _request(self, node: str, actors: Sequence[Standing], room: asyncio.Semaphore) -> bool:
        target = self._members.get(node)
        try:
            outcomes = await self._adopt(node, actors)
        except CajunError as error:
            log.warning("node %r did not adopt %d actors: %s", node, len(actors), error)
            return False
        finally:
            room.release()
        by_id = {standing.actor_id: standing for standing in actors}
        done = [self._outcome(by_id[actor_id], outcome, text, target) for actor_id, outcome, text in outcomes]
        return all(done) and len(done) == len(actors)

    def _outcome(self, standing: Standing, outcome: str, text: str, target: NodeRecord | None) -> bool:
        """Count it; True if nothing is left to be done about this actor."""
        self.outcomes[outcome] += 1
        if outcome == FAILED:
            log.error("actor %r did not start again on another node: %s", standing.actor_id, text)
        elif outcome == UNKNOWN_TYPE and target is not None:
            key = (standing.record.type or "", target.owner)
            if key not in self._cannot:
                log.warning("node %r does not take actors like %r: %s", target.node, standing.actor_id, text)
            self._cannot.add(key)
        elif outcome == LATER:
            log.info("actor %r is not adopted yet: %s", standing.actor_id, text)
        return outcome in (ADOPTED, TAKEN, FAILED)  # after a failed start its adopter has given the id back

    async def _remove(self, removals: Sequence[Standing], term: Term) -> bool:
        """Actors that no other node could start: take them out, so that senders hear ActorNotFoundError."""
        try:
            owners = {standing.record.owner for standing in removals}
            guards = {owner: await self._absence(owner) for owner in owners}
        except CajunError as error:
            log.warning("actors of lost nodes are not removed yet: %s", error)
            return False
        work = [
            self._registrar.release(standing, (term.guard, guard))
            for standing in removals
            if (guard := guards[standing.record.owner]) is not None
        ]
        results = await asyncio.gather(*work, return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            log.warning("%d actors of lost nodes were not removed: %s", len(errors), errors[0])
        self.outcomes["removed"] += len(results) - len(errors)
        return not errors and len(work) == len(removals)

    async def _absence(self, owner: Owner) -> Compare | None:
        """What holds as long as the owner is gone; None if it is there after all."""
        key = self._keys.node(owner.node)
        entry = await self._store.get(key)
        if entry is None:
            return Compare(key, 0)
        record = NodeRecord.decode(owner.node, entry.value)
        return Compare(key, entry.revision) if record.incarnation > owner.incarnation else None
