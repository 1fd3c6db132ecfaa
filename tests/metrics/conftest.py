"""Members of a cluster of the test's own, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, Protocol

import pytest

import cajun_fast as cf


class Member(Protocol):
    """Makes one, with the settings given."""

    def __call__(
        self, name: str, settings: Mapping[str, Any] = ..., /
    ) -> Awaitable[cf.ClusterActorSystem]: ...


@pytest.fixture
async def member(request: pytest.FixtureRequest) -> AsyncIterator[Member]:
    async with AsyncExitStack() as stack:

        async def make(
            name: str, settings: Mapping[str, Any] = MappingProxyType({}), /
        ) -> cf.ClusterActorSystem:
            builder = cf.ClusterConfig.Builder(name, f"memory://{request.node.name}").with_messaging_port(0)
            for setting, value in settings.items():
                builder.with_setting(setting, value)
            system = cf.ClusterFactory.create_cluster_system(builder.build())
            return await stack.enter_async_context(system)

        yield make


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - whatever the condition reads has no event
            await asyncio.sleep(0.01)
