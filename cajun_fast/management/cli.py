"""The command ``cajun-fast``: what can be typed, and what it says when it was typed wrongly.

Laws: no work is done here; each command hands its values to a room of its own, which it imports when it
runs, so that ``--help`` and ``--version`` answer at once. Status 0: done. 1: it ran, and the outcome is bad.
2: it could not run; one line on standard error names the value and the remedy. 130: interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer

from cajun_fast.errors import CajunError, ConfigError
from cajun_fast.management.bench.command import bench_command
from cajun_fast.management.commands import looking, moving
from cajun_fast.management.commands.cert import cert
from cajun_fast.management.commands.doctor import doctor
from cajun_fast.management.commands.joining import assignments
from cajun_fast.management.commands.top import top
from cajun_fast.management.demo.look import look

app = typer.Typer(
    name="cajun-fast",
    help="A clustered actor messaging engine: run its nodes, and see it work.",
    epilog="Every setting of a node: docs/configuration.md.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def version() -> str:
    """Of the installed package."""
    try:
        return metadata.version("cajun-fast")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cajun-fast {version()}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before a command."""


app.command("bench")(bench_command)
app.command("nodes")(looking.nodes)
app.command("actors")(looking.actors)
app.command("actor")(looking.actor)
app.command("dead-letters")(looking.dead_letters)
app.command("elect")(looking.elect)
app.command("explain")(looking.explain)
app.command("migrate")(moving.migrate)
app.command("cordon")(moving.cordon)
app.command("uncordon")(moving.uncordon)
app.command("drain")(moving.drain)
app.command("roll")(moving.roll)
app.command("top")(top)
app.command("doctor")(doctor)
app.add_typer(cert)
app.command("look")(look)


@app.command()
def node(
    id: Annotated[
        str | None, typer.Option("--id", help="This node's name, one living node each.", metavar="NAME")
    ] = None,
    store: Annotated[
        list[str] | None,
        typer.Option(
            help="The metadata store: sqlite:///cluster.db for one machine, http://host:2379 for etcd "
            "(repeat it, or use commas, for several servers).",
            metavar="URL",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.", metavar="HOST")
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(help="Port to listen on; 0: any free one. Default: 8080.", metavar="PORT"),
    ] = None,
    advertise: Annotated[
        str | None,
        typer.Option(
            help="What other nodes dial, where it differs from --host: in containers, behind NAT, "
            "or with --host 0.0.0.0.",
            metavar="HOST[:PORT]",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Name of the cluster; others on the same store are strangers. Default: cajun.",
            metavar="NAME",
        ),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            help="A module that registers actor types with @cajun_fast.actor(…); found in this folder and on "
            "PYTHONPATH. May be repeated.",
            metavar="MODULE",
        ),
    ] = None,
    persistence: Annotated[
        str | None, typer.Option(help="Where durable actors keep their state.", metavar="URL")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(help="What this node offers, e.g. gpu or zone-a. May be repeated.", metavar="ROLE"),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            help="Serve management and dashboard there; port 0: any free one. Beyond loopback it needs a token "
            "or client certificates (--set http.token_file=…).",
            metavar="HOST:PORT",
        ),
    ] = None,
    http_writable: Annotated[
        bool, typer.Option("--http-writable", help="Let it move actors and drain nodes, too.")
    ] = False,
    trace: Annotated[
        str | None,
        typer.Option(
            help="Send OpenTelemetry spans of messages there: otlp (OTEL_EXPORTER_OTLP_ENDPOINT and its like say "
            "where), file:PATH, console, or the name of an installed exporter.",
            metavar="WHERE",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting, e.g. membership.lease_ttl=2. May be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    drain_on_stop: Annotated[
        bool,
        typer.Option(
            "--drain-on-stop",
            help="When told to stop, move the actors to other nodes first (movement.drain_timeout).",
        ),
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            help="A TOML file of settings. CAJUN_… variables overrule it, options overrule both.",
            metavar="FILE",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.", metavar="LEVEL")] = "info",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log one JSON object a line.")] = False,
    stop_on_eof: Annotated[
        bool,
        typer.Option("--stop-on-eof", help="Stop in order when standard input closes, too."),
    ] = False,
) -> None:
    """Run one node of a cluster, until SIGTERM or SIGINT.

    Once it can serve, it prints one line of JSON: {"event": "ready", "node": …, "address": "host:port", …}.
    Logs go to standard error. A second signal stops it at once.
    """
    from cajun_fast.management.logs import LEVELS, set_up_logs
    from cajun_fast.management.node import NodeOptions, run_node

    if log_level not in LEVELS:
        raise ConfigError(f"--log-level {log_level!r} is no level: give one of {', '.join(LEVELS)}")
    overrides: dict[str, Any] = {
        "system_id": id,
        "store": tuple(store) if store else None,
        "messaging_host": host,
        "messaging_port": port,
        "cluster_name": cluster,
        "imports": tuple(imports) if imports else None,
        "persistence": persistence,
        "roles": tuple(role) if role else None,
        "http_listen": http,
        "http_writable": True if http_writable else None,
        "observability_trace": trace,
        "movement_drain_on_stop": True if drain_on_stop else None,
        **_advertised(advertise),
        **assignments(settings or ()),
    }
    loaded = load_config(config, overrides)
    set_up_logs(log_level, log_json, node=loaded.system_id)
    run_node(loaded, NodeOptions(stop_on_eof=stop_on_eof))


def load_config(file: str | None, overrides: dict[str, Any]) -> Any:
    """The node's configuration; what was not given comes from the environment and the file."""
    from cajun_fast.config import ClusterConfig

    given = {name: value for name, value in overrides.items() if value is not None}
    return ClusterConfig.load(file, **given)


def _advertised(address: str | None) -> dict[str, str]:
    if address is None:
        return {}
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        return {"messaging_advertised_host": address.strip("[]")}
    return {"messaging_advertised_host": host.strip("[]"), "messaging_advertised_port": port}


@app.command()
def demo(
    nodes: Annotated[int, typer.Option(help="Node processes.", min=2, max=16)] = 3,
    actors: Annotated[int, typer.Option(help="Accounts, spread over the nodes.", min=2, max=5000)] = 30,
    seconds: Annotated[float, typer.Option(help="How long transfers run.", min=1, max=3600)] = 10.0,
    store: Annotated[
        str,
        typer.Option(
            help="sqlite: a file in a temporary folder. etcd: a server of its own. Or the URL of a store "
            "that runs.",
        ),
    ] = "sqlite",
    guarantee: Annotated[
        str, typer.Option(help="exactly-once, at-least-once or at-most-once.")
    ] = "exactly-once",
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Kill one node with SIGKILL in the middle.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the verdict as one JSON object only.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Chooses who transfers to whom, and the victim.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the logs of the nodes.")] = False,
) -> None:
    """See it work: node processes, transfers between them at full speed, one node killed, and the verdict.

    Every transfer is accounted for. Status 0 only if the books balance.
    """
    from cajun_fast.management.demo.show import DemoOptions, run_demo

    options = DemoOptions.checked(
        nodes=nodes,
        actors=actors,
        seconds=seconds,
        store=store,
        guarantee=guarantee,
        kill=kill,
        as_json=as_json,
        seed=seed,
        verbose=verbose,
    )
    raise typer.Exit(run_demo(options))


def fail(command: str, error: Exception) -> NoReturn:
    """One line, status 2."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    print(f"{command}: {' '.join(text.split())}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    known = {each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands}
    known |= {each.typer_instance.info.name or "" for each in app.registered_groups if each.typer_instance}
    command = " ".join(["cajun-fast", *(word for word in words[:1] if word in known)])
    try:
        status = app(words, prog_name="cajun-fast", standalone_mode=False)
    except CajunError as error:
        fail(command, error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the flush at exit would complain again
        sys.exit(1)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        if not error.format_message():  # help was asked for by giving nothing, and is printed
            sys.exit(2)
        fail(command, _with_help(error, command))
    sys.exit(status if isinstance(status, int) else 0)


def _with_help(error: Any, command: str) -> Exception:
    return ConfigError(f"{error.format_message().rstrip('.')}; {command} --help shows what there is")


if __name__ == "__main__":
    main()
