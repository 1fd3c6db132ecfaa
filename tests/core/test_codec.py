"""The codec, held against the msgpack package: the same bytes out, the same values in, and no bad byte gets through.

Laws: the package is the oracle wherever both can say a value.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast._core.codec import Codec
from cajun_fast.errors import SerializationError

EDGES = [
    sign * (1 << bits) + near
    for bits in (0, 5, 7, 8, 15, 16, 30, 31, 32, 60, 62)
    for sign in (1, -1)
    for near in (-1, 0, 1)
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.sampled_from(EDGES)
    | st.floats(allow_nan=False)
    | st.text(max_size=60)
    | st.text("ab", max_size=300)
    | st.binary(max_size=300)
)
keys = st.text(max_size=50) | st.integers(-100, 1000) | st.none() | st.binary(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys, inner, max_size=20),
    max_leaves=40,
)


def plain(value: Any) -> bytes:
    return msgpack.packb(value)


@given(values)
def test_it_writes_what_the_package_writes_and_reads_it_back(value: Any) -> None:
    codec = Codec()
    data = plain(value)
    assert codec.encode(value) == data
    assert codec.decode(data) == value


@given(st.lists(st.text(max_size=45), max_size=40))
def test_texts_that_come_again_are_still_told_apart(texts: list[str]) -> None:
    codec = Codec()
    message = [{text: text} for text in texts]
    for _ in range(3):
        assert codec.decode(plain(message)) == message


def test_a_key_that_comes_again_is_the_very_object_that_a_handler_looks_up() -> None:
    codec = Codec()
    for _ in range(3):
        message = codec.decode(plain({"a-name-in-a-handler": 1}))
    (key,) = message
    assert key is sys.intern("a-name-in-a-handler")


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_serialization_error(data: bytes) -> None:
    with contextlib.suppress(SerializationError):
        Codec().decode(data)


@given(values)
def test_a_message_cut_anywhere_is_refused(value: Any) -> None:
    codec = Codec()
    data = plain(value)
    for end in range(len(data)):
        with pytest.raises(SerializationError):
            codec.decode(data[:end])
    with pytest.raises(SerializationError, match="left over"):
        codec.decode(data + b"\x00")


def test_a_dict_that_a_hook_changes_while_it_is_written_is_an_error() -> None:
    message: dict[Any, Any] = {"first": object()}

    def plain_form(value: Any) -> tuple[int, bytes]:
        message.clear()
        return 9, b""

    with pytest.raises(SerializationError, match="changed"):
        Codec(plain=plain_form).encode(message)


def test_a_list_that_a_hook_changes_while_it_is_written_is_an_error() -> None:
    message: list[Any] = [object(), 1]

    def plain_form(value: Any) -> tuple[int, bytes]:
        message.clear()
        return 9, b""

    with pytest.raises(SerializationError, match="changed"):
        Codec(plain=plain_form).encode(message)


@pytest.mark.parametrize("data", [b"\x81\x80\x01", b"\x81\x90\x01"])
def test_a_key_that_no_dict_can_hold_is_refused(data: bytes) -> None:
    with pytest.raises(SerializationError, match="no dict can hold"):
        Codec().decode(data)


def test_a_codec_may_be_used_by_what_it_encodes() -> None:
    codec = Codec()
    codec.hooks(lambda value: (9, codec.encode({"inner": 1})), None)
    assert codec.encode([object(), object()]) == msgpack.packb([msgpack.ExtType(9, plain({"inner": 1}))] * 2)


@pytest.mark.parametrize("size", [100, 131_000, 131_072, 140_000, 1 << 20, 5_000_000])
@pytest.mark.parametrize("shape", ["one", "many", "small behind"])
def test_what_is_large_is_written_as_what_is_small(size: int, shape: str) -> None:
    codec = Codec()
    value = {
        "one": b"x" * size,
        "many": [b"y" * 1000 for _ in range(size // 1000)],
        "small behind": {"n": 1, "pad": "z" * size, "rest": list(range(3000))},
    }[shape]
    for _ in range(3):
        assert codec.decode(codec.encode(value)) == value
        assert codec.encode(7) == b"\x07"
    kept = codec.encode(value)
    with pytest.raises(SerializationError):
        codec.encode([value, object()])
    assert codec.encode({"n": 1}) == b"\x81\xa1n\x01", "what failed has left nothing behind"
    codec.encode(value)
    assert codec.decode(kept) == value, "and nobody writes into what was given away"
    assert hash(kept) == hash(bytes(bytearray(kept)))
