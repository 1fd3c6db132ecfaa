"""A leaderboard that moves to another node while scores come in, and none is lost or counted twice.

python examples/leaderboard.py

What an actor is moves with it: what `get_state` gives, its mailbox, what it has seen of each sender. Players go on
sending to the same id and notice nothing.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import cajun_fast as cf

PLAYERS = 8
GAMES = 400


@cf.actor("board")
class Board(cf.Actor):
    """Points by player."""

    def __init__(self) -> None:
        self.points: dict[str, int] = {}
        self.games = 0

    def get_state(self) -> Any:
        return {"points": self.points, "games": self.games}

    def set_state(self, state: Any) -> None:
        self.points, self.games = state["points"], state["games"]

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case {"op": "score", "player": str(player), "points": int(points)}:
                self.points[player] = self.points.get(player, 0) + points
                self.games += 1
            case {"op": "top", "n": int(n)}:
                best = sorted(self.points.items(), key=lambda entry: (-entry[1], entry[0]))[:n]
                return {"top": best, "games": self.games, "node": context.node_id}
        return None


def node(name: str) -> cf.ClusterActorSystem:
    config = cf.ClusterConfig.Builder(name, "memory://games").with_messaging_port(0).build()
    return cf.ClusterFactory.create_cluster_system(config)


async def play(
    system: cf.ClusterActorSystem, player: str, chance: random.Random, sent: dict[str, int]
) -> None:
    board = system.pid("board")
    for _ in range(GAMES):
        points = chance.randrange(1, 100)
        await board.send({"op": "score", "player": player, "points": points})
        sent[player] = sent.get(player, 0) + points


async def main() -> None:
    async with node("one") as one, node("two") as two, node("three") as three:
        await one.register("board", "board")
        sent: dict[str, int] = {}
        players = [f"player-{number}" for number in range(PLAYERS)]
        games = [
            asyncio.create_task(play((one, two, three)[number % 3], player, random.Random(number), sent))
            for number, player in enumerate(players)
        ]
        for target in ("two", "three", "one", "two"):
            moved = await one.manager.migrate_actor("board", target)
            print(f"the board is on {moved.target}: {moved.outcome}")
        await asyncio.gather(*games)
        for system in (one, two, three):  # an ask comes behind what its node has sent
            shown = await system.pid("board").ask({"op": "top", "n": PLAYERS}, timeout=10.0)
        print(f"{shown['games']} games of {PLAYERS * GAMES} are counted, on node {shown['node']}")
        same = dict(shown["top"]) == sent
        print("every point is where it belongs" if same else "points are missing")


if __name__ == "__main__":
    cf.run(main())
