"""The system actor ``cajun:host@<node>``: spawn, stop and adopt on behalf of other nodes.

Laws: it starts only types that are registered by name here. Answers are data, errors too: the asking node
turns them back into this package's errors, so that who asked reads the same text wherever it went wrong. An
adoption is refused unless the lost owner is surely gone, whoever asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from cajun_fast._core.lane import Exchange, Pid
from cajun_fast.actors.recipe import is_durable_type
from cajun_fast.actors.registry import ActorType
from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.errands import Errands
from cajun_fast.cluster.hold import Hold
from cajun_fast.cluster.hosting import Arguments, Hosting, describe
from cajun_fast.cluster.promises import Collector
from cajun_fast.cluster.records import ActorRecord, NodeRecord, Owner
from cajun_fast.errors import (
    ActorAlreadyExistsError,
    ActorNotFoundError,
    CajunError,
    ConfigError,
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
    NodeUnavailableError,
    NotRunningError,
    PersistenceUnavailableError,
    ProtocolError,
    RemoteActorError,
    SerializationError,
    UnknownActorTypeError,
)
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Compare, MetadataStore

#: Errors that travel by name; what is not here arrives as RemoteActorError.
TRAVELLING: Mapping[str, type[CajunError]] = {
    kind.__name__: kind
    for kind in (
        ActorNotFoundError,
        ConfigError,
        LeaseLostError,
        MetadataStoreError,
        MetadataStoreUnavailableError,
        NodeUnavailableError,
        SerializationError,
        UnknownActorTypeError,
    )
}
#: Outcomes of one actor's adoption.
ADOPTED, TAKEN, UNKNOWN_TYPE, FAILED, LATER = "adopted", "taken", "unknown-type", "failed", "later"
#: Actors that are taken over at the same time: as many as the claims that the registrar has under way, or its batches
#: would not be full.
STARTS_AT_ONCE = 256


def host_id(node_id: str) -> str:
    """Id of a node's host actor."""
    return f"cajun:host@{node_id}"


class TypeLookup(Protocol):
    """What is needed of the registry of actor types."""

    def lookup(self, name: str) -> Any: ...


class Host:
    """The handler; see the module's laws."""

    def __init__(
        self,
        node_id: str,
        hosting: Hosting,
        types: TypeLookup,
        arguments: Arguments,
        store: MetadataStore,
        keys: KeySpace,
        *,
        is_client: bool,
        resign: Callable[[], bool],
        hold: Hold,
        promises: Collector | None = None,
        offers: Callable[[ActorType], bool] = lambda kind: True,
        shards: Callable[[Mapping[str, Any], Any], Awaitable[Any]] | None = None,
        is_cordoned: Callable[[], bool] = lambda: False,
    ) -> None:
        """``offers``: whether this node has the roles that a type asks for. ``shards``: answers requests about
        shards.
        """
        self._node_id = node_id
        self._hosting = hosting
        self._types = types
        self._arguments = arguments
        self._store = store
        self._keys = keys
        self._is_client = is_client
        self._resign = resign
        self._hold = hold
        self._promises = promises
        self._offers = offers
        self._shards = shards
        self._is_cordoned = is_cordoned
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        #: Spawns, stops and adoptions under way: their claims share batches.
        self.errands = Errands(f"host {node_id}", encode_error)
        #: Promises wait for nothing of that: in an outage it may be full of claims.
        self._promising = Errands(f"promises of {node_id}", encode_error)

    async def stop(self) -> None:
        """Cancel what is under way: its askers hear that nobody answers."""
        await self.errands.stop()
        await self._promising.stop()
        if self._promises is not None:
            await self._promises.stop()

    async def receive(self, message: Any, context: Any) -> Any:
        """One request: a map with ``op``; answers a map with ``ok`` or ``error``."""
        try:
            match message:
                case {"op": "spawn", "type": str(name), "id": str(actor_id), "args": bytes(data)}:
                    work = self._spawn(name, actor_id, data)
                    await self.errands.begin(actor_id, work, context.reply_later())
                case {"op": "stop", "id": str(actor_id)}:
                    await self.errands.begin(actor_id, self._stop(actor_id), context.reply_later())
                case {"op": "adopt", "actors": list(actors)}:
                    await self.errands.begin("", self._adopt_all(actors), context.reply_later())
                case {"op": "promise" | "promises" | "promise-each"}:
                    await self._promising.begin("", self._promise(message), context.reply_later())
                case {"op": "shard-move" | "shard-prepare"} if self._shards is not None:
                    return await self._shards(message, context)
                case {"op": "resign"}:
                    return {"ok": self._resign()}
                case _:
                    raise ProtocolError(f"node {self._node_id!r} does not know the request {message!r:.200}")
        except Exception as error:  # the answer to whoever asked; nothing is swallowed
            return encode_error(error)

    async def _stop(self, actor_id: str) -> dict[str, Any]:
        return {"ok": await self._hosting.end(actor_id)}

    async def _promise(self, message: Mapping[str, Any]) -> dict[str, Any]:
        match message:
            case {"op": "promise", "node": str(node), "incarnation": int(incarnation)}:
                return {"ok": await self._hold.promise(Owner(node, incarnation))}
            case {"op": "promises", "node": str(node), "incarnation": int(incarnation)} if self._promises:
                return {"ok": await self._promises.collect(Owner(node, incarnation))}
            case {"op": "promise-each", "askers": list(askers)}:
                owners = [Owner(str(node), int(incarnation)) for node, incarnation in askers]
                return {"ok": await self._hold.promise_each(owners)}
        raise ProtocolError(f"not a request for promises: {message!r:.200}")

    def type_of(self, name: str) -> Any:
        """The class or function; raises UnknownActorTypeError naming this node and the remedy."""
        try:
            kind: ActorType = self._types.lookup(name)
        except UnknownActorTypeError as exc:
            raise UnknownActorTypeError(
                f"actor type {name!r} is not registered on node {self._node_id!r} ({exc}): start that node "
                "with the "
                f"module that defines it, e.g. cajun-fast node --import my.module"
            ) from exc
        if not self._offers(kind):
            raise UnknownActorTypeError(
                f"actor type {name!r} asks for roles {list(kind.roles)}, which node {self._node_id!r} does not "
                "offer: choose another node, or give that one the roles"
            )
        return kind.target

    async def _spawn(self, name: str, actor_id: str, data: bytes) -> dict[str, Any]:
        if self._is_client:
            raise ConfigError(f"node {self._node_id!r} is a client and hosts no actors: choose another node")
        if self._is_cordoned():
            raise NodeUnavailableError(
                f"node {self._node_id!r} is cordoned and takes no new actors: choose another node",
                self._node_id,
            )
        target = self.type_of(name)
        args, kwargs = self._arguments.decode(data)
        await self._hosting.host(target, name, actor_id, tuple(args), kwargs)
        return {"ok": True}

    # ---- adopting

    async def _adopt_all(self, actors: list[Any]) -> dict[str, Any]:
        standings = [self._standing(each) for each in actors]
        owners = {standing.record.owner for standing in standings}
        evidence = {owner: await self._evidence(owner) for owner in owners}
        work = (self._adopt(standing, evidence[standing.record.owner]) for standing in standings)
        return {"ok": [list(result) for result in await asyncio.gather(*work)]}

    def _standing(self, item: Any) -> Standing:
        match item:
            case [str(actor_id), int(revision), bytes(value)]:
                return Standing(actor_id, ActorRecord.decode(actor_id, value), revision)
        raise ProtocolError(f"not an actor to adopt: {item!r:.200}")

    async def _evidence(self, owner: Owner) -> Compare | None:
        """What must still hold when an actor of this owner is claimed: its record is absent, or of a later
        life.
        """
        key = self._keys.node(owner.node)
        entry = await self._store.get(key)
        if entry is None:
            return Compare(key, 0)
        record = NodeRecord.decode(owner.node, entry.value)
        return Compare(key, entry.revision) if record.incarnation > owner.incarnation else None

    async def _adopt(self, standing: Standing, evidence: Compare | None) -> tuple[str, str, str]:
        actor_id, type_name = standing.actor_id, standing.record.type
        if self._hold.has_promised:
            return actor_id, LATER, f"node {self._node_id!r} has promised to take nothing for a while"
        if evidence is None:
            return actor_id, LATER, f"node {standing.record.owner.node!r} lives"
        if self._is_cordoned():
            return actor_id, LATER, f"node {self._node_id!r} is cordoned"
        if self._is_client or type_name is None:
            return actor_id, UNKNOWN_TYPE, f"node {self._node_id!r} cannot host it"
        try:
            target = self.type_of(type_name)
            async with self._starts:
                await self._hosting.adopt(standing, target, (evidence,))
        except UnknownActorTypeError as error:
            return actor_id, UNKNOWN_TYPE, str(error)
        except (ActorAlreadyExistsError, ActorNotFoundError) as error:
            return actor_id, TAKEN, str(error)
        except (
            LeaseLostError,
            MetadataStoreError,
            NotRunningError,
            PersistenceUnavailableError,
        ) as error:
            return actor_id, LATER, str(error)
        except Exception as error:  # of the actor's own start: told to the leader
            cannot = is_durable_type(target) and isinstance(
                error, ConfigError
            )  # no persistence here, or older code
            return actor_id, UNKNOWN_TYPE if cannot else FAILED, describe(error)
        return actor_id, ADOPTED, ""


def encode_error(error: Exception) -> dict[str, Any]:
    """An error as data."""
    detail: dict[str, Any] = {"kind": type(error).__name__, "text": str(error)}
    if isinstance(error, ActorAlreadyExistsError):
        detail |= {"id": error.actor_id, "node": error.node}
    return {"error": detail}


def decode_answer(answer: Any, asked: Pid) -> Any:
    """What ``ok`` holds; or raises the error that the answer holds."""
    match answer:
        case {"ok": value}:
            return value
        case {"error": {"kind": "ActorAlreadyExistsError", "id": str(actor_id), "node": str(node)}}:
            raise ActorAlreadyExistsError(actor_id, node)
        case {"error": {"kind": str(kind), "text": str(text)}}:
            if kind in TRAVELLING:
                raise TRAVELLING[kind](text)
            raise RemoteActorError(asked.id, kind, text, node=asked.id.rpartition("@")[2])
    raise ProtocolError(f"{asked.id!r} gave an answer that cannot be read: {answer!r:.200}")


async def ask_to_adopt(
    exchange: Exchange, node: str, actors: Sequence[Standing], timeout: float
) -> list[tuple[str, str, str]]:
    """Have a node take over actors: id, outcome and text for each. Raises what the ask or the node raises."""
    pid = exchange.pid(host_id(node))
    items = [[each.actor_id, each.revision, each.record.encode()] for each in actors]
    outcomes = decode_answer(await pid.ask({"op": "adopt", "actors": items}, timeout=timeout), pid)
    try:
        return [(str(actor_id), str(outcome), str(text)) for actor_id, outcome, text in outcomes]
    except (TypeError, ValueError) as exc:
        raise ProtocolError(f"{pid.id!r} gave an answer that cannot be read: {outcomes!r:.200}") from exc


async def ask_for_promise(exchange: Exchange, node: str, asker: Owner, timeout: float) -> bool:
    """Whether a node promises ``asker`` to take nothing from anybody for a while: see ``hold``."""
    pid = exchange.pid(host_id(node))
    request = {"op": "promise", "node": asker.node, "incarnation": asker.incarnation}
    return bool(decode_answer(await pid.ask(request, timeout=timeout), pid))


async def ask_for_all_promises(exchange: Exchange, node: str, asker: Owner, timeout: float) -> list[str]:
    """Have a node ask everybody on behalf of ``asker``: who has promised. See ``promises``."""
    pid = exchange.pid(host_id(node))
    request = {"op": "promises", "node": asker.node, "incarnation": asker.incarnation}
    return [str(name) for name in decode_answer(await pid.ask(request, timeout=timeout), pid)]


async def ask_for_each_promise(
    exchange: Exchange, node: str, askers: Sequence[Owner], timeout: float
) -> list[bool]:
    """What a node promises to each of several."""
    pid = exchange.pid(host_id(node))
    request = {"op": "promise-each", "askers": [list(asker) for asker in askers]}
    return [bool(answer) for answer in decode_answer(await pid.ask(request, timeout=timeout), pid)]
