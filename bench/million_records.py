"""A directory of a million actors on etcd: what a node takes to join, to list it, and to find its way beside it.

    python bench/million_records.py [--actors 1000000]

Only the records are made, in batches, as if one node had all those actors; two nodes with a watch each and an etcd of
one's own (about 1 GB) share the machine. For real actors, and their loss: registry_at_scale.py.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cajun_fast as cf
from cajun_fast.cluster.records import ActorRecord
from cajun_fast.metadata import open_store
from cajun_fast.testing.etcd import EtcdCluster

BATCH = 10_000
REAL = 1000


class Real(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        return context.node_id


def megabytes(process: int | str = "self") -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 // 1_000_000


def say(what: str, began: float) -> None:
    print(f"{what}: {time.perf_counter() - began:.2f} s; this process {megabytes()} MB", flush=True)


def member(name: str, url: str) -> cf.ClusterActorSystem:
    builder = cf.ClusterConfig.Builder(name, url).with_messaging_port(0)
    builder.with_setting("membership.suspicion_timeout", 5.0).with_setting("membership.lease_ttl", 20.0)
    return cf.ClusterFactory.create_cluster_system(builder.build())


async def fill(system: cf.ClusterActorSystem, url: str, count: int) -> None:
    node, store = system._node, open_store(url)
    await store.connect()
    arguments = system.exchange.encode([[], {}])
    for at in range(0, count, BATCH):
        await store.put_all(
            {
                node.keys.actor(f"actor-{number:07}"): ActorRecord(
                    owner=node.owner, claim=number + 1, type="x", arguments=arguments
                ).encode()
                for number in range(at, min(count, at + BATCH))
            }
        )
    await store.close()


async def run(count: int) -> None:
    async with EtcdCluster.of(1) as etcd, member("a", etcd.url) as a:
        began = time.perf_counter()
        await fill(a, etcd.url, count)
        say(f"{count} records written, all heard of by a node", began)
        process = etcd.members[0].process
        assert process is not None
        print(f"etcd: {megabytes(process.pid)} MB", flush=True)
        began = time.perf_counter()
        async with member("b", etcd.url) as b:
            say("another node joined", began)
            began = time.perf_counter()
            listed = sum([1 async for _ in b.manager.all_actors()])
            say(f"{listed} actors listed in pages, while its watch reads the names", began)
            began = time.perf_counter()
            await b.manager.get_cluster_actors(limit=1000, after=f"actor-{count // 2:07}")
            say("a page of 1,000 from the middle", began)
            began = time.perf_counter()
            await asyncio.gather(*(a.register(Real, f"real-{number}") for number in range(REAL)))
            say(f"{REAL} actors registered beside them", began)
            began = time.perf_counter()
            await asyncio.gather(*(b.pid(f"real-{number}").ask(1, timeout=60) for number in range(REAL)))
            say(f"{REAL} actors found and asked from the other node", began)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--actors", type=int, default=1_000_000)
    cf.run(run(parser.parse_args(arguments).actors))


if __name__ == "__main__":
    main(sys.argv[1:])
