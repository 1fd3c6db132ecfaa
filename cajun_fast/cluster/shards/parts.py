"""The parts of sharding on one member, and their wiring: the one thing that a node holds of it.

Laws: parts do not know each other beyond what stands in their constructors; the crossings are here. Nothing of it
stands in the way of a node that has no sharded types but the watch of an empty table.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cajun_fast._core.lane import Exchange
from cajun_fast._core.link import Link
from cajun_fast.actors.recipe import is_durable_type
from cajun_fast.actors.registry import ActorType, Registry
from cajun_fast.actors.system import ActorSystem
from cajun_fast.clock import Clock
from cajun_fast.cluster.follow import entries
from cajun_fast.cluster.host import decode_answer, encode_error, host_id
from cajun_fast.cluster.leader import Term
from cajun_fast.cluster.members import Members
from cajun_fast.cluster.membership import Membership
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.router import ClusterRouter
from cajun_fast.cluster.shards.allocator import Allocator, Pace
from cajun_fast.cluster.shards.handover import Handover, Moved
from cajun_fast.cluster.shards.ids import is_sharded
from cajun_fast.cluster.shards.passivation import Passivation
from cajun_fast.cluster.shards.records import ShardRecord, agreed_count
from cajun_fast.cluster.shards.region import Region
from cajun_fast.cluster.shards.route import ShardRoute
from cajun_fast.cluster.shards.states import ArrivedStates
from cajun_fast.cluster.shards.table import Place, ShardTable
from cajun_fast.cluster.shards.watches import ShardWatches, Watchers
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.config import ClusterConfig
from cajun_fast.errors import CajunError, ConfigError, MetadataStoreError, ProtocolError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import MetadataStore

log = logging.getLogger("cajun_fast.cluster")

#: Seconds between two looks at whether more types have been registered.
TYPES_LOOK = 0.5
#: Seconds between two looks at whether this node's shards have gone, before it stops.
DEPART_LOOK = 0.02


class HostedTypes(NamedTuple):
    """Names of the types that a node may start, of the sharded ones among them, and of the durable ones among those."""

    all: tuple[str, ...]
    sharded: tuple[str, ...]
    durable: tuple[str, ...]


class Sharding:
    """See the module's laws."""

    #: Set before ``start``.
    watches: ShardWatches

    def __init__(
        self,
        config: ClusterConfig,
        store: MetadataStore,
        keys: KeySpace,
        types: Registry,
        members: Members,
        membership: Membership,
        clock: Clock,
        backoff: Callable[[float, float], Backoff],
        owner: Callable[[], Owner],
        links: Callable[[], Iterable[Link]],
        may_take: Callable[[], bool],
    ) -> None:
        self._config = config
        self._store = store
        self._keys = keys
        self._types = types
        self._members = members
        self._membership = membership
        self._clock = clock
        self._backoff = backoff
        self._owner = owner
        self._links = links
        self._known_types = -1
        self._moves = itertools.count(1)
        self._tasks = Tasks("sharding")
        self.table = ShardTable(store, keys, backoff(0.05, 1.0))
        sharding = config.sharding
        pace = Pace(
            sharding.rebalance_delay,
            sharding.rebalance_batch,
            sharding.rebalance_pause,
            config.membership.lease_ttl,
        )
        self.allocator = Allocator(
            store, keys, self.table, members, clock, self._ask_to_move, backoff(0.05, 1.0), pace, may_take
        )

    # ---- life

    async def agree(self) -> None:
        """Before the node joins: raises ConfigError if it wants another number of shards than the cluster has."""
        needed = bool(self.hosted_types().sharded)
        wanted = self._config.sharding.shard_count
        self.table.count = await agreed_count(self._store, self._keys, wanted, needed=needed)

    def start(self, actors: ActorSystem, router: ClusterRouter) -> None:
        """Follow the table, and answer for sharded ids."""
        self.exchange: Exchange = actors.exchange
        self.region = Region(
            self.table, self._types, actors, self.exchange, self._owner, lambda: self._membership.holds
        )
        self.states = ArrivedStates(self.table, self.region, self.watches, self._clock.now_ns)
        self.handover = Handover(
            self._store, self._keys, self.table, self.region, self.exchange, self, self._ask_to_prepare,
            self.watches, self._new_move, self._backoff(0.05, 1.0), self._config.sharding.handover_timeout,
        )  # fmt: skip
        placement = self._config.placement
        self.route = ShardRoute(
            self.table, self._members, self.exchange, self._owner, router, self._clock.now_ns,
            start_timeout=placement.start_timeout, rehost_timeout=placement.rehost_timeout,
        )  # fmt: skip
        self.table.on_change = self._on_change
        self.table.on_sync = self.allocator.look
        self.exchange.activator = self.region.activate
        actors.on_passivate(self.region.passivate)
        router.route_shards(self.route.resolve)
        self.table.start()
        idle = Passivation(
            self.region, self._types, self._config.sharding.passivate_after, self._clock.now_ns
        )
        self._tasks.start(idle.run(), "passivation")
        if not self._config.client:
            self._tasks.start(self._tell_types(), "types")

    async def depart(self, timeout: float) -> None:
        """Before anything of this node stops: have its shards moved to others, if there are any, with what is on its
        way to them. What has not moved after ``timeout`` seconds goes as a lost node's does.
        """
        if not hasattr(self, "region") or self._membership.fenced or not self._has_heirs():
            return
        try:
            if not await self._membership.update(cordoned=True):
                return
        except MetadataStoreError as error:
            log.info("this node's shards are not moved before it stops: %s", error)
            return
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while (  # noqa: ASYNC110 - rare, short and bounded
            self.shards_of(self._owner().node) and loop.time() < end and self._has_heirs()
        ):
            await asyncio.sleep(DEPART_LOOK)

    def _has_heirs(self) -> bool:
        """Whether another node could have shards of this one."""
        mine = {place[0] for place, record in self.table.items() if record.owner == self._owner()}
        others = (record for record in self._members.hosts() if record.node != self._owner().node)
        return any(mine.intersection(record.sharded) for record in others)

    async def finish(self, timeout: float) -> None:
        """The node stops: sharded actors handle what they have, and nothing more starts here."""
        await self._tasks.stop()
        if hasattr(self, "region"):
            await self.region.finish(timeout)

    async def stop(self) -> None:
        """After the actors."""
        await self.allocator.stop()
        await self.table.stop()
        if hasattr(self, "region"):
            await self.region.stop()

    def links(self) -> Iterable[Link]:
        """The links of this life of the node."""
        return self._links()

    def new_home(self, actor_id: str) -> str | None:
        """The node to name to whoever sent to a sharded actor that is not here."""
        return self.route.new_home(actor_id) if hasattr(self, "route") else None

    def epoch_of(self, actor_id: str) -> int | None:
        """Under which number this node owns a sharded actor: a later owner of its shard has a higher one."""
        record = self.table.of_actor(actor_id) if is_sharded(actor_id) else None
        return record.revision if record is not None and record.owner == self._owner() else None

    def keeps(self, place: Place) -> bool:
        """Whether a shard is this node's, and is not about to go."""
        return hasattr(self, "region") and self.region.keeps(place)

    # ---- types

    def hosted_types(self) -> HostedTypes:
        """Names of the types that this node may start."""
        if self._config.client:
            return HostedTypes((), (), ())
        kinds = [kind for kind in self._types.types() if self.offers(kind)]
        sharded = [kind for kind in kinds if kind.sharded]
        durable = [kind for kind in sharded if is_durable_type(kind.target)]
        return HostedTypes(_names(kinds), _names(sharded), _names(durable))

    def shards_of(self, node: str) -> int:
        """How many shards a node owns, as far as is known here."""
        return sum(record.owner.node == node for _, record in self.table.items())

    def offers(self, kind: ActorType) -> bool:
        """Whether this node has the roles that a type asks for."""
        return set(kind.roles) <= set(self._config.roles)

    async def _tell_types(self) -> None:
        """Types that are registered after the start."""
        self._known_types = self._types.version
        while True:
            await asyncio.sleep(TYPES_LOOK)
            if self._types.version == self._known_types or self._membership.fenced:
                continue
            version = self._types.version
            types, sharded, durable = self.hosted_types()
            try:
                if sharded and self.table.count is None:
                    await self.agree()
                if await self._membership.update(types=types, sharded=sharded, durable=durable):
                    self._known_types = version
                    self.allocator.look()
            except (MetadataStoreError, ConfigError) as error:
                log.warning("this node's types were not made known: %s", error)

    # ---- what happens elsewhere

    def on_elected(self, term: Term) -> None:
        self.allocator.on_elected(term)

    def on_change(self, before: NodeRecord, now: NodeRecord) -> None:
        """Of a node's record."""
        if (before.sharded, before.hosts) != (now.sharded, now.hosts):
            self.allocator.look()

    def _on_change(self, place: Place, before: ShardRecord | None, now: ShardRecord | None) -> None:
        if self.table.count is None:
            self._tasks.start(self._learn_count(), "count")
        self.states.on_change(place, now)
        self.region.on_change(place, before, now)
        self.watches.on_change(place, now)

    async def _learn_count(self) -> None:
        if self.table.count is None:
            try:
                count = await agreed_count(self._store, self._keys, None, needed=False)
            except CajunError as error:
                log.warning("the number of shards is not known yet: %s", error)
                return
            if self.table.count is None and count is not None:
                self.table.count = count
                self.allocator.look()

    # ---- requests of other nodes

    async def _ask_to_move(self, node: str, type_name: str, shards: Sequence[int], target: Owner) -> Moved:
        limit = self._config.sharding.handover_timeout + 2 * self._config.actors.stop_timeout + 5.0
        request = {
            "op": "shard-move", "type": type_name, "shards": list(shards), "node": target.node,
            "inc": target.incarnation,
        }  # fmt: skip
        pid = self.exchange.pid(host_id(node))
        match decode_answer(await pid.ask(request, timeout=limit), pid):
            case {"moved": list(moved), "kept": list(kept), "why": str(why)}:
                return Moved(tuple(moved), tuple(kept), why)
        raise ProtocolError(f"{pid.id!r} gave an answer that cannot be read")

    def _new_move(self) -> str:
        owner = self._owner()
        return f"{owner.node}:{owner.incarnation}:{next(self._moves)}"

    async def _ask_to_prepare(
        self, node: str, move: str, type_name: str, shards: Sequence[int], states: dict[str, Any],
        watchers: Watchers,
    ) -> None:  # fmt: skip
        request = {
            "op": "shard-prepare", "move": move, "type": type_name, "shards": list(shards), "states": states,
            "watchers": watchers,
        }  # fmt: skip
        pid = self.exchange.pid(host_id(node))
        decode_answer(await pid.ask(request, timeout=self._config.placement.adoption_timeout), pid)

    async def handle(self, request: Mapping[str, Any], context: Any) -> Any:
        """A request to this node's host actor. A hand-over takes its time: it is answered later."""
        match request:
            case {
                "op": "shard-move",
                "type": str(name),
                "shards": list(shards),
                "node": str(node),
                "inc": int(inc),
            }:
                reply = context.reply_later()
                work = self._move(name, [int(shard) for shard in shards], Owner(node, inc), reply)
                if self._tasks.start(work, f"move shards of {name}") is None:
                    reply.send({"ok": {"moved": [], "kept": shards, "why": "this node is stopping"}})
                return None
            case {
                "op": "shard-prepare", "move": str(move), "type": str(name), "shards": list(shards),
                "states": dict(states),
            }:  # fmt: skip
                watchers = request.get("watchers") or {}
                self._prepare(move, name, [int(shard) for shard in shards], states, watchers)
                return {"ok": True}
        raise ProtocolError(f"node {self._owner().node!r} does not know the request {request!r:.200}")

    def _prepare(
        self, move: str, name: str, shards: list[int], states: dict[str, Any], watchers: Watchers
    ) -> None:
        if name not in self.hosted_types().sharded or self.region.is_stopping or not self._membership.holds:
            raise ConfigError(f"node {self._owner().node!r} takes no shards of {name!r} now")
        if shards:
            self.states.expect(move, [(name, shard) for shard in shards])
        self.states.keep(move, states, watchers)

    async def _move(self, name: str, shards: list[int], target: Owner, reply: Any) -> None:
        try:
            result = await self.handover.move(name, shards, target)
        except CajunError as error:
            reply.send(encode_error(error))
            return
        reply.send({"ok": {"moved": list(result.moved), "kept": list(result.kept), "why": result.why}})

    # ---- after a standstill

    async def sync(self) -> None:
        """Look at the table as it stands; take again what an earlier life of this node owned and nobody else has
        taken since; stop the actors of the rest. Raises MetadataStoreError."""
        async for entry, _ in entries(self._store, self._keys.shards):
            self.table.on_put(entry)
        owner = self._owner()
        for place, record in list(self.table.items()):
            if record.owner.node == owner.node and record.owner.incarnation < owner.incarnation:
                await self._reclaim(place, record, owner)
        lost = await self.region.drop_lost()
        if lost:
            log.warning("%d sharded actors were stopped: their shards have other owners now", lost)

    async def _reclaim(self, place: Place, record: ShardRecord, owner: Owner) -> None:
        mine = ShardRecord(owner, record.epoch + 1)
        key = self._keys.shard(*place)
        outcome = await self._store.compare_and_set(key, record.revision, mine.encode())
        current = outcome.current.get(key)
        if outcome.succeeded:
            self.table.apply(place, replace(mine, revision=outcome.revision))
        elif current is not None:
            self.table.on_put(current)


def _names(kinds: Iterable[ActorType]) -> tuple[str, ...]:
    return tuple(kind.name for kind in kinds)
