"""Coverage-guided fuzzing: inputs that take new edges are kept and changed further.

    make fuzz                                       every target for a minute each, on the instrumented build
    make fuzz TARGET=link SECONDS=600
    python -m tests.fuzz.fuzz link --replay 0a0b0c  one input again

Laws: what an input does depends on nothing but the input; the one that is being tried lies in a file, so that a crash
of the process leaves it behind. Ends with 1 at the first finding, whose input it prints.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.fuzz import corpus, mutate
from tests.fuzz.targets import TARGETS

LONGEST = 5.0  # seconds for one input, above which it is a finding: hostile bytes must not hold a node up


class Coverage:
    """What cover.c counted. Without it every input is as good as another, and only the kept ones are changed."""

    def __init__(self) -> None:
        try:
            self._library: ctypes.CDLL | None = ctypes.CDLL(None)
            self._begin = self._library.cover_begin
            self._news, self._edges = self._library.cover_news, self._library.cover_edges
        except AttributeError:
            self._library = None

    def of(self, run: Callable[[], None]) -> int:
        if self._library is None:
            run()
            return 0
        self._begin()
        run()
        return int(self._news())

    @property
    def edges(self) -> int:
        return 0 if self._library is None else int(self._edges())


class Fuzzer:
    """One target."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.target = name, TARGETS[name]
        self.chance = random.Random(seed)
        self.coverage = Coverage()
        self.kept: list[bytes] = []
        self.runs = 0
        self.slot = Path(tempfile.gettempdir()) / f"cajun-fuzz-{name}-{os.getpid()}.input"

    def try_input(self, data: bytes) -> int:
        self.slot.write_bytes(data)
        self.runs += 1
        begun = time.monotonic()
        news = self.coverage.of(lambda: self.target(data))
        if time.monotonic() - begun > LONGEST:
            raise TimeoutError(f"an input of {len(data)} bytes took {time.monotonic() - begun:.1f} s")
        return news

    def load(self) -> None:
        """The kept inputs, shortest first: what a shorter one shows a longer one need not."""
        for data in sorted(corpus.load(self.name), key=len):
            if self.try_input(data) or self.coverage.edges == 0:
                self.kept.append(data)

    def search(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data = mutate.mutated(self.chance, self.kept, corpus.WORDS[self.name])
            if self.try_input(data):
                self.kept.append(data)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--save", action="store_true", help="keep what took new edges")
    parser.add_argument("--replay", metavar="HEX")
    options = parser.parse_args()
    logging.disable()
    names = list(TARGETS) if options.target == "all" else [options.target]
    for name in names:
        if options.replay is not None:
            TARGETS[name](bytes.fromhex(options.replay))
            continue
        seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
        if not fuzz(Fuzzer(name, seed), seed, options.seconds, save=options.save):
            return 1
    return 0


def fuzz(fuzzer: Fuzzer, seed: int, seconds: float, *, save: bool) -> bool:
    """Whether nothing was found."""
    try:
        fuzzer.load()
        before = len(fuzzer.kept), fuzzer.coverage.edges
        fuzzer.search(seconds)
    except Exception:
        traceback.print_exc()
        print(f"{fuzzer.name}: a finding. Input: {fuzzer.slot.read_bytes().hex()}", file=sys.stderr)  # noqa: T201
        return False
    fuzzer.slot.unlink(missing_ok=True)
    print(  # noqa: T201
        f"{fuzzer.name}: {fuzzer.runs} inputs in {seconds:.0f} s (seed {seed}), kept {before[0]} → {len(fuzzer.kept)}, "
        f"edges {before[1]} → {fuzzer.coverage.edges}",
        flush=True,
    )
    if save:
        corpus.save(fuzzer.name, fuzzer.kept)
    return True


if __name__ == "__main__":
    sys.exit(main())
