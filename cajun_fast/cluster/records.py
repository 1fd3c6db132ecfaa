"""What the cluster writes into the metadata store, as bytes and back.

Laws: msgpack maps with short text keys; a reader ignores keys it does not know and fills in what is missing,
so that versions can meet on one store; a value that is no record is ProtocolError, never a crash of a watch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack

from cajun_fast.config import NodeAddress
from cajun_fast.errors import ProtocolError

#: The wire protocol that this version speaks, for the node record; links negotiate by themselves.
PROTOCOL = 1


class Owner(NamedTuple):
    """One life of a node: what owns an actor."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A living node, under its lease. ``leaving``: it goes in order, so nobody needs evidence of its death."""

    node: str
    incarnation: int
    address: NodeAddress
    path: str | None = None
    version: str = ""
    protocol: int = PROTOCOL
    client: bool = False
    roles: tuple[str, ...] = ()
    actors: int = 0
    leaving: bool = False
    cordoned: bool = False
    #: Somebody does not hear it and asks whether it lives: it answers by writing its record anew. See ``detector``.
    suspected: bool = False
    #: Actor types that may be started here: registered, and this node offers the roles that they ask for.
    types: tuple[str, ...] = ()
    #: Those of them that are sharded.
    sharded: tuple[str, ...] = ()
    #: Those of the sharded ones that are durable. A node that says nothing of it may have some all the same.
    durable: tuple[str, ...] = ()

    @property
    def owner(self) -> Owner:
        return Owner(self.node, self.incarnation)

    @property
    def hosts(self) -> bool:
        """Whether new actors may be placed here."""
        return not (self.client or self.leaving or self.cordoned or self.suspected)

    def encode(self) -> bytes:
        return _pack(
            {
                "inc": self.incarnation,
                "host": self.address.host,
                "port": self.address.port,
                "path": self.path,
                "ver": self.version,
                "proto": self.protocol,
                "client": self.client,
                "roles": list(self.roles),
                "actors": self.actors,
                "leaving": self.leaving,
                "cordoned": self.cordoned,
                "suspected": self.suspected,
                "types": list(self.types),
                "sharded": list(self.sharded),
                "durable": list(self.durable),
            }
        )

    @staticmethod
    def decode(node: str, value: bytes) -> NodeRecord:
        try:
            tree = _unpack(value)
            return NodeRecord(
                node=node,
                incarnation=int(tree["inc"]),
                address=NodeAddress(str(tree["host"]), int(tree["port"])),
                path=tree.get("path"),
                version=str(tree.get("ver", "")),
                protocol=int(tree.get("proto", PROTOCOL)),
                client=bool(tree.get("client", False)),
                roles=tuple(tree.get("roles", ())),
                actors=int(tree.get("actors", 0)),
                leaving=bool(tree.get("leaving", False)),
                cordoned=bool(tree.get("cordoned", False)),
                suspected=bool(tree.get("suspected", False)),
                types=tuple(map(str, tree.get("types", ()))),
                sharded=tuple(map(str, tree.get("sharded", ()))),
                durable=tuple(map(str, tree.get("durable", ()))),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ProtocolError(f"the record of node {node!r} cannot be read: {exc!r}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorRecord:
    """Who owns an actor, and how it is started.

    ``epoch`` counts changes of owner; ``claim`` is unique within the owner's life, so that a claim whose
    answer was lost can be recognised as one's own. ``type`` is None where no other node could start it;
    ``arguments`` are encoded.
    """

    owner: Owner
    claim: int
    epoch: int = 1
    type: str | None = None
    arguments: bytes = b""
    #: Whoever sends to it numbers from the first message on. False: it is not, or an earlier version wrote this.
    durable: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        return _pack(
            {
                **self.extra,
                **({"durable": True} if self.durable else {}),
                "node": self.owner.node,
                "inc": self.owner.incarnation,
                "claim": self.claim,
                "epoch": self.epoch,
                "type": self.type,
                "args": self.arguments,
            }
        )

    @staticmethod
    def decode(actor_id: str, value: bytes) -> ActorRecord:
        try:
            tree = _unpack(value)
            return ActorRecord(
                owner=Owner(str(tree.pop("node")), int(tree.pop("inc"))),
                claim=int(tree.pop("claim")),
                epoch=int(tree.pop("epoch")),
                type=tree.pop("type", None),
                arguments=bytes(tree.pop("args", b"")),
                durable=bool(tree.pop("durable", False)),
                extra=tree,
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ProtocolError(f"the record of actor {actor_id!r} cannot be read: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class LeaderRecord:
    """Who leads; every write of a leader compares the revision of this record."""

    owner: Owner
    token: int

    def encode(self) -> bytes:
        return _pack({"node": self.owner.node, "inc": self.owner.incarnation, "token": self.token})

    @staticmethod
    def decode(value: bytes) -> LeaderRecord:
        try:
            tree = _unpack(value)
            return LeaderRecord(Owner(str(tree["node"]), int(tree["inc"])), int(tree["token"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise ProtocolError(f"the leader's record cannot be read: {exc!r}") from exc


def encode_count(count: int) -> bytes:
    return b"%d" % count


def decode_count(value: bytes) -> int:
    """A counter's value; a damaged one is an error, for counting anew would hand out an incarnation twice."""
    try:
        return int(value)
    except ValueError as exc:
        raise ProtocolError(f"a counter holds {value!r:.80}, which is no number") from exc


def _pack(tree: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(tree)
    return packed


def _unpack(value: bytes) -> dict[str, Any]:
    try:
        tree = msgpack.unpackb(value)
    except Exception as exc:  # msgpack raises errors of many kinds, some without a common base
        raise ValueError(f"not msgpack: {exc}") from exc
    if not isinstance(tree, dict):
        raise ValueError(f"not a map but {type(tree).__name__}")
    return tree
