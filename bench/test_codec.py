"""The codec, beside the msgpack package and msgspec on the same bytes: the default was chosen by these figures."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import msgpack
import pytest

from cajun_fast._core.codec import Codec

MESSAGES: dict[str, Any] = {
    "the workloads' map": {"id": 123_456, "op": "add", "v": 1.5, "tag": "0123456789abcdef" * 2},
    "a list of numbers": list(range(-500, 500)),
    "nested, 1 KiB": {"order": 1, "lines": [{"sku": f"s-{i}", "n": i, "price": i / 7} for i in range(24)]},
    "16 KiB of bytes": {"id": 1, "data": bytes(16 << 10)},
}
Way = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


def ways() -> dict[str, Way]:
    codec, packer = Codec(), msgpack.Packer()
    found: dict[str, Way] = {"codec": (codec.encode, codec.decode), "msgpack": (packer.pack, msgpack.unpackb)}
    try:
        msgspec = import_module("msgspec").msgpack
    except ImportError:
        return found
    return found | {"msgspec": (msgspec.Encoder().encode, msgspec.Decoder().decode)}


WAYS = ways()


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("way", WAYS)
def test_encode(benchmark: Any, name: str, way: str) -> None:
    benchmark.group = f"encode {name}"
    message, encode = MESSAGES[name], WAYS[way][0]
    assert msgpack.unpackb(benchmark(encode, message)) == message


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("way", WAYS)
def test_decode(benchmark: Any, name: str, way: str) -> None:
    benchmark.group = f"decode {name}"
    message, decode = MESSAGES[name], WAYS[way][1]
    assert benchmark(decode, msgpack.packb(message)) == message


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize(("step", "limit"), [(0, 1.2), (1, 1.2)])
def test_ratio_to_the_msgpack_package(costs_at_most: Any, name: str, step: int, limit: float) -> None:
    message, packed = MESSAGES[name], msgpack.packb(MESSAGES[name])
    argument = packed if step else message

    def run(way: str) -> Callable[[], None]:
        call, turns = WAYS[way][step], range(max(20_000 // (len(packed) // 64 + 1), 50))

        def work() -> None:
            for _ in turns:
                call(argument)

        return work

    costs_at_most(f"{('encode', 'decode')[step]} {name}", run("codec"), run("msgpack"), limit)
