"""``migrate``, ``cordon``, ``uncordon``, ``drain``, ``roll``: where actors live, by an operator's hand."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from typing import Annotated, Any

import typer

from cajun_fast.management.commands.bar import Bar, shown_drain
from cajun_fast.management.commands.joining import Json, inside, print_json

NodeName = Annotated[str, typer.Argument(help="The node.", metavar="NODE")]
WithoutState = Annotated[
    bool,
    typer.Option(
        "--without-state",
        help="Also actors that cannot say their state: they begin anew, with their mailbox.",
    ),
]


@inside
async def migrate(
    ask: Any,
    actor: Annotated[str, typer.Argument(help="The actor.", metavar="ACTOR")],
    node: Annotated[str, typer.Argument(help="Where it shall live.", metavar="NODE")],
    without_state: WithoutState = False,
    as_json: Json = False,
) -> int:
    """Move one actor, with its state and its mailbox. Status 0 only if it lives there now."""
    result = await ask.manager.migrate_actor(actor, node, without_state=without_state)
    if as_json:
        print_json(dataclasses.asdict(result))
    elif not result.moved:
        print(f"{actor}: {result.outcome.value} on {result.source}: {result.reason}")
    elif result.source == result.target:
        print(f"{actor}: lives on {node} already")
    else:
        print(
            f"{actor}: {result.outcome.value}, from {result.source} to {result.target} with "
            f"{result.messages} messages in {result.seconds:.3f} s"
        )
    return 0 if result.moved else 1


@inside
async def cordon(ask: Any, node: NodeName, as_json: Json = False) -> None:
    """Place no new actors on a node; those that are there stay."""
    _show_cordon(await ask.manager.cordon_node(node), as_json, "cordoned", "was cordoned already")


@inside
async def uncordon(ask: Any, node: NodeName, as_json: Json = False) -> None:
    """Place new actors on a node again."""
    _show_cordon(await ask.manager.uncordon_node(node), as_json, "takes actors again", "was not cordoned")


def _show_cordon(result: Any, as_json: bool, changed: str, as_before: str) -> None:
    if as_json:
        print_json(dataclasses.asdict(result))
    else:
        print(f"{result.node}: {changed if result.changed else as_before}")


@inside
async def drain(
    ask: Any,
    node: NodeName,
    without_state: WithoutState = False,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds. Default: movement.drain_timeout.", metavar="SECONDS", min=0)
    ] = None,
    as_json: Json = False,
) -> int:
    """Move all actors of a node to the others, so that it can stop. Status 0 only if it is empty."""
    drain = ask.manager.drain_node(node, without_state=without_state, timeout=timeout)
    result = await drain if as_json else await shown_drain(node, drain)
    if as_json:
        print_json(dataclasses.asdict(result))
    else:
        print(f"{node}: {result.moved} actors moved in {result.seconds:.2f} s")
        for each in result.stayed:
            print(f"  stays: {each.actor_id}: {each.reason}")
    return 0 if result.complete else 1


@inside
async def roll(
    ask: Any,
    nodes: Annotated[
        list[str] | None, typer.Argument(help="Only these, in any order. Default: all.", metavar="[NODE]…")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            help="Restarts a node: run by the shell with {node} filled in, e.g. 'ssh {node} systemctl restart cajun'. "
            "Without it, whoever watches restarts each node when it says so.",
            metavar="COMMAND",
        ),
    ] = None,
    restart_timeout: Annotated[
        float, typer.Option(help="How long a node may take to come back.", min=1.0, metavar="SECONDS")
    ] = 120.0,
    drain_timeout: Annotated[
        float | None,
        typer.Option(help="Of each drain. Default: movement.drain_timeout.", metavar="SECONDS", min=0),
    ] = None,
    without_state: WithoutState = False,
    force: Annotated[
        bool, typer.Option("--force", help="Restart a node although actors are left that cannot move.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Restart the nodes one by one, the leader last: drain, restart, wait until it is back, go on."""
    from cajun_fast.management import rolling

    rolled = rolling.roll(
        ask.manager,
        lambda node: restart_by(command, node),
        nodes=nodes or (),
        drain_timeout=drain_timeout,
        restart_timeout=restart_timeout,
        without_state=without_state,
        force=force,
    )
    with Bar() as bar:
        async for step in rolled:
            if step.progress is not None:
                bar.show(step.progress, quiet=as_json)
            elif as_json:
                print_json(dataclasses.asdict(step))
            elif step.what == "restarting" and command is None:
                bar.say(f"{step.node}: restart it now")
            else:
                bar.say(f"{step.node}: {step.what} {step.detail}".rstrip())
    result = rolled.result
    if as_json:
        print_json(dataclasses.asdict(result))
    else:
        print(f"{len(result.done)} nodes restarted, {result.moved} moves, {result.seconds:.1f} s")
    return 0 if result.failed is None else 1


async def restart_by(command: str | None, node: str) -> None:
    """Run the command for that node and wait for its end; without one there is nothing to do. Raises ConfigError."""
    if command is None:
        return
    from cajun_fast.errors import ConfigError

    process = await asyncio.create_subprocess_shell(command.replace("{node}", shlex.quote(node)))
    if status := await process.wait():
        raise ConfigError(
            f"--command {command!r} ended with status {status} for node {node!r}: nothing more is done"
        )
