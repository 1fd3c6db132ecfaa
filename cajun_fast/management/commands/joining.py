"""How an operator's command gets into a cluster: as a client member, for as long as it runs.

    0  done                                     3  what was asked for does not exist: no such node, actor, message
    1  it ran, and the outcome is bad           4  the cluster does not answer: its store, its nodes, in time
    2  it could not run: a wrong word or value  130  interrupted

Laws: a member and not an HTTP caller, so that it works where no node serves HTTP, and over the same guarded
links. Its id is one of a thousand of this host, so that the store does not fill with ids of commands that ran
once.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cajun_fast as cf

if TYPE_CHECKING:
    from cajun_fast.management.operations import Operations

Work = Callable[["Operations"], Awaitable[int | None]]
Command = Callable[..., None]

Store = Annotated[
    list[str] | None,
    typer.Option(help="The cluster's metadata store, as for a node. Default: $CAJUN_STORE.", metavar="URL"),
]
Config = Annotated[
    str | None,
    typer.Option(help="A node's TOML file: its store, cluster and security are used.", metavar="FILE"),
]
Cluster = Annotated[str | None, typer.Option(help="Name of the cluster. Default: cajun.", metavar="NAME")]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="This command's own id in the cluster: the one its certificate is made for.",
        metavar="NAME",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value, for programs.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, e.g. security.key_file=cluster.key.", metavar="NAME=VALUE"),
]


@dataclass(frozen=True, slots=True)
class Door:
    """Where the cluster is, as typed: its fields are the options of every command."""

    store: Store = None
    config: Config = None
    cluster: Cluster = None
    name: As = None
    settings: Set = None

    def load(self) -> cf.ClusterConfig:
        """The configuration of a client member. Raises ConfigError."""
        values: dict[str, Any] = {
            **assignments(self.settings or ()),
            "system_id": self.name or own_id(),
            "client": True,
            "imports": (),
            "messaging_host": "127.0.0.1",  # it dials; nobody has to find it
            "messaging_port": 0,
            "messaging_advertised_host": None,
            "messaging_advertised_port": None,
            "http_listen": None,
        }
        if self.store:
            values["store"] = tuple(self.store)
        if self.cluster:
            values["cluster_name"] = self.cluster
        return cf.ClusterConfig.load(self.config, **values)


def with_door(function: Command) -> Command:
    """A command whose first parameter is the Door that the options of every command make."""
    _door, *own = inspect.signature(function, eval_str=True).parameters.values()
    common = inspect.signature(Door, eval_str=True).parameters

    @functools.wraps(function)
    def command(**given: Any) -> None:
        function(Door(**{name: given.pop(name) for name in common}), **given)

    each = [*own, *common.values()]
    command.__signature__ = inspect.Signature(each)  # type: ignore[attr-defined] # what typer goes by
    command.__annotations__ = {one.name: one.annotation for one in each}
    return command


def inside(work: Callable[..., Awaitable[int | None]]) -> Command:
    """A command that joins the cluster and does ``work(operations, …)`` there; what it returns is its status."""

    @functools.wraps(work)
    def command(door: Door, **given: Any) -> None:
        run(door, lambda ask: work(ask, **given))

    return with_door(command)


def own_id() -> str:
    """One of a thousand of this host."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "host"
    return f"cli-{host}-{os.getpid() % 1000}"


def assignments(settings: Any) -> dict[str, str]:
    """``--set NAME=VALUE`` as arguments of ``ClusterConfig.load``. Raises ConfigError."""
    values = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign:
            raise cf.ConfigError(f"--set {setting!r} sets nothing: write --set NAME=VALUE")
        values[name.strip().replace(".", "_", 1)] = value.strip()
    return values


def run(door: Door, work: Work) -> None:
    """Join, work, leave; ends the command with its status."""
    from cajun_fast.management.logs import hush
    from cajun_fast.management.operations import Operations

    hush()
    config = door.load()

    async def joined() -> int:
        async with cf.ClusterFactory.create_cluster_system(config) as system:
            return await work(Operations(system)) or 0

    try:
        status = cf.run(joined())
    except cf.CajunError as error:
        status = status_of(error)
        print(f"cajun-fast: {' '.join(str(error).split())}", file=sys.stderr)
    raise typer.Exit(status)


def status_of(error: cf.CajunError) -> int:
    """See the head of this file."""
    if isinstance(error, cf.ActorNotFoundError | cf.NodeUnavailableError):
        return 3
    if isinstance(error, cf.MetadataStoreUnavailableError | cf.AskTimeoutError):
        return 4
    return 2 if isinstance(error, cf.ConfigError) else 1


def print_json(value: Any) -> None:
    """One value, one line."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()
