"""Serializers and typed messages: same bytes, types by name, clear errors at both ends."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import msgpack
import msgspec
import pytest

from cajun_fast.errors import ConfigError, SerializationError
from cajun_fast.messaging.serializer import make_codec, make_serializer
from cajun_fast.messaging.types import MessageTypes, message

TYPES = MessageTypes()


@message("point", types=TYPES)
@dataclass
class Point:
    x: int
    y: int = 0


@message("line", types=TYPES)
class Line(msgspec.Struct):
    ends: list[Point]
    label: str = ""


def serializer(choice: Any = "msgpack", types: MessageTypes = TYPES) -> Any:
    return make_serializer(choice, None, types)  # type: ignore[arg-type]


MESSAGES = [
    {"id": 7, "op": "add", "v": 1.5, "tag": "x" * 32, "deep": [1, [2, {"a": None}]], "raw": b"\x00\xff"},
    Point(1, 2),
    {"to": Line([Point(1), Point(2, 3)], "ä"), "at": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)},
    {1, 2, 3},
    -(2**80),
]


@pytest.mark.parametrize("choice", ["msgpack", "msgpack-python"])
@pytest.mark.parametrize("value", MESSAGES[:4], ids=repr)
def test_what_one_serializer_writes_each_of_them_reads(choice: str, value: Any) -> None:
    data = serializer(choice).encode(value)
    assert data == serializer("msgpack").encode(value)
    assert serializer("msgpack").decode(data) == serializer("msgpack-python").decode(data) == value


def test_an_integer_of_any_size_travels() -> None:
    assert serializer().decode(serializer().encode(MESSAGES[4])) == MESSAGES[4]


def test_a_type_nobody_registered_is_refused_where_it_is_sent() -> None:
    with pytest.raises(SerializationError, match=r"@cajun_fast\.message"):
        serializer().encode({"it": object()})


def test_a_type_not_registered_at_the_receiver_is_named_with_the_remedy() -> None:
    data = serializer().encode(Point(1))
    with pytest.raises(SerializationError, match=r"'point'.*--import"):
        serializer(types=MessageTypes()).decode(data)


def test_a_field_with_a_default_may_be_missing_and_an_unknown_one_is_passed_over() -> None:
    codec = make_codec(None, TYPES)
    assert codec.decode(
        msgpack.packb(msgpack.ExtType(2, codec.encode(["point", {"x": 4, "new": 1}])))
    ) == Point(4)


def test_a_field_of_the_wrong_type_is_told() -> None:
    codec = make_codec(None, TYPES)
    with pytest.raises(SerializationError, match="point"):
        codec.decode(msgpack.packb(msgpack.ExtType(2, codec.encode(["point", {"x": "no"}]))))


def test_a_message_that_contains_itself_is_refused() -> None:
    line = Line([])
    line.ends.append(line)  # type: ignore[arg-type]
    with pytest.raises(SerializationError):
        serializer().encode(line)


def test_two_types_cannot_share_a_name() -> None:
    with pytest.raises(ConfigError, match="point"):

        @message("point", types=TYPES)
        @dataclass
        class Other:
            z: int


def test_only_classes_with_fields_can_be_registered() -> None:
    with pytest.raises(ConfigError, match="dataclass"):
        TYPES.register(int, "number")


def test_a_serializer_of_ones_own_plugs_in() -> None:
    class Upper:
        def encode(self, value: str) -> bytes:
            return value.upper().encode()

        def decode(self, data: bytes) -> str:
            return data.decode()

    assert serializer(Upper()).decode(serializer(Upper()).encode("hi")) == "HI"


@pytest.mark.parametrize("choice", ["pickle", 7])
def test_an_unknown_serializer_is_refused_by_name(choice: Any) -> None:
    with pytest.raises(ConfigError, match=str(choice)):
        serializer(choice)
