"""Members of a cluster of the test's own, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

import cajun_fast as cf

Member = Callable[[str], Awaitable[cf.ClusterActorSystem]]


@pytest.fixture
async def member(request: pytest.FixtureRequest) -> AsyncIterator[Member]:
    async with AsyncExitStack() as stack:

        async def make(name: str) -> cf.ClusterActorSystem:
            config = (
                cf.ClusterConfig.Builder(name, f"memory://{request.node.name}").with_messaging_port(0).build()
            )
            return await stack.enter_async_context(cf.ClusterFactory.create_cluster_system(config))

        yield make


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - whatever the condition reads has no event
            await asyncio.sleep(0.01)
