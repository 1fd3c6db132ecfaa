"""Serializers: what turns messages into bytes. Both that come with the package speak the same msgpack bytes.

    "msgpack"          the compiled codec: writes straight into a link's buffer, reads in place (the default)
    "msgpack-python"   the msgpack package

msgspec is used where it is installed to check the field types of typed messages (see types.py); as a serializer of
whole messages it would need a bytes object for each, which costs more than its encoder gains.

Laws: no serializer here runs code that a message names. Your own needs ``encode(message) -> bytes`` and
``decode(bytes) -> message``, both of which raise SerializationError for what they cannot do.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import msgpack

from cajun_fast._core.codec import Codec, Foreign
from cajun_fast._core.codec import Serializer as CompiledSerializer
from cajun_fast._core.lane import Exchange
from cajun_fast.errors import ConfigError, SerializationError
from cajun_fast.messaging.types import DEFAULT_TYPES, MessageTypes

NAMES = ("msgpack", "msgpack-python")


@runtime_checkable
class Serializer(Protocol):
    """What a serializer of one's own must do."""

    def encode(self, message: Any) -> bytes: ...

    def decode(self, data: bytes) -> Any: ...


def make_serializer(
    choice: str | Serializer, exchange: Exchange, types: MessageTypes = DEFAULT_TYPES
) -> CompiledSerializer:
    """The serializer of that name, or around an object of one's own. Raises ConfigError for anything else."""
    if isinstance(choice, str):
        if choice == "msgpack":
            return make_codec(exchange, types)
        if choice == "msgpack-python":
            return Foreign(_MsgpackPackage(make_codec(exchange, types)))
        raise ConfigError(
            f"serializer {choice!r} is not known: choose one of {', '.join(NAMES)}, or pass an object"
        )
    if isinstance(choice, Serializer):
        return Foreign(choice)
    raise ConfigError(f"{choice!r} is no serializer: it needs encode(message) and decode(bytes)")


def make_codec(
    exchange: Exchange | None, types: MessageTypes = DEFAULT_TYPES, *, max_depth: int = 64
) -> Codec:
    """The compiled codec, with registered types."""
    codec = Codec(exchange, max_depth=max_depth)
    codec.hooks(types.plain(codec), types.typed(codec))
    return codec


class _MsgpackPackage:
    """The msgpack package; what it does not know by itself goes through the codec's extension types."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, message: Any) -> bytes:
        packed: bytes = msgpack.packb(message, default=self._extend, datetime=True)
        return packed

    def decode(self, data: bytes) -> Any:
        return msgpack.unpackb(data, ext_hook=self._restore, strict_map_key=False, timestamp=3)

    def _extend(self, value: Any) -> msgpack.ExtType:
        return msgpack.ExtType(*_extension(self._codec, value))

    def _restore(self, code: int, data: bytes) -> Any:
        return self._codec.decode(msgpack.packb(msgpack.ExtType(code, data)))


def _extension(codec: Codec, value: Any) -> tuple[int, bytes]:
    """Code and payload of a value that only the codec knows."""
    ext = msgpack.unpackb(codec.encode(value))
    if isinstance(ext, msgpack.ExtType):
        return ext.code, ext.data
    raise SerializationError(f"{type(value).__qualname__} cannot travel")
