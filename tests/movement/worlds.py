"""What the tests of moves stand on: an actor with a state, and books about what was sent to it and what it handled."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import cajun_fast as cf


class Ledger(cf.Actor):
    """Keeps what it handled, in order, by sender; ``homes`` counts the living copies of an id in this process."""

    homes: dict[str, list[str]] = {}  # noqa: RUF012

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.seen: list[list[Any]] = []

    def get_state(self) -> Any:
        return {"name": self.name, "seen": self.seen}

    def set_state(self, state: Any) -> None:
        self.name, self.seen = state["name"], state["seen"]

    def pre_start(self) -> None:
        self.homes.setdefault(self.context.self.id, []).append(self.context.node_id)
        assert len(self.homes[self.context.self.id]) == 1, (
            f"two copies at once: {self.homes[self.context.self.id]}"
        )

    def post_stop(self) -> None:
        self.homes[self.context.self.id].remove(self.context.node_id)

    def receive(self, message: Any, context: Any) -> Any:
        match message:
            case ["note", str(sender), int(number)]:
                self.seen.append([sender, number])
                return number
            case "where":
                return context.node_id
            case "seen":
                return self.seen
            case "name":
                return self.name


class Slow(Ledger):
    """Takes its time, and awaits in it."""

    async def receive(self, message: Any, context: Any) -> Any:
        await asyncio.sleep(0.001)
        return Ledger.receive(self, message, context)


def check_order(seen: list[list[Any]], sent: dict[str, int]) -> None:
    """Every sender's messages 0 … n-1 once each, in order."""
    by_sender: dict[str, list[int]] = defaultdict(list)
    for sender, number in seen:
        by_sender[sender].append(number)
    for sender, count in sent.items():
        got = by_sender[sender]
        assert len(got) == len(set(got)), (
            f"doubled from {sender}: {sorted(n for n in set(got) if got.count(n) > 1)[:9]}"
        )
        assert set(got) == set(range(count)), (
            f"lost from {sender}: {sorted(set(range(count)) - set(got))[:9]}"
        )
        assert got == list(range(count)), f"out of order from {sender}"
