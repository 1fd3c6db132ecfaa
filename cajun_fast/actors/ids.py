"""Ids of actors: the rules for given ones, and strategies for generated ones.

Laws: chance comes from the generator that is handed in.
"""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable

from cajun_fast.errors import ConfigError

RESERVED = "cajun:"
LONGEST = 255

#: From the kind of an actor (the name of its type, in lower case) to a new id.
IdStrategy = Callable[[str], str]


def random_ids(generator: random.Random) -> IdStrategy:
    """``kind-<uuid>``: unique in the cluster without asking anybody."""
    return lambda kind: f"{kind}-{uuid.UUID(int=generator.getrandbits(128), version=4)}"


def counted_ids(prefix: str = "") -> IdStrategy:
    """``<prefix>kind-1``, ``-2``, …: short and predictable; unique in a cluster by a prefix for each node."""
    counter = itertools.count(1)
    return lambda kind: f"{prefix}{kind}-{next(counter)}"


def check_id(actor_id: object, *, reserved: bool = False) -> str:
    """The id, if it is one; ``reserved``: the engine's own too. Raises ConfigError naming the rule it breaks."""
    if not isinstance(actor_id, str):
        raise ConfigError(f"actor id {actor_id!r} is a {type(actor_id).__name__}: give a str")
    if not actor_id:
        raise ConfigError("an actor id must not be empty: give one, or None to have one made")
    try:
        size = len(actor_id.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"actor id {actor_id!r} is no valid text: it cannot be encoded as UTF-8") from None
    if size > LONGEST:
        raise ConfigError(
            f"actor id {actor_id[:40]!r}… takes {size} bytes, the limit is {LONGEST}: shorten it"
        )
    if actor_id.startswith(RESERVED) and not reserved:
        raise ConfigError(
            f"actor id {actor_id!r} is reserved: ids that start with {RESERVED!r} are the engine's own"
        )
    return actor_id
