"""Break the engine on purpose, one fault after the other, and see that some test fails.

    make mutants                                  all of them, on a copy of the checkout (some minutes)
    python -m tests.mutants.run "skip dedup" …    those

Ends with 1 if a fault was not noticed, or is none: one that does not compile, or fails for a name that is not there,
says nothing about the tests. Faults stand in faults.toml.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Fault(NamedTuple):
    """See faults.toml."""

    name: str
    file: str
    old: str
    new: str
    tests: Sequence[str] = ("tests/core/test_link.py",)


FAULTS = [
    Fault(**each) for each in tomllib.loads((Path(__file__).parent / "faults.toml").read_text())["fault"]
]
ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv" / "bin"
TEST_TIME = 300.0
NO_FAULT = ("NameError", "SyntaxError", "ImportError", "ModuleNotFoundError", "UnboundLocalError")


class NonsenseError(Exception):
    """A change that is no fault of the engine but nonsense."""


def copy(to: Path) -> None:
    """The files of the checkout as they are now, and a build of them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    headers = sorted((ROOT / ".venv").glob("headers/usr/include"))
    subprocess.run(
        [
            str(TOOLS / "cmake"), "-S", str(to), "-B", str(to / "build/dev"), "-G", "Ninja", "--log-level=WARNING",
            f"-DCMAKE_MAKE_PROGRAM={TOOLS / 'ninja'}", f"-DPython_EXECUTABLE={TOOLS / 'python'}",
            "-DCAJUN_VARIANT=debug", "-DCAJUN_INPLACE=ON", *(f"-DCAJUN_PYTHON_HEADERS={each}" for each in headers),
        ],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    build(to)


def build(tree: Path) -> None:
    """Raises NonsenseError with the compiler's words."""
    done = subprocess.run(
        [str(TOOLS / "ninja"), "-C", str(tree / "build/dev"), "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise NonsenseError(f"it does not compile:\n{done.stdout.strip()[-3000:]}")


def notices(tree: Path, tests: Sequence[str]) -> str | None:
    """The first test that fails, None if none does."""
    environment = os.environ | {"PYTHONPATH": str(tree), "HYPOTHESIS_PROFILE": "unshrunk"}
    try:
        done = subprocess.run(
            [str(TOOLS / "python"), "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests],
            cwd=tree, env=environment, capture_output=True, text=True, timeout=TEST_TIME,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"none ended within {TEST_TIME:.0f} s"
    if done.returncode == 0:
        return None
    if done.returncode > 1:  # of pytest; below 0: the process crashed, which is noticed
        raise NonsenseError(f"the tests cannot be run:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if not failed:
        return (done.stdout + done.stderr).strip()[-200:]
    test, _, why = failed[0].partition(" - ")
    if why.startswith(NO_FAULT):
        raise NonsenseError(f"{test}: {why}")
    return test


def try_fault(tree: Path, fault: Fault) -> str | None:
    path = tree / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise SystemExit(
            f"{fault.name}: {fault.file} has {text.count(fault.old)} places that read\n{fault.old}"
        )
    path.write_text(text.replace(fault.old, fault.new))
    try:
        build(tree)
        return notices(tree, fault.tests)
    finally:
        path.write_text(text)


def main(names: list[str]) -> int:
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    if unknown := set(names) - {fault.name for fault in faults}:
        raise SystemExit(f"no fault in faults.toml is called {', '.join(sorted(unknown))}")
    bad = []
    with tempfile.TemporaryDirectory(prefix="cajun-mutants-") as folder:
        tree = Path(folder)
        copy(tree)
        sound = notices(tree, sorted({test for fault in faults for test in fault.tests}))
        if sound is not None:
            raise SystemExit(f"the tests fail before anything was broken: {sound}")
        for fault in faults:
            begun = time.monotonic()
            try:
                said = try_fault(tree, fault)
                mark = "SURVIVED" if said is None else "noticed "
            except NonsenseError as error:
                mark, said = "NO FAULT", str(error)
            if mark != "noticed ":
                bad.append(f"{fault.name} ({mark.lower()})")
            print(f"{mark} {fault.name} ({time.monotonic() - begun:.0f} s): {said}", flush=True)  # noqa: T201
    print(f"{len(faults) - len(bad)} of {len(faults)} faults noticed", *bad, sep="\n  not: ")  # noqa: T201
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
