"""A small cluster in this process, and its management application without a socket between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

import cajun_fast as cf
from cajun_fast.management.http import management_app
from tests.cluster.conftest import Cluster

Client = Callable[..., httpx.AsyncClient]


class Echo(cf.Actor):
    def receive(self, message: Any, context: Any) -> Any:
        return message


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(f"memory://{tmp_path.name}")
    made.types.actor("echo")(Echo)
    yield made
    await made.stop()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """Calls an application that is made for it; keywords are management_app's."""
    async with AsyncExitStack() as stack:
        clients: list[httpx.AsyncClient] = []

        def make(system: cf.ClusterActorSystem, **settings: Any) -> httpx.AsyncClient:
            app = management_app(system, **settings)
            stack.push_async_callback(app.state.console.close)
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            clients.append(httpx.AsyncClient(transport=transport, base_url="http://localhost"))
            stack.push_async_callback(clients[-1].aclose)
            return clients[-1]

        yield make
