"""``top``: the cluster, live: nodes, links, hottest actors.

Laws: it draws what ``Watch`` sees, once a second; ``--json`` prints each look as one line, for programs.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import typer

from cajun_fast.management.commands.joining import Json, inside, print_json


@inside
async def top(
    ask: Any,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2, max=60)] = 1.0,
    looks: Annotated[int, typer.Option(help="End after so many; 0: never.", min=0)] = 0,
    actors: Annotated[int, typer.Option(help="Hottest actors to show.", min=0, max=100)] = 12,
    as_json: Json = False,
) -> None:
    """Show the cluster live: nodes, links, and the actors that take the most time. Ctrl-C ends it."""
    from cajun_fast.management.watch import Watch

    watch = Watch(ask.system, interval=interval, hottest=max(1, actors))
    me = ask.system.node_id
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await (_print_lines(watch, looks, me) if as_json else _draw(watch, looks, actors, me))
    finally:
        await watch.close()


async def _seen(watch: Any, looks: int, me: str) -> Any:
    """The looks that have rates: from the second one on."""
    count = 0
    async for kind, data in watch.watch():
        if kind != "overview" or not data.get("seconds"):
            continue
        yield without(me, data)
        count += 1
        if count == looks:
            return


def without(me: str, seen: dict[str, Any]) -> dict[str, Any]:
    """This command is a member too, and nobody wants to see it."""
    nodes = [row for row in seen["nodes"] if row["node"] != me]
    return {
        **seen,
        "totals": {**seen["totals"], "nodes": len(nodes)},
        "nodes": nodes,
        "links": [row for row in seen["links"] if me not in (row["node"], row["peer"])],
    }


async def _print_lines(watch: Any, looks: int, me: str) -> None:
    async for seen in _seen(watch, looks, me):
        print_json(seen)


async def _draw(watch: Any, looks: int, actors: int, me: str) -> None:
    from rich.live import Live

    from cajun_fast.management.commands.showing import console

    with Live(console=console, screen=console.is_terminal and looks == 0, auto_refresh=False) as live:
        async for seen in _seen(watch, looks, me):
            live.update(picture(seen, actors), refresh=True)


def picture(seen: dict[str, Any], actors: int) -> Any:
    """All of it, for a terminal."""
    from rich.console import Group

    return Group(_totals(seen), "", _nodes(seen), "", _links(seen), "", _hottest(seen, actors))


def _totals(seen: dict[str, Any]) -> str:
    from cajun_fast.management.commands.showing import amount, seconds

    totals = seen["totals"]
    latency = totals["latency"]
    return (
        f"[bold]{len(seen['nodes'])} nodes[/bold]  leader {seen['leader'] or '[red]none[/red]'}  "
        f"{amount(totals['actors'])} actors  {amount(totals['handled_per_second'])} handled/s  "
        f"latency p50 {seconds(latency['p50'])}  p99 {seconds(latency['p99'])}  queued {amount(totals['queued'])}  "
        f"dead letters {amount(totals['dead_letters'])}"
    )


def _nodes(seen: dict[str, Any]) -> Any:
    from cajun_fast.management.commands.showing import amount, seconds, state_of, table

    shown = table(
        "node",
        "state",
        ">actors",
        ">handled/s",
        ">sent/s",
        ">p99",
        ">queued",
        ">loop late",
        ">longest hold",
        ">dead",
    )
    for row in seen["nodes"]:
        shown.add_row(
            row["node"],
            state_of(row),
            amount(row["actors"]),
            amount(row["handled_per_second"]),
            amount(row["sent_per_second"]),
            seconds(row["latency"]["p99"]),
            amount(row["queued"]),
            seconds(row["loop_lag"]),
            f"{seconds(row['longest_hold'])} {row['held_by']}".rstrip(),
            amount(row["dead_letters"]),
        )
    return shown


def _links(seen: dict[str, Any]) -> Any:
    from cajun_fast.management.commands.showing import amount, seconds, size, table

    shown = table("link", "by", "breaker", ">msgs/s", ">bytes/s", ">not acked", ">round trip p99", ">resent")
    for row in sorted(seen["links"], key=lambda row: -row["messages_per_second"])[:20]:
        shown.add_row(
            f"{row['node']} → {row['peer']}",
            row["transport"] if row["up"] else "[red]down[/red]",
            row["breaker"],
            amount(row["messages_per_second"]),
            size(row["bytes_per_second"]),
            f"{amount(row['unacknowledged'])} ({size(row['unacknowledged_bytes'])})",
            seconds(row["round_trip_p99"]),
            amount(row["resent"]),
        )
    return shown


def _hottest(seen: dict[str, Any], limit: int) -> Any:
    from cajun_fast.management.commands.showing import amount, seconds, size, table

    shown = table(
        "actor", "node", "type", ">time", ">longest hold", ">msgs/s", ">bytes/s", ">queue", ">failed", "state"
    )
    for row in seen["hottest"][:limit]:
        shown.add_row(
            row["id"],
            row["node"],
            row["type"],
            f"{row['busy'] * 100:.3g} %",
            seconds(row["hold"]) if row.get("hold") else "",
            amount(row["rate"]),
            size(row["bytes"]),
            amount(row["queue"]),
            amount(row["failed"]),
            row["state"],
        )
    return shown
