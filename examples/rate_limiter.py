"""A rate limiter for a whole cluster: one sharded actor a client, a token bucket in it, asked from every node.

python examples/rate_limiter.py

Since a client's bucket lives in one actor, two nodes that ask at the same time can never both get its last token.
Nobody locks anything.
"""

from __future__ import annotations

import asyncio
from typing import Any

import cajun_fast as cf

RATE = 5.0  # tokens a second
BURST = 10


@cf.actor("bucket", sharded=True)
class Bucket(cf.Actor):
    """The tokens of one client."""

    def __init__(self) -> None:
        self.tokens = float(BURST)
        self.at = asyncio.get_running_loop().time()

    def receive(self, message: Any, context: cf.Context) -> dict[str, Any]:
        """May it go on? If not: seconds until it may."""
        now = asyncio.get_running_loop().time()
        self.tokens = min(BURST, self.tokens + (now - self.at) * RATE)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return {"ok": True, "wait": 0.0}
        return {"ok": False, "wait": (1 - self.tokens) / RATE}


class Limiter:
    """What a service holds. A client's bucket is started by its first message, on the node of its shard."""

    def __init__(self, system: cf.ClusterActorSystem) -> None:
        self.buckets = system.sharded("bucket")

    async def may(self, client: str) -> bool:
        """Whether one more request of that client is served."""
        answer = await self.buckets.pid(client).ask("take", timeout=10.0)
        return bool(answer["ok"])


def node(name: str) -> cf.ClusterActorSystem:
    config = cf.ClusterConfig.Builder(name, "memory://limits").with_messaging_port(0).build()
    return cf.ClusterFactory.create_cluster_system(config)


async def main() -> None:
    async with node("east") as east, node("west") as west:
        doors = [Limiter(east), Limiter(west)]
        for client in ("alma", "beau"):
            asked = [doors[number % 2].may(client) for number in range(40)]
            served = sum(await asyncio.gather(*asked))
            print(f"{client}: {served} of 40 at once were served, through two nodes")
        await asyncio.sleep(1 / RATE * 2)
        print("after a rest:", "served" if await doors[0].may("alma") else "still refused")


if __name__ == "__main__":
    cf.run(main())
