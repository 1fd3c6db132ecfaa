"""``nodes``, ``actors``, ``actor``, ``dead-letters``, ``elect``, ``explain``: one question, one answer."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cajun_fast.management.commands.joining import Json, inside, print_json

Limit = Annotated[int, typer.Option(help="How many at most.", min=1, max=1000)]


@inside
async def nodes(ask: Any, as_json: Json = False) -> None:
    """List the members of the cluster: who leads, who is cordoned, how many actors each has."""
    rows = [row for row in await ask.nodes() if row["node"] != ask.system.node_id]
    if as_json:
        print_json({"nodes": rows})
        return
    if not rows:
        from cajun_fast.metadata.urls import redact

        cluster, url = ask.system.config.cluster_name, redact(ask.system.config.endpoints[0])
        print(
            f"no node of cluster {cluster!r} lives on {url}: is that the store of its nodes?", file=sys.stderr
        )
        return
    from cajun_fast.management.commands.showing import console, state_of, table

    shown = table("node", "state", ">actors", "address", ">life", "version", "roles")
    for row in rows:
        life, actors = str(row["incarnation"]), str(row["actors"])
        roles = " ".join(row["roles"])
        shown.add_row(row["node"], state_of(row), actors, row["address"], life, row["version"], roles)
    console.print(shown)


@inside
async def actors(
    ask: Any,
    prefix: Annotated[str, typer.Argument(help="Only ids that begin so.", metavar="[PREFIX]")] = "",
    node: Annotated[str | None, typer.Option(help="Only those that live there.", metavar="NODE")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Only that type.", metavar="TYPE")] = None,
    limit: Limit = 100,
    after: Annotated[str | None, typer.Option(help="Go on behind this id.", metavar="ID")] = None,
    as_json: Json = False,
) -> int:
    """List the actors of the cluster, page by page: the directory, then the sharded ones that run.

    Status 4 when a node did not say which sharded ones it has.
    """
    page = await ask.actors(prefix=prefix, node=node, type_name=kind, limit=limit, after=after)
    if as_json:
        print_json(page)
        return 4 if page["silent"] else 0
    from cajun_fast.management.commands.showing import console, table

    shown = table("actor", "node", "type", ">epoch")
    for row in page["actors"]:
        shown.add_row(row["actor_id"], row["node"], row["type"] or "–", str(row["epoch"]))
    console.print(shown)
    if page["after"] is not None:
        console.print(f"[dim]more: --after {page['after']}[/dim]")
    for silent, why in page["silent"].items():
        console.print(f"[red]{silent}: {why}[/red]")
    return 4 if page["silent"] else 0


@inside
async def actor(
    ask: Any,
    actor_id: Annotated[str, typer.Argument(help="Its id.", metavar="ID")],
    as_json: Json = False,
) -> None:
    """Show one actor: where it lives, its queue, the line on which its handler waits."""
    row = await ask.actor(actor_id)
    if as_json:
        print_json(row)
        return
    from cajun_fast.management.commands.showing import console, table

    shown = table("", "")
    shown.show_header = False
    here = row.pop("here", None) or {}
    for label, value in {**row, **here}.items():
        if value is not None and value != [] and label != "id":
            shown.add_row(f"[dim]{label.replace('_', ' ')}[/dim]", str(value))
    console.print(shown)


@inside
async def dead_letters(
    ask: Any,
    node: Annotated[str | None, typer.Option(help="Only of that node.", metavar="NODE")] = None,
    target: Annotated[str | None, typer.Option(help="Only to that actor.", metavar="ID")] = None,
    reason: Annotated[str | None, typer.Option(help="Only for that reason.", metavar="REASON")] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> int:
    """Show messages that reached no handler, the newest first, and count them by reason.

    Status 4 when a node did not answer.
    """
    answer = await ask.dead_letters(node=node, target=target, reason=reason, limit=limit)
    if as_json:
        print_json(answer)
    else:
        _show_letters(answer)
    return 4 if answer["silent"] else 0


def _show_letters(answer: dict[str, Any]) -> None:
    from cajun_fast.management.commands.showing import console, seconds, table

    named = any(letter.get("message_id") for letter in answer["letters"])
    shown = table(
        ">ago", "node", "target", "reason", "from", "message", *(["id, for explain"] if named else [])
    )
    for letter in answer["letters"]:
        shown.add_row(
            seconds(letter["age"]),
            letter["node"],
            letter["target"],
            letter["reason"],
            letter["sender"] or "–",
            letter["message"],
            *([letter.get("message_id") or "–"] if named else []),
        )
    if answer["letters"]:
        console.print(shown)
    counts = ", ".join(f"{reason}: {count}" for reason, count in sorted(answer["counts"].items()))
    console.print(f"[dim]{answer['total']} dead letters since the nodes' starts[/dim] {counts}".rstrip())
    for silent, why in answer["silent"].items():
        console.print(f"[red]{silent}: {why}[/red]")


@inside
async def elect(ask: Any, as_json: Json = False) -> int:
    """Have the leader step down; the next in line takes over. Status 1 if it did not."""
    outcome = await ask.elect()
    if as_json:
        print_json(outcome)
    else:
        print(outcome["reason"])
    return 0 if outcome["resigned"] else 1


@inside
async def explain(
    ask: Any,
    message_id: Annotated[
        str,
        typer.Argument(help="As a dead letter, an error or manager.last_message_id names it.", metavar="ID"),
    ],
    as_json: Json = False,
) -> int:
    """Say what became of a message that went to another node: where it is, or why it ended.

    Status 3 when no node knows anything of it.
    """
    fate = await ask.explain(message_id)
    if as_json:
        print_json(fate)
    else:
        _show_fate(fate)
    return 3 if fate["stage"] == "unknown" else 0


def _show_fate(fate: dict[str, Any]) -> None:
    from cajun_fast.management.commands.showing import console, seconds, table

    console.print(f"[bold]{fate['stage']}[/bold]  {fate['text']}")
    shown = table(">ago", "stage", "node", "")
    for event in fate["events"]:
        shown.add_row(seconds(event["age"]), event["stage"], event["node"], event["detail"])
    if fate["events"]:
        console.print(shown)
