"""One run of one workload, inside the sending process.

tell    W1, W4   messages a second until all are handled, CPU a message on both sides
ask     W2       one ask after another: the latency of each
asks    W3       64 in flight: answers a second
paced   asks at a given rate, each measured from the moment it was due: latency against offered load
load    tells at a given rate until `rest`: what stands beside another sender's measurement
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from cajun_fast.errors import CajunError
from cajun_fast.management.bench.contestant import Sender, cpu_us, payload
from cajun_fast.management.bench.histogram import Histogram

IN_FLIGHT = 64
LOAD_TICK = 0.002  # seconds between two bursts of a load
PERCENTILES = (50.0, 99.0, 99.9)


async def tell(sender: Sender, count: int, size: int) -> dict[str, Any]:
    """W1 and W4."""
    make = payload(size)
    before = await sender.settle()
    began, cpu = time.perf_counter(), cpu_us()
    await sender.tell_many(make, count)
    after = await sender.settle()
    seconds = time.perf_counter() - began
    return {
        "rate": count / seconds,
        "send_us": (cpu_us() - cpu) / count,
        "receive_us": (after.cpu_us - before.cpu_us) / count,
        "lost": count - (after.handled - before.handled),
    }


async def ask(sender: Sender, count: int, size: int) -> dict[str, Any]:
    """W2."""
    make = payload(size, "echo")
    clock, found = time.perf_counter_ns, []
    for i in range(count):
        began = clock()
        await sender.ask(make(i))
        found.append(clock() - began)
    return latencies(Histogram(found))


async def asks(sender: Sender, count: int, size: int) -> dict[str, Any]:
    """W3."""
    cpu, began = cpu_us(), time.perf_counter()
    await sender.asks(payload(size, "echo"), count, IN_FLIGHT)
    seconds = time.perf_counter() - began
    return {"rate": count / seconds, "send_us": (cpu_us() - cpu) / count}


async def paced(sender: Sender, count: int, size: int, rate: float) -> dict[str, Any]:
    """``rate`` asks a second. The loop is kept awake, or the timer's grain would be what is measured."""
    make, clock, interval = payload(size, "echo"), time.perf_counter_ns, 1e9 / rate
    found: list[int] = []
    failed = sent = 0
    began = clock()

    async def one(due: int) -> None:
        nonlocal failed
        try:
            await sender.ask(make(due))
        except CajunError:
            failed += 1
        else:
            found.append(clock() - due)

    loop = asyncio.get_running_loop()
    open_asks: set[asyncio.Task[None]] = set()
    while sent < count:
        until = min(count, int((clock() - began) / interval) + 1)
        for i in range(sent, until):
            task = loop.create_task(one(began + int(i * interval)))
            open_asks.add(task)
            task.add_done_callback(open_asks.discard)
        sent = until
        await asyncio.sleep(0)
    if open_asks:
        await asyncio.wait(open_asks)
    seconds = (clock() - began) / 1e9
    return latencies(Histogram(found)) | {"offered": rate, "rate": len(found) / seconds, "failed": failed}


_loads: dict[Sender, asyncio.Task[int]] = {}


async def load(sender: Sender, size: int, rate: float) -> dict[str, Any]:
    """Begin; returns at once."""
    _loads[sender] = asyncio.get_running_loop().create_task(_tell_on(sender, size, rate))
    return {}


async def _tell_on(sender: Sender, size: int, rate: float) -> int:
    make, clock = payload(size), time.perf_counter
    began, told = clock(), 0
    try:
        while True:
            due = int((clock() - began) * rate) - told
            if due > 0:
                await sender.tell_many(make, due)
                told += due
            await asyncio.sleep(LOAD_TICK)
    except asyncio.CancelledError:
        return told


async def rest(sender: Sender) -> dict[str, Any]:
    """End the load; how much was told."""
    task = _loads.pop(sender)
    task.cancel()
    return {"told": await task}


def latencies(histogram: Histogram) -> dict[str, Any]:
    """Percentiles in µs, and the histogram to merge them from."""
    found: dict[str, Any] = {
        f"p{percent:g}_us": histogram.percentile(percent) / 1e3 for percent in PERCENTILES
    }
    return found | {"max_us": histogram.largest / 1e3, "histogram": histogram.to_json()}


RUNS = {"tell": tell, "ask": ask, "asks": asks, "paced": paced, "load": load, "rest": rest}
