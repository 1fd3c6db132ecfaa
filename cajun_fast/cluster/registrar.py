"""Claims and releases of actor ids, on their way into the directory in batches.

Laws: every write is a compare-and-set of one key; a batch that fails is taken apart so that only the keys at
fault fail. One intention per key is under way at a time, in the order in which they came: a newer one wins
over an older one that has not settled. An answer that was lost is settled by the next attempt (a claim
recognises its own bytes), and a claim that its caller has given up is taken back, never left behind: a
stopped actor is not resurrected. The queue is bounded; an outage is waited out with growing pauses until each
caller's own deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.records import ActorRecord
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    ActorNotFoundError,
    CajunError,
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
    NotRunningError,
    ProtocolError,
)
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, Delete, Entry, MetadataStore, Outcome, Put

log = logging.getLogger("cajun_fast.cluster")

#: Transactions in flight at once: enough to hide the store's latency, few enough to leave it to others too.
IN_FLIGHT = 4
#: A batch whose compare failed although no key tells why is tried again so often, then halved.
PUZZLED = 3
UNGUARDED = "whoever wanted this written is no longer who it was, or what it relied on has changed"


@dataclass(eq=False, slots=True)
class Intention:
    """One key's wish: ``value`` None means gone; it holds only with its guards. ``before``: what is put back if its
    caller gives up. ``sent``: it may have been applied.
    """

    actor_id: str
    key: str
    expected: int
    value: bytes | None
    future: asyncio.Future[int] = field(repr=False)
    guards: tuple[Compare, ...] = ()
    before: bytes | None = None
    sent: bool = False
    withdrawn: bool = False

    def settle(self, revision: int) -> None:
        if not self.future.done():
            self.future.set_result(revision)

    def fail(self, error: CajunError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # a caller that has gone is no news


class Registrar:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        directory: Directory,
        backoff: Backoff,
        *,
        batch_size: int = 50,
        batch_age: float = 0.002,
        queue_limit: int = 100_000,
        timeout: float = 10.0,
    ) -> None:
        self._store = store
        self._keys = keys
        self._directory = directory
        self._backoff = backoff
        self._batch_size = batch_size
        self._batch_age = batch_age
        self._queue_limit = queue_limit
        self._timeout = timeout
        self._queue: deque[Intention] = deque()
        self._under_way: dict[str, Intention] = {}
        self._behind: dict[str, deque[Intention]] = {}
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._tasks = Tasks("registrar")
        self._open = False
        self.batches = 0
        self.last_error: MetadataStoreError | None = None

    def __len__(self) -> int:
        """Intentions that have not settled."""
        return len(self._under_way) + sum(map(len, self._behind.values()))

    def start(self) -> None:
        """Take intentions from now on."""
        self._open = True
        self._tasks.start(self._run(), "batches")

    async def stop(self, timeout: float = 2.0) -> None:
        """Flush what is pending, at most ``timeout`` seconds long; then fail what is left."""
        self._open = False
        self._full.set()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d registrations were still pending at the stop", len(self))
        await self._tasks.stop()
        left = [*self._under_way.values(), *(each for line in self._behind.values() for each in line)]
        for intention in left:
            intention.fail(
                NotRunningError(f"this node stopped before actor {intention.actor_id!r} was settled")
            )

    # ---- what is asked of it

    async def claim(
        self,
        actor_id: str,
        record: ActorRecord,
        expected: int = 0,
        guards: tuple[Compare, ...] = (),
        *,
        instead_of: ActorRecord | None = None,
    ) -> Standing:
        """Write the record if the actor's key has revision ``expected`` still (0: nobody owns it). ``instead_of``: what
        stood there; it is put back if this claim is given up, so that an actor that was to be taken over is not lost.

        Raises ActorAlreadyExistsError naming the owner, LeaseLostError if a guard does not hold,
        MetadataStoreUnavailableError after the time-out.
        """
        before = None if instead_of is None else instead_of.encode()
        intention = self._enqueue(actor_id, record.encode(), expected, guards, before)
        revision = await self._settled(intention)
        return Standing(actor_id, record, revision)

    async def hand_over(
        self, standing: Standing, record: ActorRecord, guards: tuple[Compare, ...] = ()
    ) -> Standing:
        """Write another owner into the record, if it still is as ``standing`` says. Answers when the outcome is known,
        however long the store takes: who guesses makes two owners.

        Raises ActorAlreadyExistsError (somebody else owns it), ActorNotFoundError (nobody does), LeaseLostError (a
        guard does not hold, nothing was written), NotRunningError (this node stopped, the outcome is not known).
        """
        intention = self._enqueue(standing.actor_id, record.encode(), standing.revision, guards)
        revision = await asyncio.shield(intention.future)
        return Standing(standing.actor_id, record, revision)

    async def release(self, standing: Standing, guards: tuple[Compare, ...] = ()) -> bool:
        """Give an id back if it is still owned as ``standing`` says; False if somebody else owns it now.

        Raises MetadataStoreUnavailableError after the time-out; the wish stays then, and is carried out
        later.
        """
        try:
            intention = self._enqueue(standing.actor_id, None, standing.revision, guards)
            return bool(await self._settled(intention))
        except ActorAlreadyExistsError:
            return False

    async def _settled(self, intention: Intention) -> int:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(intention.future)
        except BaseException as error:
            if intention.value is not None:
                self._give_up(intention)
            if isinstance(error, TimeoutError):
                raise self._unsettled(intention) from self.last_error
            raise

    def _unsettled(self, intention: Intention) -> MetadataStoreUnavailableError:
        what = "claim" if intention.value is not None else "release"
        return MetadataStoreUnavailableError(
            f"the {what} of actor {intention.actor_id!r} did not settle within {self._timeout:g} s: the "
            "metadata "
            f"store {self._store.url} does not answer ({self.last_error or 'no error'}); try again when it "
            "does"
        )

    def _enqueue(
        self,
        actor_id: str,
        value: bytes | None,
        expected: int,
        guards: tuple[Compare, ...],
        before: bytes | None = None,
    ) -> Intention:
        if not self._open:
            raise NotRunningError("registrations are closed: this node is not running")
        if len(self) >= self._queue_limit:
            raise MetadataStoreUnavailableError(
                f"{self._queue_limit} registrations wait for the metadata store {self._store.url} already "
                f"({self.last_error or 'it is slow'}): try again later, or raise "
                "metadata.registration_queue_limit"
            )
        future = asyncio.get_running_loop().create_future()
        intention = Intention(actor_id, self._keys.actor(actor_id), expected, value, future, guards, before)
        self._line_up(intention)
        return intention

    def _line_up(self, intention: Intention) -> None:
        self._idle.clear()
        if intention.key in self._under_way:
            self._behind.setdefault(intention.key, deque()).append(intention)
            return
        self._under_way[intention.key] = intention
        self._queue.append(intention)
        self._wake.set()
        if len(self._queue) >= self._batch_size:
            self._full.set()

    def _give_up(self, intention: Intention) -> None:
        """The claim's caller is gone: never sent, it is dropped; else what it wrote is taken back."""
        future = intention.future
        if not future.done():
            intention.withdrawn = True
            future.cancel()
        elif not future.cancelled() and future.exception() is None:
            undo = Intention(
                intention.actor_id,
                intention.key,
                future.result(),
                intention.before,
                asyncio.get_running_loop().create_future(),
            )
            self._line_up(undo)

    # ---- batches

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._gather_company()
            await self._room.acquire()
            batch = self._take()
            if not batch or self._tasks.start(self._send(batch), "batch") is None:
                self._room.release()

    async def _gather_company(self) -> None:
        if len(self._queue) >= self._batch_size or self._batch_age <= 0:
            return
        self._full.clear()
        try:
            async with asyncio.timeout(self._batch_age):
                await self._full.wait()
        except TimeoutError:
            pass

    def _take(self) -> list[Intention]:
        batch: list[Intention] = []
        while self._queue and len(batch) < self._batch_size:
            intention = self._queue.popleft()
            if intention.withdrawn and not intention.sent:
                self._finish(intention)
            else:
                batch.append(intention)
        if not self._queue:
            self._wake.clear()
        return batch

    async def _send(self, batch: list[Intention]) -> None:
        try:
            await self._settle(batch)
        finally:
            self._room.release()

    async def _settle(self, batch: list[Intention]) -> None:
        puzzled = 0
        while batch := await self._ready(batch):
            for intention in batch:
                intention.sent = True
            try:
                outcome = await self._write(batch)
            except MetadataStoreUnavailableError as error:
                self.last_error = error
                await self._backoff.wait()
                continue
            except MetadataStoreError as error:
                await self._blame(batch, error)
                return
            self._backoff.reset()
            left = self._sort_out(batch, outcome)
            puzzled = puzzled + 1 if len(left) == len(batch) else 0
            if puzzled >= PUZZLED:
                await self._blame(left, MetadataStoreError("the store refuses the write without a reason"))
                return
            batch = left

    async def _write(self, batch: Sequence[Intention]) -> Outcome:
        self.batches += 1
        compares = [Compare(each.key, each.expected) for each in batch]
        writes: list[Put | Delete] = [
            Delete(each.key) if each.value is None else Put(each.key, each.value) for each in batch
        ]
        guards = dict.fromkeys(guard for each in batch for guard in each.guards)
        return await self._store.transact([*guards, *compares], writes)

    async def _blame(self, batch: list[Intention], error: MetadataStoreError) -> None:
        """The store refuses the batch as a whole: halve it until the one at fault stands alone."""
        if len(batch) == 1:
            batch[0].fail(error)
            self._finish(batch[0])
            return
        middle = len(batch) // 2
        await self._settle(batch[:middle])
        await self._settle(batch[middle:])

    def _sort_out(self, batch: list[Intention], outcome: Outcome) -> list[Intention]:
        """End what has an answer; the rest, that only suffered with others, goes again."""
        return [each for each in batch if not self._answered(each, outcome)]

    def _broken(self, guards: tuple[Compare, ...], outcome: Outcome) -> bool:
        current = outcome.current
        return not outcome.succeeded and any(
            (current[guard.key].revision if guard.key in current else 0) != guard.revision for guard in guards
        )

    def _answered(self, intention: Intention, outcome: Outcome) -> bool:
        if intention.withdrawn and intention.value is not None:
            return False  # to be undone
        current = outcome.current.get(intention.key)
        if outcome.succeeded:
            intention.settle(outcome.revision)
        elif (current.revision if current is not None else 0) == intention.expected:
            if not self._broken(intention.guards, outcome):
                return False
            intention.fail(LeaseLostError(f"actor {intention.actor_id!r}: {UNGUARDED}"))
        elif current is not None and current.value == intention.value:
            intention.settle(current.revision)  # an earlier attempt had arrived
        elif current is None and intention.value is None:
            intention.settle(outcome.revision)  # gone already
        else:
            intention.fail(self._conflict(intention, current))
        self._finish(intention)
        return True

    def _conflict(self, intention: Intention, current: Entry | None) -> CajunError:
        if current is None:
            return ActorNotFoundError(
                f"actor {intention.actor_id!r} was stopped meanwhile", intention.actor_id
            )
        try:
            owner = self._directory.standing(current).record.owner
        except ProtocolError as error:
            return error
        return ActorAlreadyExistsError(intention.actor_id, owner.node)

    async def _ready(self, batch: list[Intention]) -> list[Intention]:
        """The batch without those whose callers have given up: what they may have written is taken back."""
        for intention in [each for each in batch if each.withdrawn and each.value is not None]:
            await self._undo(intention)
        return [each for each in batch if not (each.withdrawn and each.value is not None)]

    async def _undo(self, intention: Intention) -> None:
        """Take a claim that may stand back, if it does stand and is ours: what stood before it stands again."""
        while intention.sent:
            try:
                entry = await self._store.get(intention.key)
                if entry is None or entry.value != intention.value:
                    break
                outcome = await self._store.compare_and_set(intention.key, entry.revision, intention.before)
                if outcome.succeeded:
                    break
            except MetadataStoreUnavailableError as error:
                self.last_error = error
                await self._backoff.wait()
            except MetadataStoreError as error:
                log.error("the claim of actor %r could not be taken back: %s", intention.actor_id, error)
                break
        self._finish(intention)

    def _finish(self, intention: Intention) -> None:
        """Settled: the next intention for this key may go."""
        del self._under_way[intention.key]
        line = self._behind.get(intention.key)
        if line:
            following = line.popleft()
            if not line:
                del self._behind[intention.key]
            self._under_way[intention.key] = following
            self._queue.append(following)
            self._wake.set()
        elif not self._under_way:
            self._idle.set()
