"""``cert``: an authority, certificates of nodes and the keys of authentication, as files in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cajun_fast.management.certificates import LOCAL, Folder, make_authority, make_node, make_secret

cert = typer.Typer(
    name="cert",
    help="Make certificates and keys for the nodes of a cluster.",
    epilog="What to do with them: docs/security.md.",
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option("--out", help="The folder that holds them all.", metavar="FOLDER")]


@cert.command("ca")
def ca(
    out: Out = Path("certs"),
    name: Annotated[str, typer.Option(help="Stands in its name.")] = "cajun-fast",
    days: Annotated[float, typer.Option(help="How long it counts.", min=0.01)] = 3650,
) -> None:
    """Make an authority: ca.pem for every node, ca.key for nobody but who makes certificates."""
    folder = Folder(out)
    make_authority(folder, name=name, days=days)
    print(f"{folder.ca}: give it to every node\n{folder.ca_key}: keep it where certificates are made")


@cert.command("node")
def node(
    id: Annotated[str, typer.Argument(help="The node's id, as in --id and system_id.", metavar="ID")],
    out: Out = Path("certs"),
    host: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Name or address that others dial; may be repeated. Default: {', '.join(LOCAL)}.",
            metavar="HOST",
        ),
    ] = None,
    days: Annotated[float, typer.Option(help="How long it counts.", min=0.01)] = 90,
) -> None:
    """Make a node's certificate and key, in the place of older ones: a node that runs takes them up by itself."""
    folder = Folder(out)
    make_node(folder, id, hosts=host or LOCAL, days=days)
    print(f"{folder.cert(id)}, {folder.key(id)}: give them to node {id}")


@cert.command("key")
def key(out: Out = Path("certs")) -> None:
    """Make a key for authentication; where there are some already, in front of them."""
    folder = Folder(out)
    if make_secret(folder):
        print(f"{folder.secret}: give it to every node")
    else:
        print(
            f"{folder.secret}: the new key stands in front. In this order: add it *behind* the old one on every node, "
            "then give every node this file, then remove the old key from it everywhere"
        )
