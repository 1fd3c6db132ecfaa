"""One trace over two nodes: who waited for whom, and for how long.

python examples/tracing.py

The spans are kept in memory here and printed as a tree. A program of your own gives `trace` a provider with an exporter
that sends them to a collector; node processes need no code at all: `cajun-fast node --trace otlp`.
Needs `pip install 'cajun-fast[otel]'`.
"""

from __future__ import annotations

import asyncio

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import cajun_fast as cf
from cajun_fast.metrics.tracing import trace


class Kitchen(cf.Actor):
    """Needs the pantry for each order, and tells everybody when it is done."""

    async def receive(self, message: str, context: cf.Context) -> str:
        found = await context.system.pid("pantry").ask(message)
        context.system.group("board").publish(message)
        return f"{message}: {found}"


class Pantry(cf.Actor):
    async def receive(self, message: str, context: cf.Context) -> str:
        await asyncio.sleep(0.02)  # stands for real work
        return "it is served"


class Board(cf.Actor):
    async def pre_start(self) -> None:
        await self.context.subscribe("board")

    def receive(self, message: str, context: cf.Context) -> None:
        """Shows it."""


def member(name: str, provider: TracerProvider) -> cf.ClusterActorSystem:
    config = cf.ClusterConfig.Builder(name, "memory://traced").with_messaging_port(0).build()
    system = cf.ClusterFactory.create_cluster_system(config)
    trace(provider, system)
    return system


def show(spans: list[ReadableSpan], parent: int | None = None, depth: int = 0) -> None:
    """Each span below the one that caused it."""
    for span in sorted(spans, key=lambda span: span.start_time or 0):
        if (span.parent.span_id if span.parent else None) == parent and span.context is not None:
            node = (span.attributes or {}).get("cajun.node", "")
            spent = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
            print(f"{'  ' * depth}{span.name:<{24 - 2 * depth}} {node:<6} {spent:8.2f} ms")
            show(spans, span.context.span_id, depth + 1)


async def main() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with member("front", provider) as front, member("back", provider) as back:
        await front.register(Kitchen, "kitchen")
        await back.register(Pantry, "pantry")
        await back.register(Board, "board")
        with provider.get_tracer("guest").start_as_current_span("order"):
            print(await back.pid("kitchen").ask("gumbo"))
        async with asyncio.timeout(10):
            while not any(span.name == "handle board" for span in exporter.get_finished_spans()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    show(list(exporter.get_finished_spans()))


if __name__ == "__main__":
    cf.run(main())
