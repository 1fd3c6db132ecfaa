"""How one actor's instance is made, again at each restart.

Laws: what is true of a type is found out once per type; a Recipe adds what one spawn gave.
"""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from collections.abc import Callable
from typing import Any

from cajun_fast.actors.actor import Actor
from cajun_fast.actors.props import MailboxPolicy, Props
from cajun_fast.actors.supervision import Supervision
from cajun_fast.errors import ConfigError

HOOKS = ("pre_start", "post_stop", "pre_restart")
Receive = Callable[..., Any]


class Kind:
    """What a class or function is, as an actor."""

    __slots__ = ("__weakref__", "durable", "hooks", "is_async", "is_class", "name", "unbound")

    def __init__(self, target: Any) -> None:
        self.is_class = inspect.isclass(target)
        self.name = getattr(target, "__name__", type(target).__name__).strip("<>").lower()
        receive = getattr(target, "receive", None) if self.is_class else target
        check_target(target, receive)
        self.is_async = is_coroutine_function(receive)
        #: Whether receive may be called with the instance in front, so that no bound method needs to be kept.
        self.unbound = self.is_class and isinstance(receive, types.FunctionType)
        self.hooks = frozenset(name for name in HOOKS if self.is_class and overrides(target, name))
        self.durable = is_durable_type(target)
        if self.durable:
            check_durable(target)


def is_durable_type(target: Any) -> bool:
    """Whether actors of that class are durable; functions never are."""
    return inspect.isclass(target) and bool(getattr(target, "durable", False))


def check_target(target: Any, receive: Any) -> None:
    """Raises ConfigError for what cannot be an actor."""
    if isinstance(target, Actor):
        name = type(target).__name__
        raise ConfigError(
            f"spawn makes the instance itself: give the class {name} and its arguments, not {target!r}"
        )
    if not callable(target):
        raise ConfigError(
            f"{target!r} cannot be an actor: give a class with receive(), or a function(message, context)"
        )
    if not callable(receive):
        raise ConfigError(
            f"class {target.__name__} cannot be an actor: it has no receive(self, message, context)"
        )
    if inspect.isclass(target) and inspect.isabstract(target):
        raise ConfigError(f"class {target.__name__} is abstract: spawn a class that implements it")


def check_durable(target: type) -> None:
    """Raises ConfigError for a durable class that cannot say its state."""
    needed = ["get_state", "set_state", *(["apply"] if getattr(target, "journaled", False) else [])]
    missing = [name for name in needed if not overrides(target, name)]
    if missing:
        raise ConfigError(
            f"class {target.__name__} is durable but has no {' and no '.join(missing)}: write them"
        )
    for name in ("state_version", "snapshot_every"):
        value = getattr(target, name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"class {target.__name__} has {name} = {value!r}: give a whole number from 1")


def overrides(target: type, name: str) -> bool:
    """Whether the class has a method of that name that is not the empty one of Actor."""
    method = getattr(target, name, None)
    return method is not None and method is not getattr(Actor, name)


def is_coroutine_function(function: Any) -> bool:
    """Whether a call gives a coroutine; looks through partials and at callable objects."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or (
        not inspect.isroutine(function)
        and not inspect.isclass(function)
        and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - its kind is the question
    )


_kinds: weakref.WeakKeyDictionary[Any, Kind] = weakref.WeakKeyDictionary()


def kind_of(target: Any) -> Kind:
    """What ``target`` is. Raises ConfigError for what cannot be an actor."""
    try:
        kind = _kinds.get(target)
        if kind is None:
            kind = _kinds[target] = Kind(target)
    except TypeError:  # cannot be hashed or referred to weakly
        kind = Kind(target)
    return kind


class Recipe:
    """How to make one actor."""

    __slots__ = ("__weakref__", "args", "kind", "kwargs", "props", "target")

    def __init__(
        self, target: Any, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any], props: Props
    ) -> None:
        if args and not kind.is_class:
            raise ConfigError(
                f"function {kind.name!r} is called with (message, context): give it {args!r} by keyword"
            )
        self.target = target
        self.kind = kind
        self.args = args
        self.kwargs = kwargs or None
        self.props = props

    @property
    def is_async(self) -> bool:
        return self.kind.is_async

    @property
    def mailbox_capacity(self) -> int:
        capacity = self.props.mailbox_capacity
        assert capacity is not None
        return capacity

    @property
    def mailbox_policy(self) -> MailboxPolicy:
        policy = self.props.mailbox_policy
        assert policy is not None
        return policy

    @property
    def supervision(self) -> Supervision:
        supervision = self.props.supervision
        assert supervision is not None
        return supervision

    def make(self) -> tuple[Any, Receive, bool]:
        """A fresh (instance, receive, whether receive is called without it). Raises what its code raises."""
        if not self.kind.is_class:
            return None, functools.partial(self.target, **self.kwargs) if self.kwargs else self.target, True
        instance = self.target(*self.args, **(self.kwargs or {}))
        receive: Receive = instance.receive
        # Not by its __dict__: an instance that was asked for that reads its attributes more slowly for ever.
        of_its_class = self.kind.unbound and getattr(receive, "__func__", None) is self.target.receive
        return (instance, self.target.receive, False) if of_its_class else (instance, receive, True)
