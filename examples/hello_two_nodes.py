"""Two nodes in one process: an actor on one, messages from the other. Nothing else needs to run.

python examples/hello_two_nodes.py
"""

from __future__ import annotations

import cajun_fast as cf


class Greeter(cf.Actor):
    """Counts whom it has greeted. One message at a time, so plain attributes are safe."""

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting
        self.greeted = 0

    def receive(self, name: str, context: cf.Context) -> str:
        self.greeted += 1
        return f"{self.greeting}, {name}! You are number {self.greeted}, and this is {context.node_id}."


def member(name: str) -> cf.ClusterActorSystem:
    """A node that finds its peers through a store inside this process."""
    config = cf.ClusterConfig.Builder(name, "memory://hello").with_messaging_port(0).build()
    return cf.ClusterFactory.create_cluster_system(config)


async def main() -> None:
    async with member("node-1") as one, member("node-2") as two:
        await one.register(Greeter, "greeter", "Hello")
        greeter = two.pid("greeter")  # by its id, wherever it lives
        for name in ("Ada", "Grace", "Barbara"):
            print(await greeter.ask(name, timeout=5.0))


if __name__ == "__main__":
    cf.run(main())
