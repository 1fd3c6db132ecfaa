"""Who may import whom: the table of docs/architecture.md, held against the imports.

A room is a module or package of cajun_fast, or a few modules named together; a file belongs to the room with
the longest name that it lies in. Files of one room may import each other; everything else must have a lower
rank. An import counts wherever it stands, in a function or under TYPE_CHECKING too: what a file knows is the
question, not when it learns it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cajun_fast"

RANKS = {
    0: ["errors", "clock", "guarantees", "garbage"],
    1: [
        "_core pid",
        "config config_groups config_rules config_load access",
        "envelope",
        "ports",
    ],
    2: [
        "actors",
        "messaging",
        "metadata",
        "metrics.histogram metrics.holds metrics.recorder metrics.snapshot",
    ],
    3: ["standalone", "discovery", "persistence"],
    4: ["cluster"],
    5: ["metrics"],
    6: ["management"],
    7: ["testing", ""],  # "" is the package's own face, cajun_fast/__init__.py
    # Programs: they use the face, as any program does.
    8: ["management.cli management.commands management.node management.demo management.bench", "__main__"],
}
RANK_OF = {room: rank for rank, rooms in RANKS.items() for room in rooms}
ROOM_OF = {module: room for room in RANK_OF for module in room.split() or [""]}


class Import(NamedTuple):
    line: int
    module: str


class Source(NamedTuple):
    """One file, under the name by which it is imported."""

    path: Path
    module: str
    is_package: bool


def room_of(module: str) -> str | None:
    """The room that a module of the package lies in; None for a room the table does not know."""
    inside = module.removeprefix(PACKAGE).lstrip(".")
    while inside and inside not in ROOM_OF:
        inside = inside.rpartition(".")[0]
    return ROOM_OF[inside] if inside or module == PACKAGE else None


def sources(root: Path) -> list[Source]:
    found = []
    for tree, pattern in ((root, "*.py"), (root / "src_pyx", "*.p[yx][xd]")):
        for path in sorted((tree / PACKAGE).rglob(pattern)):
            parts = path.relative_to(tree).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            found.append(Source(path, ".".join(parts[:-1] if is_package else parts), is_package))
    return found


def python_imports(source: Source, text: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(source, "." * node.level + (node.module or ""))
            yield from (Import(node.lineno, f"{origin}.{alias.name}") for alias in node.names)


CYTHON_IMPORT = re.compile(
    r"""^[ \t]*
        (?: from [ \t]+ (?P<origin>[\w.]+) [ \t]+ c?import [ \t]+
            (?: \( (?P<block>[^)]*) \) | (?P<names>.*) )
          | c?import [ \t]+ (?P<modules>.*) )""",
    re.MULTILINE | re.VERBOSE,
)


def cython_imports(source: Source, text: str) -> Iterator[Import]:
    for found in CYTHON_IMPORT.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        listed = found["block"] or found["names"] or found["modules"] or ""
        names = [name.split()[0] for name in re.sub(r"#.*", "", listed).split(",") if name.strip()]
        prefix = absolute(source, found["origin"]) + "." if found["origin"] else ""
        yield from (Import(line, prefix + name) for name in names)


def absolute(source: Source, name: str) -> str:
    level = len(name) - len(name.lstrip("."))
    if not level:
        return name
    parts = source.module.split(".")
    base = parts[: len(parts) - level + source.is_package]
    return ".".join([*base, name.lstrip(".")]).rstrip(".")


def is_a_face_import(module: str, known: set[str]) -> bool:
    """`from cajun_fast import X`, where X is no module: that takes X from the package's own face."""
    parent, _, name = module.rpartition(".")
    return parent == PACKAGE and module not in known and name not in ROOM_OF


def violations(root: Path) -> list[str]:
    everything = sources(root)
    known = {source.module for source in everything}
    found = []
    for source in everything:
        where = source.path.relative_to(root)
        here = room_of(source.module)
        if here is None:
            found.append(f"{where}: this room has no rank; give it one in RANKS and in docs/architecture.md")
            continue
        text = source.path.read_text(encoding="utf-8")
        reader = python_imports if source.path.suffix == ".py" else cython_imports
        for line, module in reader(source, text):
            if module != PACKAGE and not module.startswith(PACKAGE + "."):
                continue
            there = "" if is_a_face_import(module, known) else room_of(module)
            if there is None or there == here or RANK_OF[there] < RANK_OF[here]:
                continue
            found.append(
                f"{where}:{line}: {here or 'the face'} (rank {RANK_OF[here]}) imports {module}"
                f" (rank {RANK_OF[there]})"
            )
    return sorted(set(found))


def test_every_import_goes_down_in_rank() -> None:
    found = violations(ROOT)
    assert not found, "\n".join(found)


def test_there_is_something_to_look_at() -> None:
    assert {source.path.suffix for source in sources(ROOT)} == {".py", ".pyx", ".pxd"}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cajun_fast/actors/system.py", "from cajun_fast.cluster.router import Router"),
        ("cajun_fast/actors/system.py", "from cajun_fast.cluster import router"),
        ("cajun_fast/actors/system.py", "import cajun_fast.messaging.peer as peer"),
        ("cajun_fast/actors/system.py", "def late():\n    from ..metadata import store"),
        ("cajun_fast/actors/system.py", "from .. import cluster"),
        ("cajun_fast/actors/__init__.py", "from ..metadata.store import MetadataStore"),
        ("cajun_fast/errors.py", "from cajun_fast.clock import Clock"),
        ("cajun_fast/cluster/system.py", "from cajun_fast import run"),
        ("cajun_fast/cluster/system.py", "import cajun_fast"),
        ("cajun_fast/metrics/recorder.py", "from cajun_fast.metrics.prometheus import render"),
        ("src_pyx/cajun_fast/_core/link.pyx", "from cajun_fast.messaging.peer import Peer"),
        ("src_pyx/cajun_fast/_core/link.pyx", "from cajun_fast.config cimport (\n    Limits,  # bounds\n)"),
        ("src_pyx/cajun_fast/_core/link.pxd", "cimport cajun_fast.metrics.recorder as recorder"),
        ("src_pyx/cajun_fast/_core/link.pyx", "    from ..actors import cell"),
        ("cajun_fast/gossip.py", "x = 1"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, file: str, line: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(parents=True)
    planted.write_text(line + "\n")

    (message,) = violations(tmp_path)

    assert message.startswith(file)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("cajun_fast/actors/system.py", "from cajun_fast.errors import CajunError"),
        ("cajun_fast/actors/system.py", "from .mailbox import Mailbox"),
        ("cajun_fast/cluster/system.py", "from cajun_fast.actors.system import ActorSystem"),
        ("cajun_fast/metrics/prometheus.py", "from cajun_fast.metrics.recorder import Recorder"),
        ("cajun_fast/__init__.py", "from cajun_fast.cluster.system import ClusterActorSystem"),
        ("cajun_fast/actors/system.py", "import asyncio\nfrom collections import deque"),
        ("src_pyx/cajun_fast/_core/link.pyx", "from cajun_fast._core.window cimport Window\nimport asyncio"),
    ],
)
def test_an_import_that_goes_down_is_not(tmp_path: Path, file: str, line: str) -> None:
    planted = tmp_path / file
    planted.parent.mkdir(parents=True)
    planted.write_text(line + "\n")

    assert violations(tmp_path) == []
