"""What this node owns: claiming an id before its actor starts, giving it back after it has stopped.

Laws: an actor runs here only while its record names this life of this node; the claim comes before the start
and the release after the end. A claim whose start fails is given back; but what was taken over, and cannot start
for a reason that is not its own, goes back to where it was, for the leader to try again: a durable actor must not
vanish since its store was away. When a record turns out to name somebody else, the copy here is the loser: it is
stopped and nothing is written. What a stopping node owned of a registered type stays in the directory, for the leader
to have it started elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

from cajun_fast._core.lane import Pid
from cajun_fast.actors.recipe import is_durable_type
from cajun_fast.cluster.directory import Directory, Standing
from cajun_fast.cluster.records import ActorRecord, Owner
from cajun_fast.cluster.registrar import Registrar
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    ActorNotFoundError,
    CajunError,
    ConfigError,
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
    NotRunningError,
    PersistenceUnavailableError,
    ProtocolError,
    SerializationError,
)
from cajun_fast.metadata.store import Compare

log = logging.getLogger("cajun_fast.cluster")

#: Actors beyond which a listing of the directory is cheaper than a read for each.
MANY = 200
#: How often a start is tried whose node loses its seat in the middle of it.
TRIES = 5
NOTHING: Mapping[str, Standing] = MappingProxyType({})


#: In an actor's record: the epoch at which it was last started anew because its node was lost.
ADOPTED_AT = "adopted"

#: What a start raises for reasons of its node: it stops, its persistence is away, it has none, or older code.
NOT_ITS_OWN = (NotRunningError, PersistenceUnavailableError, ConfigError)


def is_of_the_node(error: BaseException, record: ActorRecord) -> bool:
    """Whether a durable actor did not start for reasons of its node, so that another one, or a later try, may do."""
    return record.durable and isinstance(error, NOT_ITS_OWN)


def adopted_at(record: ActorRecord) -> int:
    """See ADOPTED_AT; 0 for an actor that never lost its node."""
    epoch = record.extra.get(ADOPTED_AT, 0)
    return epoch if isinstance(epoch, int) else 0


class NotSeatedError(NotRunningError):
    """This life of this node does not hold its seat: what it had claimed was given back."""


class Runtime(Protocol):
    """What is needed of the actor system."""

    async def spawn(self, target: Any, actor_id: str | None = None, /, *args: Any, **kwargs: Any) -> Pid: ...

    async def stop_actor(self, actor_id: str) -> bool: ...


class Arguments(Protocol):
    """How constructor arguments become bytes and come back."""

    def encode(self, message: Any) -> bytes: ...

    def decode(self, data: bytes) -> Any: ...


class Leaving(Protocol):
    """An actor that is being handed over to another node: see ``movement``."""

    def on_record(self, standing: Standing | None) -> None:
        """Its record has changed."""
        ...

    async def over(self) -> None:
        """Returns when it is settled where it lives."""
        ...


class Hosting:
    """See the module's laws."""

    def __init__(
        self,
        runtime: Runtime,
        registrar: Registrar,
        directory: Directory,
        arguments: Arguments,
        owner: Owner,
        may_own: Callable[[], Awaitable[bool]],
        on_started: Callable[[str], None] = lambda actor_id: None,
        until_seated: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """``may_own``: whether this life of this node holds its seat, once that is known. ``until_seated``: waits until
        this or its next life does; False: it took too long. ``on_started``: an actor has come up.
        """
        self._runtime = runtime
        self._registrar = registrar
        self._directory = directory
        self._arguments = arguments
        self._may_own = may_own
        self._until_seated = until_seated or may_own
        self._on_started = on_started
        self._claims = itertools.count(1)
        self._starting: set[str] = set()
        self._early: set[str] = set()
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._tasks = Tasks("hosting")
        self._stopping = False
        self.owner = owner
        self.owned: dict[str, Standing] = {}
        #: On their way to another node, by id; on their way here.
        self.departing: dict[str, Leaving] = {}
        self.arriving: set[str] = set()

    def is_starting(self, actor_id: str) -> bool:
        """Claimed, or about to be, or between two nodes, and not yet running."""
        root = actor_id.partition("/")[0]
        return actor_id in self._starting or root in self._starting or self.is_moving(actor_id)

    def is_moving(self, actor_id: str) -> bool:
        """Between this node and another one."""
        root = actor_id.partition("/")[0]
        return root in self.departing or root in self.arriving

    def new_claim(self) -> int:
        """The number of a claim that another node shall write for this one."""
        return next(self._claims)

    def begin_stop(self) -> None:
        """From now on actors that end keep their records, if another node can start them."""
        self._stopping = True

    async def stop(self) -> None:
        """Wait for the releases under way: they end with the registrar's flush."""
        self._stopping = True
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
        await self._tasks.stop()

    # ---- starting

    def new_record(
        self, target: Any, type_name: str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ActorRecord:
        """The claim of a new actor; SerializationError if its type is registered but its arguments cannot
        travel.
        """
        record = ActorRecord(
            owner=self.owner, claim=next(self._claims), type=type_name, durable=is_durable_type(target)
        )
        if type_name is None:
            return record
        try:
            arguments = self._arguments.encode([list(args), dict(kwargs)])
        except SerializationError as exc:
            raise SerializationError(
                f"actor type {type_name!r} is registered, so another node must be able to start it, but its "
                f"arguments cannot be encoded: {exc}; pass plain data, or register a type without a name"
            ) from exc
        return replace(record, arguments=arguments)

    async def host(
        self,
        target: Any,
        type_name: str | None,
        actor_id: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Pid:
        """Claim the id, then start the actor here. A node that stands still, or has just lost its seat, does it as soon
        as it may act again.

        Raises ActorAlreadyExistsError, MetadataStoreUnavailableError (also where it takes too long to know whether
        this node may act), and what its start raises (the id is free then).
        """
        if actor_id in self._starting or actor_id in self.owned:
            raise ActorAlreadyExistsError(actor_id, self.owner.node)
        # What cannot travel is told before anything waits.
        record = self.new_record(target, type_name, args, kwargs)
        self._starting.add(actor_id)
        try:
            for _ in range(TRIES):
                if not await self._until_seated():
                    break
                # This life may be another one than when it was asked for.
                record = replace(record, owner=self.owner, claim=self.new_claim())
                standing = await self._claim(actor_id, record)
                try:
                    return await self._start(standing, target, args, kwargs)
                except NotSeatedError as error:
                    log.info("%s: it is tried again", error)
        finally:
            self._starting.discard(actor_id)
        raise MetadataStoreUnavailableError(
            f"actor {actor_id!r} was not started: node {self.owner.node!r} stands still, since the metadata store has "
            "not told it in time whether its seat in the cluster is its own; try again"
        )

    async def _claim(self, actor_id: str, record: ActorRecord) -> Standing:
        try:
            return await self._registrar.claim(actor_id, record)
        except ActorAlreadyExistsError as error:
            earlier = await self._own_earlier_life(actor_id, error.node)
            if earlier is None:
                raise
            return await self._registrar.claim(actor_id, record, earlier.revision)

    async def _own_earlier_life(self, actor_id: str, node: str) -> Standing | None:
        """The record, if an earlier incarnation of this very node left it: that one is surely gone."""
        if node != self.owner.node:
            return None
        standing = await self._directory.read(actor_id, fresh=True)
        if standing is None:
            return None
        owner = standing.record.owner
        return (
            standing if owner.node == self.owner.node and owner.incarnation < self.owner.incarnation else None
        )

    async def _start(
        self, standing: Standing, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Pid:
        """Start what is claimed; if it does not start, the claim is given back."""
        actor_id = standing.actor_id
        self.owned[actor_id] = standing
        adopted = standing.record.extra.get(ADOPTED_AT) == standing.record.epoch
        if not await self._may_own():
            if adopted:
                self.owned.pop(actor_id, None)  # its record goes back to where it was: see ``adopt``
            else:
                self._give_back(actor_id)
            raise NotSeatedError(
                f"actor {actor_id!r} was not started: this node does not have its seat in the cluster"
            )
        self._early.discard(actor_id)
        try:
            pid = await self._runtime.spawn(target, actor_id, *args, **kwargs)
        except BaseException as error:
            if adopted and (self._stopping or is_of_the_node(error, standing.record)):
                self.owned.pop(actor_id, None)
            else:
                self._give_back(actor_id)
            raise
        self._on_started(actor_id)
        if actor_id in self._early:  # it has stopped already
            self._early.discard(actor_id)
            self._give_back(actor_id)
        return pid

    async def settle_in(self, standing: Standing, start: Callable[[], Awaitable[None]]) -> None:
        """Start what was handed over to this node: its record names it. What its start raises gives the id back, unless
        it is PersistenceUnavailableError: then the record stays, and the caller tries again."""
        actor_id = standing.actor_id
        self.owned[actor_id] = standing
        if (
            not await self._may_own() or standing.record.owner != self.owner
        ):  # this life of it, not an earlier one
            self.owned.pop(actor_id, None)  # the record stays: the leader gives it to somebody else
            raise NotRunningError(
                f"actor {actor_id!r} was not started: this node does not have its seat in the cluster"
            )
        self._early.discard(actor_id)
        self._starting.add(actor_id)
        try:
            await start()
        except PersistenceUnavailableError:
            self.owned.pop(actor_id, None)
            raise
        except BaseException:
            self._give_back(actor_id)
            raise
        finally:
            self._starting.discard(actor_id)
        self._on_started(actor_id)
        if actor_id in self._early:  # it has stopped already
            self._early.discard(actor_id)
            self._give_back(actor_id)

    async def adopt(self, standing: Standing, target: Any, guards: tuple[Compare, ...]) -> Pid:
        """Take over an actor of a lost node: (S, e) becomes (this node, e + 1) only if nothing has changed
        meanwhile.

        Raises LeaseLostError if the guards (the loser's absence) do not hold, ActorAlreadyExistsError if
        somebody was quicker, and what its start raises.
        """
        actor_id, old = standing.actor_id, standing.record
        if actor_id in self._starting or actor_id in self.owned:
            raise ActorAlreadyExistsError(actor_id, self.owner.node)
        args, kwargs = self._arguments.decode(old.arguments)
        record = ActorRecord(
            owner=self.owner,
            claim=next(self._claims),
            epoch=old.epoch + 1,
            type=old.type,
            arguments=old.arguments,
            durable=is_durable_type(target),
            extra={**old.extra, ADOPTED_AT: old.epoch + 1},
        )
        self._starting.add(actor_id)
        try:
            taken = await self._registrar.claim(actor_id, record, standing.revision, guards, instead_of=old)
            try:
                return await self._start(taken, target, tuple(args), kwargs)
            except NOT_ITS_OWN:
                if actor_id not in self.owned and actor_id not in self._ending:
                    await self._leave_lost(taken, old)
                raise
        finally:
            self._starting.discard(actor_id)

    async def _leave_lost(self, taken: Standing, old: ActorRecord) -> None:
        """This node could not start what it took over, for reasons of its own: the record names the lost node
        again, so that the leader finds another one. Deleting it would make the actor vanish.
        """
        try:
            await self._registrar.claim(taken.actor_id, old, taken.revision)
        except CajunError as error:
            log.warning("actor %r waits for this node to be lost or back: %s", taken.actor_id, error)

    # ---- ending

    async def end(self, actor_id: str) -> bool:
        """Stop an actor of this node; returns when its id is free again (or the store's outage was told).

        Raises MetadataStoreUnavailableError if the actor has stopped but its id could not be given back in
        time.
        """
        while (leaving := self.departing.get(actor_id.partition("/")[0])) is not None:
            await leaving.over()
        stopped = await self._runtime.stop_actor(actor_id)
        release = self._give_back(actor_id)
        if release is not None:
            await asyncio.shield(release)
        return stopped

    def actor_stopped(self, actor_id: str) -> None:
        """The runtime says that a local actor is gone, for whatever reason."""
        standing = self.owned.get(actor_id)
        if standing is None:
            return  # a child, or an actor that was never claimed
        if actor_id in self._starting:
            self._early.add(actor_id)  # its start looks after that
            return
        if self._stopping and standing.record.type is not None:
            del self.owned[actor_id]
            return
        self._give_back(actor_id)

    def _give_back(self, actor_id: str) -> asyncio.Task[None] | None:
        standing = self.owned.pop(actor_id, None)
        if standing is None:
            return self._ending.get(actor_id)
        task = self._tasks.start(self._release(standing), f"release {actor_id}")
        if task is not None:
            self._ending[actor_id] = task
            task.add_done_callback(lambda done: self._ended(actor_id, done))
        return task

    def _ended(self, actor_id: str, task: asyncio.Task[None]) -> None:
        if self._ending.get(actor_id) is task:
            del self._ending[actor_id]

    async def _release(self, standing: Standing) -> None:
        try:
            await self._registrar.release(standing)
        except (LeaseLostError, NotRunningError) as error:
            log.info("actor %r was not given back: %s", standing.actor_id, error)

    # ---- losing

    def on_moved(self, actor_id: str, standing: Standing | None, revision: int) -> None:
        """The directory's watch: a record of ours that was changed by a later write of somebody else is lost."""
        ours = self.owned.get(actor_id)
        if ours is None or revision <= ours.revision:
            return
        if actor_id in self.departing:
            self.departing[actor_id].on_record(standing)
            return
        if standing is None:
            self.lose(actor_id, "its record was removed")
        elif standing.record.owner != self.owner:
            self.lose(actor_id, f"node {standing.record.owner.node!r} owns it now")
        else:
            self.owned[actor_id] = standing  # our own write, seen before its answer

    def lose(self, actor_id: str, why: str) -> None:
        """Stop the copy here and write nothing."""
        if self.owned.pop(actor_id, None) is not None:
            log.warning("actor %r is stopped here: %s", actor_id, why)
            self._tasks.start(self._stop_copy(actor_id), f"stop {actor_id}")

    async def _stop_copy(self, actor_id: str) -> None:
        await self._runtime.stop_actor(actor_id)

    async def sync(self) -> tuple[int, int]:
        """After an outage: put claims back where nobody else took the actor; stop the copies that lost.

        Returns how many stand and how many were lost. Raises MetadataStoreUnavailableError.
        """
        mine = [each for each in self.owned.values() if each.actor_id not in self.departing]
        found = await self._list(mine) if len(mine) > MANY else {}
        results = await asyncio.gather(*(self.confirm(each, found) for each in mine), return_exceptions=True)
        for result in results:
            if isinstance(result, MetadataStoreError) and not isinstance(result, LeaseLostError):
                raise result
            if isinstance(result, BaseException) and not isinstance(result, CajunError):
                raise result  # a fault of ours is not a lost actor
        kept = sum(result is True for result in results)
        return kept, len(mine) - kept

    async def _list(self, mine: list[Standing]) -> dict[str, Standing]:
        """What the directory says of these, by a listing instead of a read for each; none if it cannot be read."""
        wanted = {each.actor_id for each in mine}
        try:
            return {
                each.actor_id: each
                async for page in self._directory.all()
                for each in page
                if each.actor_id in wanted
            }
        except ProtocolError as error:
            log.warning("%s: actors are looked up one by one", error)
            return {}

    async def confirm(self, ours: Standing, found: Mapping[str, Standing] = NOTHING) -> bool:
        """Whether that ownership stands; one of an earlier life of this node is put back under this one.

        ``found``: what a listing that has just been made says, where there was one.
        """
        actor_id = ours.actor_id
        standing = found.get(actor_id) or await self._directory.read(actor_id, fresh=True)
        if self.owned.get(actor_id) is not ours:
            return False
        if standing is not None and standing.revision == ours.revision and ours.record.owner == self.owner:
            return True
        if (
            standing is not None
            and standing.revision != ours.revision
            and standing.record.owner != ours.record.owner
        ):
            self.lose(actor_id, f"node {standing.record.owner.node!r} took it over meanwhile")
            return False
        return await self._reclaim(ours, standing)

    async def _reclaim(self, ours: Standing, standing: Standing | None) -> bool:
        old = ours.record
        record = ActorRecord(
            owner=self.owner,
            claim=next(self._claims),
            epoch=old.epoch + 1,
            type=old.type,
            arguments=old.arguments,
            durable=old.durable,
            extra=old.extra,
        )
        try:
            taken = await self._registrar.claim(
                ours.actor_id,
                record,
                standing.revision if standing else 0,
                instead_of=standing.record if standing else None,
            )
        except (ActorAlreadyExistsError, ActorNotFoundError) as error:
            self.lose(ours.actor_id, str(error))
            return False
        held = self.owned.get(ours.actor_id)
        if held is not None and (
            held is ours or held.record.claim == record.claim
        ):  # the watch may have been first
            self.owned[ours.actor_id] = taken
            return True
        await self._registrar.release(taken)  # it stopped meanwhile: it must not be resurrected
        return False


def describe(error: BaseException) -> str:
    """One line for a report."""
    return str(error) if isinstance(error, CajunError) else f"{type(error).__name__}: {error}"
