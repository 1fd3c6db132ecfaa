"""Members of a cluster of the test's own, in this process, and what an exporter was told of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, Protocol

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import cajun_fast as cf
from cajun_fast.metrics.tracing import trace


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


class Traced:
    """A provider with its exporter."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    async def one(self, name: str) -> ReadableSpan:
        await until(lambda: self.spans(name))
        await until(lambda: self.spans(name))
        (span,) = self.spans(name)
        return span


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert child.context is not None
    assert parent.context is not None
    return (
        child.parent is not None
        and child.parent.span_id == parent.context.span_id
        and child.context.trace_id == parent.context.trace_id
    )


def said(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(name)


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.provider.shutdown()


@pytest.fixture
def node(member: Member, traced: Traced) -> Any:
    """A member whose messages are traced."""

    async def make(name: str, settings: Mapping[str, Any] = MappingProxyType({}), /) -> Any:
        system = await member(name, settings)
        trace(traced.provider, system)
        return system

    return make
