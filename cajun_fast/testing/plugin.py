"""The pytest plugin (entry point ``pytest11``): the fixture ``cluster``.

    async def test_hello(cluster):
        a, b = await cluster.start("a", "b")
        probe = await cluster.probe("b")
        a.pid("probe").tell("hello")
        assert await probe.next() == "hello"

Laws: it is loaded wherever the package is installed, so it imports nothing of it until a test asks; a fixture of
the same name in a conftest takes its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cajun_fast.testing.members import Members


def _coroutine_fixture(function: Any) -> Any:
    try:
        from pytest_asyncio import fixture
    except ImportError:
        return pytest.fixture(_missing)
    return fixture(function)


def _missing() -> None:
    """Without pytest-asyncio there are no coroutine fixtures: say so where one is asked for."""
    pytest.fail("the fixture 'cluster' needs pytest-asyncio: pip install pytest-asyncio")


@_coroutine_fixture
async def cluster() -> AsyncIterator[Members]:
    """A cluster in this process, on a store and a network in memory: see ``cajun_fast.testing.members``."""
    from cajun_fast.testing.members import Members

    async with Members() as members:
        yield members
