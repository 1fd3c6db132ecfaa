"""Typed messages: classes that travel under a registered name.

    @cajun_fast.message("transfer")
    @dataclass
    class Transfer: ...

Laws: only registered types travel, by name; the far side builds the class that *it* has registered under the name. A
dataclass or a msgspec.Struct, by its fields as a map, so that a field with a default may be added on one side first.
With msgspec installed, field types are checked on arrival.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from cajun_fast._core.codec import Codec
from cajun_fast.errors import ConfigError, SerializationError

try:
    import msgspec
except ImportError:  # an extra
    msgspec = None  # type: ignore[assignment]

T = TypeVar("T", bound=type)

EXT_TYPED = 2  # ExtCode in _core/codec.pxd


class MessageTypes:
    """Names and classes of messages, both ways."""

    def __init__(self) -> None:
        self._by_name: dict[str, type] = {}
        self._names: dict[type, str] = {}

    def register(self, cls: type, name: str) -> None:
        """Let instances of ``cls`` travel as ``name``. Raises ConfigError for another kind or a name in use."""
        if not (dataclasses.is_dataclass(cls) or _is_struct(cls)):
            raise ConfigError(
                f"{cls.__qualname__} is neither a dataclass nor a msgspec.Struct: make it one of them"
            )
        known = self._by_name.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigError(
                f"message name {name!r} belongs to {known.__module__}.{known.__qualname__}: choose another"
            )
        self._by_name[name] = cls
        self._names[cls] = name

    def plain(self, codec: Codec) -> Callable[[Any], tuple[int, bytes] | None]:
        """For a codec: the (code, payload) of an instance, or None for a type that is not registered."""

        def encode(value: Any) -> tuple[int, bytes] | None:
            name = self._names.get(type(value))
            if name is None:
                return None
            try:
                return EXT_TYPED, codec.encode([name, _fields(value)])
            except RecursionError as error:
                raise SerializationError(f"a {name!r} message contains itself") from error

        return encode

    def typed(self, codec: Codec) -> Callable[[bytes], Any]:
        """For a codec: the instance of a payload."""

        def decode(payload: bytes) -> Any:
            match codec.decode(payload):
                case [str(name), dict(fields)]:
                    return self._build(name, fields)
            raise SerializationError("a typed message is a name and its fields")

        return decode

    def _build(self, name: str, fields: dict[str, Any]) -> Any:
        cls = self._by_name.get(name)
        if cls is None:
            raise SerializationError(
                f"message type {name!r} is not registered on this node: import the module that defines it "
                f"(--import); known here: {', '.join(sorted(self._by_name)) or 'none'}"
            )
        try:
            if msgspec is not None:
                return msgspec.convert(fields, cls)
            known = {each.name for each in dataclasses.fields(cls)}
            return cls(**{key: value for key, value in fields.items() if key in known})
        except (TypeError, ValueError) as error:  # msgspec.ValidationError is a ValueError
            raise SerializationError(f"no {name!r} message can be made of its fields: {error}") from error


def message(name: str, *, types: MessageTypes | None = None) -> Callable[[T], T]:
    """Class decorator: instances travel between nodes under ``name``. Raises ConfigError as MessageTypes.register."""
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a message type needs a name, got {name!r}: use @cajun_fast.message('name')")

    def register(cls: T) -> T:
        (types or DEFAULT_TYPES).register(cls, name)
        return cls

    return register


def _is_struct(cls: type) -> bool:
    return msgspec is not None and issubclass(cls, msgspec.Struct)


def _fields(value: Any) -> dict[str, Any]:
    names = getattr(value, "__struct_fields__", None)
    if names is None:
        names = [each.name for each in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names}


#: Where @message registers unless told otherwise: modules register at import, before any system exists.
DEFAULT_TYPES = MessageTypes()
