"""What a newcomer copies must run: the examples, and the program in README.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not (ROOT / "examples").is_dir(), reason="only a checkout has them"),
]

SAYS = {
    "chat_room": ["in the room: ada, boudreaux", "boudreaux reads: ada: save me a bowl", "clotilde goes"],
    "fastapi_app": ["ada's cart: {'okra': 40}", "1 actor on node web"],
    "leaderboard": ["the board is on two: moved", "3200 games of 3200", "every point is where it belongs"],
    "rate_limiter": ["beau: 1", "of 40 at once were served", "after a rest: served"],
    "hello_two_nodes": ["Hello, Barbara! You are number 3, and this is node-1."],
    "work_queue": ["60 jobs done, [20, 20, 20] by each worker"],
    "tracing": ["gumbo: it is served", "    handle kitchen", "        handle pantry", "        handle board"],
    "request_reply": ["apple: 30", "mango: 105", "no price for", "within 0.05 s", "'stock'"],
}


def run(program: Path, folder: Path) -> str:
    """What it prints; it must end well and by itself."""
    words = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == SAYS.keys()


@pytest.mark.parametrize("name", SAYS)
def test_an_example_does_what_it_says(name: str, tmp_path: Path) -> None:
    out = run(ROOT / "examples" / f"{name}.py", tmp_path)
    assert all(text in out for text in SAYS[name]), out


def test_the_program_of_the_readme_prints_what_stands_below_it(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```.*?```text\n(.*?)```", text, re.DOTALL)
    assert found
    program, expected = found.groups()
    assert sum(bool(line.strip()) for line in program.splitlines()) <= 20
    (tmp_path / "program.py").write_text(program)
    assert run(tmp_path / "program.py", tmp_path) == expected


def test_what_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
