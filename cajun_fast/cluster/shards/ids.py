"""Ids of sharded actors: ``type#entity``, so that whoever reads an id knows that it is sharded, and of what type.

Laws: pure; the same answer on every node and in every version. A shard is that of the whole id, so that the actors
of two types with equal entity ids do not all lie together. Children of a sharded actor lie where it lies.
"""

from __future__ import annotations

from cajun_fast._core.rendezvous import shard_of
from cajun_fast.actors.ids import check_id
from cajun_fast.actors.registry import SHARD_MARK
from cajun_fast.errors import ConfigError


def sharded_id(type_name: str, entity: object) -> str:
    """The id of an entity. Raises ConfigError for one that is empty, too long, no text, or holds a slash."""
    if not isinstance(entity, str) or not entity:
        raise ConfigError(
            f"entity id {entity!r} of sharded type {type_name!r} is no text: give a str, e.g. '42'"
        )
    if "/" in entity:
        raise ConfigError(
            f"entity id {entity!r} of sharded type {type_name!r} holds a '/', which stands before a child's name: "
            "leave it out, or percent-encode it"
        )
    return check_id(f"{type_name}{SHARD_MARK}{entity}")


def is_sharded(actor_id: str) -> bool:
    return SHARD_MARK in actor_id.partition("/")[0]


def root_of(actor_id: str) -> str:
    """The sharded actor itself, for one of its descendants too."""
    return actor_id.partition("/")[0]


def type_of_id(actor_id: str) -> str:
    return actor_id.partition(SHARD_MARK)[0]


def place_of(actor_id: str, shard_count: int) -> tuple[str, int]:
    """Type and shard."""
    root = root_of(actor_id)
    return type_of_id(root), shard_of(root, shard_count)


def check_unsharded(actor_id: str) -> str:
    """The id, unless it is a sharded one: those are never registered. Raises ConfigError."""
    if is_sharded(actor_id):
        kind, _, entity = root_of(actor_id).partition(SHARD_MARK)
        raise ConfigError(
            f"actor id {actor_id!r} is that of a sharded actor, which starts with its first message and is never "
            f"registered: send to system.sharded({kind!r}).pid({entity!r}), or choose an id without {SHARD_MARK!r}"
        )
    return actor_id
