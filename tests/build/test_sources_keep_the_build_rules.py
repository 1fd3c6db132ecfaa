"""What a .pyx must leave to the build, and what no variant of the build can catch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CYTHON_FILES = sorted((ROOT / "src_pyx").rglob("*.p[yx][xd]"))

OF_THE_VARIANT = re.compile(
    r"cython[:.][^\n]*\b(boundscheck|wraparound|initializedcheck|cdivision|nonecheck)\b"
)
NEGATIVE_INDEX = re.compile(r"[\w)\]]\[(?:[^\]\n]*:)?\s*-\s*\d")

pytestmark = pytest.mark.skipif(not CYTHON_FILES, reason="only in a checkout")


def lines_with(pattern: re.Pattern[str], text: str) -> list[int]:
    return [text.count("\n", 0, found.start()) + 1 for found in pattern.finditer(text)]


def offences(pattern: re.Pattern[str]) -> list[str]:
    found = ((path, lines_with(pattern, path.read_text(encoding="utf-8"))) for path in CYTHON_FILES)
    return [f"{path.relative_to(ROOT)}:{line}" for path, lines in found for line in lines]


def test_the_variant_alone_says_what_is_checked() -> None:
    assert offences(OF_THE_VARIANT) == []


def test_nothing_is_indexed_from_its_end() -> None:
    """Release reads before the beginning, the checking variants do what Python does: none would notice."""
    assert offences(NEGATIVE_INDEX) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (OF_THE_VARIANT, "# cython: binding=False, boundscheck=True"),
        (OF_THE_VARIANT, "    @cython.wraparound(True)"),
        (OF_THE_VARIANT, "    with cython.cdivision(True):"),
        (NEGATIVE_INDEX, "    last = items[-1]"),
        (NEGATIVE_INDEX, "    last = take()[ - 2 ]"),
        (NEGATIVE_INDEX, "    rest = items[-2:]"),
        (NEGATIVE_INDEX, "    rest = items[1:-1]"),
    ],
)
def test_a_planted_offence_is_found(pattern: re.Pattern[str], line: str) -> None:
    assert lines_with(pattern, "\n" + line) == [2]


@pytest.mark.parametrize("line", ["rest = items[:n - 1]", "n = items[i - 1]", "pair = [-1]", "x = a[i]-1"])
def test_what_only_looks_alike_is_not(line: str) -> None:
    assert lines_with(NEGATIVE_INDEX, line) == []


def test_every_folder_below_src_pyx_is_a_package_to_cython() -> None:
    folders = {path.parent for path in CYTHON_FILES}
    assert [folder for folder in folders if not (folder / "__init__.pxd").exists()] == []
