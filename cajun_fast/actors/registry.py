"""Names of actor types: what travels between nodes is the name, each node has the type.

Laws: a name means one type; a registry is an object, the module's own one is merely the default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cajun_fast.actors.props import NOTHING, Props, make_props
from cajun_fast.errors import ConfigError, UnknownActorTypeError

Target = TypeVar("Target", bound=Callable[..., Any])
MARK = "__cajun_actor__"


@dataclass(frozen=True, slots=True)
class ActorType:
    """A registered type: a class or a function, and how its actors run."""

    name: str
    target: Callable[..., Any]
    props: Props


class Registry:
    """Actor types by name."""

    def __init__(self) -> None:
        self._types: dict[str, ActorType] = {}

    def actor(self, name: str, **props: Any) -> Callable[[Target], Target]:
        """A decorator: ``name`` means the decorated class or function, on every node that imports it.

        ``props`` are the defaults of its actors (``mailbox_capacity``, ``mailbox_policy``, ``supervision``).
        Raises ConfigError for an empty name, unknown props, or a name that means another type already.
        """
        given: object = name
        if not isinstance(given, str) or not given:
            raise ConfigError(f"actor type name {name!r} is no name: write @actor('some-name')")
        try:
            made = make_props(**props)
        except TypeError as error:
            raise ConfigError(f"@actor({name!r}, …): {error}") from error

        def register(target: Target) -> Target:
            self.add(ActorType(name, target, made))
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
