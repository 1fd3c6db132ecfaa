"""What a large message does to small asks on the same link: their latencies without it, with one of 16 MiB every
second, and with one behind the other.

    .venv/bin/python bench/large_beside_small.py [--seconds 5] [--rounds 3] [--unix]

Two processes. The three kinds of round take turns, so that a machine that gets slower meanwhile slows all of them;
the figures are medians over the rounds. The target: with one such message a second the p99 is at most twice the quiet
one.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.messaging.lives import process
from tests.messaging.nodes import Node

LARGE = bytes((16 << 20) - 64)  # with what stands around it, the largest message


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def asks(pid: Any, seconds: float) -> list[float]:
    """Latencies of asks one after the other, in µs."""
    latencies, end = [], time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        await pid.ask(1, timeout=20)
        latencies.append((time.perf_counter() - begun) * 1e6)
    return latencies


async def beside(pid: Any, large: Any, seconds: float, pause: float) -> tuple[list[float], int]:
    """The same while large messages go: one each ``pause`` seconds, or one behind the other for 0."""
    count = 0

    async def load() -> None:
        nonlocal count
        while True:
            await large.send(LARGE)
            count += 1
            await asyncio.sleep(pause)

    task = asyncio.ensure_future(load())
    try:
        return await asks(pid, seconds), count
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def main(options: argparse.Namespace) -> None:
    async with process("b") as b:
        a = await Node("a", unix=options.unix).start()
        a.messaging.add_node("b", 1, [b.address._replace(path=b.address.path if options.unix else None)])
        pid, large = a.pid("x", "b"), a.pid("sink", "b")
        await asks(pid, 1.0)
        quiet, one, many = [], [], []
        for _ in range(options.rounds):
            quiet.append(await asks(pid, options.seconds))
            one.append((await beside(pid, large, options.seconds, 1.0))[0])
            many.append(await beside(pid, large, options.seconds, 0.0))
        rows = [("quiet", quiet), ("one a second", one), ("one behind the other", [each for each, _ in many])]
        base: dict[float, float] = {}
        for name, rounds in rows:
            figures = {
                p: statistics.median(percentile(each, p) for each in rounds) for p in (0.5, 0.99, 0.999)
            }
            base = base or figures
            print(
                f"{name:22}", *(f"p{100 * p:g} {us:7.0f} µs ({us / base[p]:.2f})" for p, us in figures.items()),
                f"{sum(map(len, rounds))} asks", sep="  ",
            )  # fmt: skip
        sent = sum(count for _, count in many)
        print(f"one behind the other: {sent * 16 / options.seconds / options.rounds:.0f} MiB/s")
        await a.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--unix", action="store_true")
    uvloop.run(main(parser.parse_args()))
