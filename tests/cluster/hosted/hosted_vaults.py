"""Durable sharded actors for the node processes of the tests."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import cajun_fast as cf

FOLDER = Path(os.environ["VAULT_FOLDER"])


@cf.actor("vault", sharded=True, passivate_after=0.2)
class Vault(cf.Actor):
    """Keeps every number that it is sent. The first that is sent as "held" stays in its handler, changed and not
    committed, until the file ``go`` is there: ``held`` names the node.
    """

    durable = True

    def __init__(self) -> None:
        self.seen: list[int] = []

    def get_state(self) -> Any:
        return self.seen

    def set_state(self, state: Any) -> None:
        self.seen = list(state)

    async def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case int(number):
                self.seen.append(number)
            case ["held", int(number)]:
                self.seen.append(number)
                await self.hold(context.node_id)
            case "where":
                return context.node_id
        return self.seen

    async def hold(self, node: str) -> None:
        if (FOLDER / "held").exists():
            return
        (FOLDER / "held").write_text(node)
        while not (FOLDER / "go").exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
