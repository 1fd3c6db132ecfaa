"""``cajun-fast look``: a small cluster with something to do, and its dashboard, until Ctrl-C.

Laws: all of it lies in a temporary folder and ends with the command; the dashboard listens on loopback only.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import cajun_fast as cf
from cajun_fast.management.demo.interrupts import interruptible
from cajun_fast.management.demo.nodes import Nodes
from cajun_fast.management.logs import hush

#: Seconds between two bursts of messages.
PAUSE = 0.01


@dataclass(frozen=True, slots=True)
class LookOptions:
    """What runs."""

    nodes: int
    actors: int
    rate: int
    http: str


def look(
    nodes: Annotated[int, typer.Option(help="Node processes.", min=1, max=16)] = 3,
    actors: Annotated[int, typer.Option(help="Actors, spread over the nodes.", min=1, max=5000)] = 24,
    rate: Annotated[int, typer.Option(help="Messages a second, about.", min=1, max=50_000)] = 2000,
    http: Annotated[
        str, typer.Option(help="Where the dashboard is; port 0: any free one.", metavar="HOST:PORT")
    ] = "127.0.0.1:0",
) -> None:
    """Run a small cluster with something to do, and show where its dashboard is. Ctrl-C or SIGTERM ends it."""
    raise typer.Exit(cf.run(interruptible(show(LookOptions(nodes, actors, rate, http)))))


async def show(options: LookOptions) -> None:
    """Until it is cancelled."""
    hush()
    names = [chr(ord("a") + number) for number in range(options.nodes)]
    with tempfile.TemporaryDirectory(prefix="cajun-look-") as place:
        folder = Path(place)
        store = f"sqlite:///{folder}/cluster.db"
        more = {"a": ("--http", options.http, "--http-writable")}
        async with Nodes(
            names,
            store,
            "cajun",
            folder,
            verbose=False,
            imports="cajun_fast.management.demo.kitchen",
            more=more,
        ) as running:
            print(f"dashboard   {running.all[0].url}/dashboard/")
            print(f"in another  export CAJUN_STORE={store}")
            print("            cajun-fast nodes · actors · top · migrate pot-07 b · drain c", flush=True)
            await stir(names, store, options)


async def stir(names: list[str], store: str, options: LookOptions) -> None:
    """Send messages to all pots, some more than others, for ever."""
    config = cf.ClusterConfig.Builder("cooks", store).with_messaging_port(0).as_client().build()
    chance = random.Random()
    async with cf.ClusterFactory.create_cluster_system(config) as system:
        homes = itertools.cycle(names)
        pots = [
            await system.create_actor_on_node("pot", f"pot-{number:02}", next(homes))
            for number in range(options.actors)
        ]
        favourites = pots[: max(1, len(pots) // 5)]
        burst = max(1, round(options.rate * PAUSE))
        while True:
            for _ in range(burst):
                pot = chance.choice(favourites if chance.random() < 0.4 else pots)
                try:
                    pot.tell("stir")
                except cf.BackpressureError:
                    break  # somebody drains a node just now: go on a moment later
            await asyncio.sleep(PAUSE)
