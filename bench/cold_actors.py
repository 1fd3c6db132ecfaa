"""What a message to one of many actors touches that no cache holds any more: 100,000 tells in turns, in one process.

    valgrind --tool=callgrind --instr-atstart=no --cache-sim=yes --D1=49152,12,64 --LL=2097152,16,64 \
        --callgrind-out-file=cold.out .venv/bin/python bench/cold_actors.py 100000
    callgrind_annotate --show=DLmr,DLmw,D1mr,Ir --sort=DLmr cold.out

Counted is from the moment at which all actors stand and each has had a message; LL stands for a core's L2 here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import Any

import uvloop

from cajun_fast.actors import Actor, ActorSystem, Context
from cajun_fast.errors import BackpressureError

MESSAGES = 100_000
BURST = 100  # tells in a row, then the loop runs


class Counting(Actor):
    """The least that does something."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: Any, context: Context) -> None:
        self.count += 1


async def tell_in_turns(tells: list[Any], count: int) -> None:
    """As the benchmark does, with what fits into a mailbox in a burst."""
    for i, tell in zip(range(count), itertools.cycle(tells), strict=False):
        message = {"id": i, "op": "add", "v": 1.5, "tag": "x"}
        while True:
            try:
                tell(message)
                break
            except BackpressureError:  # valgrind is slow: turns are over early
                await asyncio.sleep(0)
        if i % BURST == 0:
            await asyncio.sleep(0)


async def main(actors: int) -> None:
    """Warm up, then count."""
    system = ActorSystem("cold")
    await system.start()
    tells = [(await system.spawn(Counting)).tell for _ in range(actors)]
    await tell_in_turns(tells, max(actors, 2000))
    control = await asyncio.create_subprocess_exec("callgrind_control", "-i", "on", str(os.getpid()))
    assert await control.wait() == 0
    await tell_in_turns(tells, MESSAGES)
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
