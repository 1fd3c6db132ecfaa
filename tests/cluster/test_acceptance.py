"""The programs that users were promised, unchanged, as processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ACCEPTANCE = Path(__file__).resolve().parents[1] / "acceptance"


@pytest.mark.processes
@pytest.mark.parametrize("store", ["memory://quickstart", "sqlite:///{folder}/cluster.db"])
def test_quickstart(store: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ACCEPTANCE / "quickstart.py"), store.format(folder=tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "quickstart: ok\n"
    assert done.stderr == ""
