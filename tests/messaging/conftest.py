"""Pairs of nodes, with and without a bad network between them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from cajun_fast.testing.proxy import Proxy
from tests.messaging.nodes import Node

MakeNode = Callable[..., Awaitable[Node]]


@pytest.fixture
async def make_node() -> AsyncIterator[MakeNode]:
    made: list[Node] = []

    async def make(name: str, incarnation: int = 1, **options: Any) -> Node:
        node = await Node(name, incarnation, **options).start()
        made.append(node)
        return node

    yield make
    for node in reversed(made):
        await node.stop()


@pytest.fixture
async def make_proxy() -> AsyncIterator[Callable[..., Awaitable[Proxy]]]:
    made: list[Proxy] = []

    async def make(target: Any, seed: int = 1, **options: Any) -> Proxy:
        proxy = Proxy(target, random.Random(seed), **options)
        made.append(proxy)
        return proxy

    yield make
    for proxy in made:
        await proxy.stop()
