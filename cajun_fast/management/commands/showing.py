"""How the commands draw: tables and amounts for people.

Laws: pure but for the console; a table fits a terminal of 80 columns where its content allows.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """Columns that begin with ``>`` stand to the right."""
    made = Table(
        title=title, box=None, title_justify="left", title_style="bold", header_style="dim", pad_edge=False
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return made


def seconds(value: float) -> str:
    """``850 µs``, ``12 ms``, ``3.4 s``, ``2 h``; ``–`` for nothing."""
    if value <= 0:
        return "–"
    for limit, unit, name in (
        (1e-3, 1e-6, "µs"),
        (1.0, 1e-3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 60.0, "min"),
    ):
        if value < limit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 3600:.3g} h" if value < 172_800 else f"{value / 86_400:.3g} d"


def amount(value: float) -> str:
    """``950``, ``1.2k``, ``3.4M``."""
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if name == 'k' else size):.3g}{name}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def size(value: float) -> str:
    """Bytes."""
    return f"{amount(value)}B"


def state_of(node: dict[str, Any]) -> Text:
    """What a node is, in a word or two, with its colour."""
    marks = []
    if node.get("is_leader"):
        marks.append(("leader", "bold green"))
    if node.get("is_client"):
        marks.append(("client", "dim"))
    if node.get("is_fenced"):
        marks.append(("fenced", "bold red"))
    if node.get("is_cordoned"):
        marks.append(("cordoned", "yellow"))
    if node.get("is_leaving"):
        marks.append(("leaving", "yellow"))
    if node.get("answers") is False:
        marks.append(("no answer", "bold red"))
    elif node.get("state") in ("stuck", "cut", "silent"):
        marks.append((node["state"], "bold red"))
    return Text(" ").join(Text(word, style=style) for word, style in marks or [("member", "")])
