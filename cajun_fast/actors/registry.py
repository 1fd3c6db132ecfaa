"""Names of actor types: what travels between nodes is the name, each node has the type.

Laws: a name means one type; a registry is an object, the module's own one is merely the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from cajun_fast.actors.props import NOTHING, Props, make_props
from cajun_fast.errors import ConfigError, UnknownActorTypeError

Target = TypeVar("Target", bound=Callable[..., Any])
MARK = "__cajun_actor__"
#: Between type and id in the id of a sharded actor.
SHARD_MARK = "#"
LONGEST_TYPE = 100


@dataclass(frozen=True, slots=True)
class ActorType:
    """A registered type: a class or a function, and how its actors run."""

    name: str
    target: Callable[..., Any]
    props: Props
    #: Its actors are found by the shard of their id and start with their first message: ``name#id``.
    sharded: bool = False
    #: What a node must offer to host its actors.
    roles: tuple[str, ...] = ()
    #: Seconds without a message after which a sharded actor ends; None: as the settings say; 0: never.
    passivate_after: float | None = None


class Registry:
    """Actor types by name."""

    def __init__(self) -> None:
        self._types: dict[str, ActorType] = {}
        #: Rises with each registration.
        self.version = 0

    def actor(
        self,
        name: str,
        *,
        sharded: bool = False,
        roles: Iterable[str] = (),
        passivate_after: float | None = None,
        **props: Any,
    ) -> Callable[[Target], Target]:
        """A decorator: ``name`` means the decorated class or function, on every node that imports it.

        ``sharded``: its actors need no registration: they start with their first message, on the node that owns
        the shard of their id (``system.sharded(name).pid(id)``); ``passivate_after`` seconds without a message
        end them, 0 never. ``roles``: only nodes that offer all of them host its actors. ``props`` are the
        defaults of its actors (``mailbox_capacity``, ``mailbox_policy``, ``supervision``).

        Raises ConfigError for an empty name, unknown props, or a name that means another type already.
        """
        given: object = name
        if not isinstance(given, str) or not given:
            raise ConfigError(f"actor type name {name!r} is no name: write @actor('some-name')")
        if sharded:
            check_sharded_name(name)
        needed = check_roles(name, roles)
        check_idle(name, sharded, passivate_after)
        try:
            made = make_props(**props)
        except TypeError as error:
            raise ConfigError(f"@actor({name!r}, …): {error}") from error

        def register(target: Target) -> Target:
            self.add(ActorType(name, target, made, sharded, needed, passivate_after))
            return target

        return register

    def add(self, kind: ActorType) -> None:
        """Register it; the same class again (its module was reloaded) takes the place of the earlier one."""
        known = self._types.get(kind.name)
        if known is not None and place_of(known.target) != place_of(kind.target):
            raise ConfigError(
                f"actor type name {kind.name!r} is taken by {place_of(known.target)}: "
                f"choose another one for {place_of(kind.target)}"
            )
        self._types[kind.name] = kind
        self.version += 1
        setattr(kind.target, MARK, kind)

    def lookup(self, name: str) -> ActorType:
        """The type of that name. Raises UnknownActorTypeError that names those that are known."""
        try:
            return self._types[name]
        except KeyError:
            known = ", ".join(sorted(self._types)) or "none"
            raise UnknownActorTypeError(
                f"no actor type {name!r} is registered here (known: {known}): decorate it with "
                f"@cajun_fast.actor({name!r}) and have its module imported (cajun-fast node --import MODULE)"
            ) from None

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._types)

    def types(self) -> list[ActorType]:
        """All types, in order of name."""
        return [self._types[name] for name in self.names()]


def check_sharded_name(name: str) -> None:
    """Raises ConfigError for a name that cannot stand before ``#`` in an id."""
    if SHARD_MARK in name or "/" in name or len(name.encode()) > LONGEST_TYPE:
        raise ConfigError(
            f"@actor({name!r}, sharded=True): the name stands in ids, as in {name!r} + '#42': leave out "
            f"{SHARD_MARK!r} and '/', and keep it below {LONGEST_TYPE} bytes"
        )


def check_roles(name: str, roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, sorted. Raises ConfigError for what is no list of names."""
    needed = (roles,) if isinstance(roles, str) else tuple(roles)
    if not all(isinstance(role, str) and role for role in needed):
        raise ConfigError(f"@actor({name!r}, roles={roles!r}): give names of roles, e.g. roles=('gpu',)")
    return tuple(sorted(set(needed)))


def check_idle(name: str, sharded: bool, seconds: object) -> None:
    """Raises ConfigError for a ``passivate_after`` that makes no sense."""
    if seconds is None:
        return
    if not sharded:
        raise ConfigError(
            f"@actor({name!r}, passivate_after={seconds!r}): only sharded actors start again by themselves: "
            "add sharded=True"
        )
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds < float("inf"):  # type: ignore[operator]
        raise ConfigError(f"@actor({name!r}, passivate_after={seconds!r}): give seconds, or 0 for never")


def place_of(target: Callable[..., Any]) -> str:
    """Where a type was written."""
    return f"{target.__module__}.{target.__qualname__}"


def type_of(target: Callable[..., Any]) -> ActorType | None:
    """What ``target`` itself was registered as, if it was; a base class does not count."""
    kind = vars(target).get(MARK) if hasattr(target, "__dict__") else None
    return kind if isinstance(kind, ActorType) else None


def type_props(target: Callable[..., Any]) -> Props:
    """The props of a registered type."""
    kind = type_of(target)
    return kind.props if kind is not None else NOTHING


registry = Registry()
actor = registry.actor
lookup = registry.lookup
