"""Nesting is bounded, through registered types too: a message of a member cannot exhaust the stack of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.messaging.serializer import make_codec
from cajun_fast.messaging.types import MessageTypes


@dataclass
class Box:
    inside: Any = None


@pytest.fixture
def types() -> MessageTypes:
    types = MessageTypes()
    types.register(Box, "box")
    return types


def boxes(count: int) -> bytes:
    """``count`` typed messages, one in the other, as a hostile peer would write them."""
    data = b"\xc0"
    for _ in range(count):
        fields = b"\x92\xa3box\x81\xa6inside" + data
        size = len(fields)
        data = b"\xc9" + size.to_bytes(4, "big") + b"\x02" + fields
    return data


def test_types_within_types_count_as_deep_as_they_stand(types: MessageTypes) -> None:
    codec = make_codec(None, types)
    shallow = codec.decode(boxes(3))
    assert shallow == Box(Box(Box()))
    for count in (64, 5_000):
        with pytest.raises(cf.SerializationError, match="nested deeper than 64"):
            codec.decode(boxes(count))
    assert codec.decode(boxes(3)) == shallow, "a refused message leaves no depth behind"


@pytest.mark.parametrize("depth", [4, 64, 200])
def test_the_bound_is_a_setting(types: MessageTypes, depth: int) -> None:
    codec = make_codec(None, types, max_depth=depth)
    assert codec.decode(b"\x91" * depth + b"\xc0") is not None
    with pytest.raises(cf.SerializationError, match=f"nested deeper than {depth}"):
        codec.decode(b"\x91" * (depth + 1) + b"\xc0")


async def test_who_nests_deeper_than_the_receiver_takes_is_told() -> None:
    def member(name: str, depth: int) -> Any:
        builder = cf.ClusterConfig.Builder(name, "memory://nesting").with_messaging_port(0)
        config = builder.with_setting("security.max_nesting", depth).build()
        return cf.ClusterFactory.create_cluster_system(config)

    deep: Any = None
    for _ in range(20):
        deep = [deep]
    async with member("a", 64) as a, member("b", 8) as b:
        log: list[Any] = []
        await b.register(lambda message, context: log.append(message), "x")
        with pytest.raises(cf.SerializationError, match="could not read"):
            await a.pid("x").ask(deep, timeout=10)
        await a.pid("x").send([1])
        assert log == [[1]]
