"""One input made of others: what an adversary with patience and no plan would try."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

MOST = 4096
EDGES = [0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFE, 0xFF]
WORDS = [
    value.to_bytes(size, "little")
    for size in (2, 4, 8)
    for value in (
        0,
        1,
        20_000,
        32_768,
        65_535,
        (1 << 8 * size - 1) - 1,
        1 << 8 * size - 1,
        (1 << 8 * size) - 1,
    )
    if value < 1 << 8 * size
]


def mutated(chance: random.Random, inputs: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """One of ``inputs``, changed once or a few times over."""
    data = bytearray(chance.choice(inputs))
    for _ in range(1 << chance.randrange(5)):
        chance.choice(_WAYS)(chance, data, inputs, words)
    return bytes(data[:MOST])


Way = Callable[[random.Random, bytearray, Sequence[bytes], Sequence[bytes]], None]


def _place(chance: random.Random, data: bytearray) -> int:
    return chance.randrange(len(data) + 1)


def _flip(chance: random.Random, data: bytearray, *_: object) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(chance: random.Random, data: bytearray, *_: object) -> None:
    if data:
        data[chance.randrange(len(data))] = (
            chance.choice(EDGES) if chance.random() < 0.5 else chance.randrange(256)
        )


def _add(chance: random.Random, data: bytearray, *_: object) -> None:
    if data:
        at = chance.randrange(len(data))
        data[at] = (data[at] + chance.randrange(-8, 9)) & 0xFF


def _insert(chance: random.Random, data: bytearray, inputs: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = _place(chance, data)
    data[at:at] = chance.choice((chance.choice(words or WORDS), chance.choice(WORDS), chance.randbytes(3)))


def _overwrite(
    chance: random.Random, data: bytearray, inputs: Sequence[bytes], words: Sequence[bytes]
) -> None:
    at, word = _place(chance, data), chance.choice(WORDS)
    data[at : at + len(word)] = word


def _remove(chance: random.Random, data: bytearray, *_: object) -> None:
    at = _place(chance, data)
    del data[at : at + 1 + chance.randrange(1 + len(data) // 4)]


def _repeat(chance: random.Random, data: bytearray, *_: object) -> None:
    at = _place(chance, data)
    piece = data[at : at + 1 + chance.randrange(64)]
    data[at:at] = piece * chance.choice((1, 1, 2, 8))


def _splice(chance: random.Random, data: bytearray, inputs: Sequence[bytes], words: Sequence[bytes]) -> None:
    other = chance.choice(inputs)
    start, at = _place(chance, bytearray(other)), _place(chance, data)
    piece = other[start : start + chance.choice((4, 16, 64, MOST))]
    data[at : at + (len(piece) if chance.random() < 0.5 else 0)] = piece


_WAYS: tuple[Way, ...] = (_flip, _set, _add, _insert, _insert, _overwrite, _remove, _repeat, _splice, _splice)
