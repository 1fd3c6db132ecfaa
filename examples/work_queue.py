"""A work queue with back-pressure: who produces faster than the workers work is made to wait, and memory stays flat.

python examples/work_queue.py

`await pid.send(job)` is done when the job stands in the worker's mailbox, on whichever node that is. The mailboxes here
hold four jobs, so a producer is never more than a few jobs ahead.
"""

from __future__ import annotations

import asyncio
import itertools

import cajun_fast as cf

JOBS = 60
WORKERS = 3


@cf.actor("worker", mailbox_capacity=4)
class Worker(cf.Actor):
    """Takes its time. While it awaits, other actors of its node go on; its own mailbox fills."""

    def __init__(self) -> None:
        self.done = 0

    async def receive(self, message: str, context: cf.Context) -> int | None:
        if message == "how many?":
            return self.done
        await asyncio.sleep(0.01)  # stands for real work
        self.done += 1
        return None


def member(name: str) -> cf.ClusterActorSystem:
    config = cf.ClusterConfig.Builder(name, "memory://queue").with_messaging_port(0).build()
    return cf.ClusterFactory.create_cluster_system(config)


async def main() -> None:
    async with member("office") as office, member("workshop") as workshop:
        for number in range(WORKERS):
            await workshop.register("worker", f"worker-{number}")
        workers = [office.pid(f"worker-{number}") for number in range(WORKERS)]
        clock = asyncio.get_running_loop().time
        began = clock()
        for number, worker in zip(range(JOBS), itertools.cycle(workers), strict=False):
            await worker.send(f"job {number}")  # waits for room: the producer goes at the workers' speed
        handed_out = clock() - began
        done = [await worker.ask("how many?", timeout=5.0) for worker in workers]
        print(f"{sum(done)} jobs done, {done} by each worker")
        print(f"handing them out took {handed_out:.2f} s of {clock() - began:.2f} s")


if __name__ == "__main__":
    cf.run(main())
