"""Two node processes at full rate for as long as is wanted: is every message there once, in order, and is memory flat?

    .venv/bin/python -m tests.soak.link [--seconds 600] [--unix] [--flap 5]

Tells numbers to an actor that checks each against the one before; every ten seconds a line with the rate, the resident
memory of both processes and what the link holds. `--flap` cuts the connection every so many seconds. Ends with 1 if a
message is missing or if memory grew by more than a tenth (and 16 MiB) between the first minute, or tenth, and the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from typing import Any

import uvloop

from cajun_fast.errors import BackpressureError
from tests.messaging.lives import process
from tests.messaging.nodes import Node

STEP = 10.0
PAYLOAD = {"op": "add", "v": 1.5, "tag": "x" * 32}


def resident(pid: int) -> float:
    """MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def receive(name: str, incarnation: str) -> None:
    node = await Node(name, int(incarnation), unix=True).start()
    last, wrong = 0, 0

    def on_message(message: dict[str, Any], context: Any) -> Any:
        nonlocal last, wrong
        if message.get("report"):
            return {"last": last, "wrong": wrong}
        wrong += message["id"] != last + 1
        last = message["id"]
        return None

    await node.actors.spawn(on_message, "x")
    print(json.dumps({"port": node.address.port, "path": node.address.path}), flush=True)  # noqa: T201
    await asyncio.Event().wait()


async def tell_on(pid: Any, numbers: list[int], end: float) -> None:
    while time.monotonic() < end:
        try:
            for _ in range(256):
                pid.tell({"id": numbers[0] + 1, **PAYLOAD})
                numbers[0] += 1
            await asyncio.sleep(0)
        except BackpressureError:
            await pid.ready()


async def flap(node: Node, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        peer = node.messaging.peer("b")
        if peer is not None and peer.connection is not None:
            peer.connection.abort()


async def soak(options: argparse.Namespace) -> int:
    async with process("b", 1, "tests.soak.link", "receive") as b:
        a = await Node("a", unix=options.unix).start()
        a.messaging.add_node("b", 1, [b.address._replace(path=b.address.path if options.unix else None)])
        pid, numbers, memory = a.pid("x", "b"), [0], []
        begun = time.monotonic()
        tasks = [asyncio.ensure_future(tell_on(pid, numbers, begun + options.seconds))]
        if options.flap:
            tasks.append(asyncio.ensure_future(flap(a, options.flap)))
        before, looked = 0, begun
        while not tasks[0].done():
            await asyncio.sleep(min(STEP, options.seconds / 20))
            now = time.monotonic()
            memory.append((resident(os.getpid()), resident(b.pid)))
            print(  # noqa: T201
                f"{now - begun:5.0f} s  {(numbers[0] - before) / (now - looked):9.0f}/s  "
                f"{memory[-1][0]:6.1f} MiB  {memory[-1][1]:6.1f} MiB  holds {a.link(b).held_bytes / 2**20:.1f} MiB",
                flush=True,
            )
            before, looked = numbers[0], now
        for task in tasks[1:]:
            task.cancel()
        await tasks[0]
        report = await pid.ask({"report": True}, timeout=60)
        bad = judge(report, numbers[0], memory)
        print(  # noqa: T201
            f"{numbers[0]} messages in {options.seconds:.0f} s: "
            f"{numbers[0] / options.seconds:.0f}/s; connections {a.messaging.peer('b').established}; "
            f"last {report['last']}, out of order {report['wrong']}; " + ("; ".join(bad) or "all is well")
        )
        await a.stop()
        return 1 if bad else 0


def judge(report: dict[str, int], sent: int, memory: list[tuple[float, float]]) -> list[str]:
    bad = []
    if report["last"] != sent or report["wrong"]:
        bad.append(f"messages are missing or out of order: {report}, {sent} were sent")
    early = max(1, len(memory) // 10)
    for side, name in enumerate(("sender", "receiver")):
        first = max(each[side] for each in memory[:early])
        last = max(each[side] for each in memory[-early:])
        if last > 1.1 * first + 16:
            bad.append(f"the {name}'s memory grew from {first:.1f} to {last:.1f} MiB")
    return bad


def main() -> int:
    if sys.argv[1:2] == ["receive"]:
        uvloop.run(receive(*sys.argv[2:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--unix", action="store_true")
    parser.add_argument("--flap", type=float, default=0.0)
    return int(uvloop.run(soak(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
