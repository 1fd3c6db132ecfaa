"""A service that answers: asks with time-outs, errors that reach who asked, and an answer that is given later.

python examples/request_reply.py
"""

from __future__ import annotations

import asyncio
from typing import Any

import cajun_fast as cf

PRICES = {"apple": 30, "pear": 45}


class Prices(cf.Actor):
    """Answers from its table. For what it must fetch it answers later, and meanwhile handles other messages."""

    def __init__(self) -> None:
        self.fetching: set[asyncio.Task[None]] = set()

    def receive(self, message: dict[str, Any], context: cf.Context) -> Any:
        match message:
            case {"price": str(name)} if name in PRICES:
                return PRICES[name]
            case {"fetch": str(name)}:
                task = asyncio.create_task(self.fetch(name, context.reply_later()))
                self.fetching.add(task)
                task.add_done_callback(self.fetching.discard)
                return None
            case _:
                raise LookupError(f"no price for {message!r}")

    async def fetch(self, name: str, reply: cf.Reply) -> None:
        await asyncio.sleep(0.2)  # stands for a slow source
        reply.send(100 + len(name))


def member(name: str) -> cf.ClusterActorSystem:
    config = cf.ClusterConfig.Builder(name, "memory://shop").with_messaging_port(0).build()
    return cf.ClusterFactory.create_cluster_system(config)


async def main() -> None:
    async with member("backend") as backend, member("frontend") as frontend:
        await backend.register(Prices, "prices")
        prices = frontend.pid("prices")

        slow = asyncio.ensure_future(prices.ask({"fetch": "mango"}, timeout=5.0))
        print(
            "apple:", await prices.ask({"price": "apple"}, timeout=1.0), "(answered while mango is fetched)"
        )
        print("mango:", await slow)

        try:
            await prices.ask({"price": "kiwi"}, timeout=1.0)
        except cf.RemoteActorError as error:
            print("kiwi: ", error)
        try:
            await prices.ask({"fetch": "melon"}, timeout=0.05)
        except cf.AskTimeoutError as error:
            print("melon:", error)
        try:
            await frontend.pid("stock").ask({"price": "apple"}, timeout=1.0)
        except cf.ActorNotFoundError as error:
            print("stock:", error)


if __name__ == "__main__":
    cf.run(main())
