"""What tracing costs: tells a second over a link, as ratios to a pair of nodes without a tracer that does the same.

    .venv/bin/python bench/tracing.py [--rounds 15]

Two nodes in one process; the cases take turns, so that a machine that gets slower slows all of them. *quiet*: nobody
has a span; *unsampled*: a span that is not sampled is current; *1 %*, *0.1 %*: one message in a hundred, in a thousand
is sent within a sampled span, which here makes three spans of OpenTelemetry's SDK more than without a tracer.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import cajun_fast as cf
from cajun_fast.metrics.tracing import trace

MESSAGES = 20_000
Span = Callable[[], AbstractContextManager[Any]]


class Sink(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> None:
        pass


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


async def pair(stack: AsyncExitStack, name: str, provider: TracerProvider | None) -> cf.Pid:
    """The sending node's Pid of the other one's actor."""
    systems = []
    for node in "ab":
        config = cf.ClusterConfig.Builder(node, f"memory://{name}").with_messaging_port(0).build()
        system = cf.ClusterFactory.create_cluster_system(config)
        if provider is not None:
            trace(provider, system)
        systems.append(await stack.enter_async_context(system))
    await systems[1].register(Sink, "sink")
    pid = systems[0].pid("sink")
    await pid.send(0)
    return pid


async def rate(pid: cf.Pid, span: Span, every: int) -> float:
    """Tells a second; the first of each ``every`` ones within ``span``, or all of them where ``every`` is 0."""
    began = time.perf_counter()
    for _ in range(0, MESSAGES, 1000):
        with span() if every == 0 else nullcontext():
            for number in range(1000):
                if every and number % every == 0:
                    with span():
                        pid.tell(number)
                else:
                    pid.tell(number)
        await pid.ready()
        await asyncio.sleep(0)
    await pid.send("last")
    return MESSAGES / (time.perf_counter() - began)


async def main(rounds: int) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    sampled = provider.get_tracer("bench")
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("bench")
    cases: dict[str, tuple[Span, int]] = {
        "quiet": (nullcontext, 0),
        "unsampled": (lambda: unsampled.start_as_current_span("request"), 0),
        "1 %": (lambda: sampled.start_as_current_span("request"), 100),
        "0.1 %": (lambda: sampled.start_as_current_span("request"), 1000),
    }
    async with AsyncExitStack() as stack:
        off, on = await pair(stack, "off", None), await pair(stack, "on", provider)
        ratios: dict[str, list[float]] = {case: [] for case in cases}
        for number in range(rounds + 1):
            for case, (span, every) in cases.items():
                plain, traced = await rate(off, span, every), await rate(on, span, every)
                if number:  # the first round warms up
                    ratios[case].append(traced / plain)
    for case, found in ratios.items():
        print(f"{case:>10}: {statistics.median(found):.2f}   ({min(found):.2f} … {max(found):.2f})")
    provider.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    cf.run(main(parser.parse_args().rounds))
