"""The OpenAPI document is what the interface does: each operation is asked what it allows, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import hypothesis.errors
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import GenerationMode

from tests.management.conftest import Command

pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("default")]

OPERATIONS = 22
TOKEN = "a-token-that-is-long-enough"
LIMITS = hypothesis.settings(
    max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("openapi")
    words: tuple[str, ...] = ("node", "--id", "a", "--store", "sqlite:///cluster.db", "--port", "0")
    words += ("--http", "127.0.0.1:0", "--http-writable", "--log-level", "error")
    words += ("--set", "http.token_env=THE_TOKEN")
    node = Command(words, folder, {"THE_TOKEN": TOKEN})
    try:
        yield node.ready()["http"]
    finally:
        node.abandon()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_does_what_the_document_says(url: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json").exclude(path_regex="events$")
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        try:
            strategy = operation.as_strategy(generation_mode=mode)

            @LIMITS
            @hypothesis.given(case=strategy)
            def ask(case: Any) -> None:
                case.call_and_validate(timeout=20, headers={"Authorization": f"Bearer {TOKEN}"})

            ask()
        except hypothesis.errors.Unsatisfiable:
            continue  # nothing that could be wrong about it
        asked += 1
    assert asked >= (OPERATIONS - 2 if mode is GenerationMode.POSITIVE else 5)


def test_the_document_names_every_operation_once(url: str) -> None:
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(names) == len(set(names)) == OPERATIONS
    for path in paths.values():
        for operation in path.values():
            assert operation["summary"]


def test_nothing_else_imports_it() -> None:
    """The engine does without the packages of the extra."""
    code = "import sys, cajun_fast.cluster, cajun_fast.management.cli; print('fastapi' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/")
    )
    assert found.stdout == "False\n"
