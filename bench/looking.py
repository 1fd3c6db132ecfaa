"""What `top` and the dashboard cost the node that they look at: messages for the same CPU time while somebody looks, as
a ratio to the same node while nobody does.

    .venv/bin/python bench/looking.py [--rounds 15]

Two nodes in one process, so both sides' work is in the time. The node is saturated: handlers that do nothing, sync and
async; one report of the hottest actors comes to each second, as a dashboard asks for it. Whether somebody
looks changes from burst to burst, so that a machine that gets slower slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import cajun_fast as cf

MESSAGES = 20_000
BURST = 500
CHANGES = 10


class Sink(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> None:
        pass


class AsyncSink(cf.Actor):
    async def receive(self, message: Any, context: cf.Context) -> None:
        pass


async def seconds(pid: cf.Pid) -> float:
    """CPU time of some messages."""
    began = time.process_time()
    for _ in range(0, MESSAGES, BURST):
        for number in range(BURST):
            pid.tell(number)
        await pid.ask("last", timeout=60)
    return time.process_time() - began


async def main(rounds: int) -> None:
    def member(node: str) -> cf.ClusterActorSystem:
        config = cf.ClusterConfig.Builder(node, "memory://looking").with_messaging_port(0).build()
        return cf.ClusterFactory.create_cluster_system(config)

    async with member("a") as a, member("b") as b:
        for kind in (Sink, AsyncSink):
            await a.register(kind, kind.__name__)
        for where, system in (("by a link", b), ("on its node", a)):
            for kind in (Sink, AsyncSink):
                await compare(f"{kind.__name__}, {where}", a, system.pid(kind.__name__), rounds)


async def compare(name: str, node: Any, pid: cf.Pid, rounds: int) -> None:
    hottest = node._node.inspector._answers["report"].__self__.hottest
    await seconds(pid)
    found = []
    for _ in range(rounds):
        took = {False: 0.0, True: 0.0}
        for change in range(2 * CHANGES):
            looked = change % 2 == 1
            if looked:
                began = time.process_time()
                await hottest.look(10)
                took[True] += (time.process_time() - began) * min(1.0, took[False] / CHANGES)
            else:
                hottest.forget()
            took[looked] += await seconds(pid)
        found.append(took[False] / took[True])
    print(f"{name:>24}: {statistics.median(found):.3f}   ({min(found):.3f} … {max(found):.3f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    cf.run(main(parser.parse_args().rounds))
