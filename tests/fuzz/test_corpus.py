"""The kept inputs, and a short blind search around them: what `make fuzz` found once stays found. The long, guided
search on the instrumented build is for people: see docs/building.md."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator

import pytest

from tests.fuzz import corpus, mutate
from tests.fuzz.fuzz import Fuzzer
from tests.fuzz.targets import TARGETS

SEARCH = 1.5  # seconds for each target


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_does_more_than_end_its_connection(name: str) -> None:
    fuzzer = Fuzzer(name, random.SystemRandom().getrandbits(32))
    fuzzer.load()
    assert len(fuzzer.kept) >= len(corpus.SEEDS[name])
    try:
        fuzzer.search(SEARCH)
    finally:
        input_ = fuzzer.slot.read_bytes().hex()
        fuzzer.slot.unlink()
        print(f"last input: {input_}")  # noqa: T201 - pytest shows it with a failure


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_fails_is_a_finding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A net that has never caught anything proves nothing."""
    seen: list[bytes] = []

    def broken(data: bytes) -> None:
        seen.append(data)
        if len(seen) == 200:
            raise IndexError("planted")

    monkeypatch.setitem(TARGETS, name, broken)
    fuzzer = Fuzzer(name, 1)
    with pytest.raises(IndexError, match="planted"):  # noqa: PT012 - either may be what meets it
        fuzzer.load()
        fuzzer.search(5.0)
    assert fuzzer.slot.read_bytes() == seen[-1]
    fuzzer.slot.unlink()


def test_the_same_seed_gives_the_same_inputs() -> None:
    def made() -> list[bytes]:
        chance = random.Random(5)
        return [mutate.mutated(chance, corpus.load("link"), corpus.WORDS["link"]) for _ in range(100)]

    begun = time.monotonic()
    assert made() == made()
    assert time.monotonic() - begun < 5
    assert max(map(len, made())) <= mutate.MOST
