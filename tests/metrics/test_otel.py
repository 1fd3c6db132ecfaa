"""What an OpenTelemetry reader sees."""

from __future__ import annotations

import asyncio
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import cajun_fast as cf
from cajun_fast.metrics.otel import observe
from tests.metrics.conftest import Member


class Echo(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> Any:
        return message


def seen(reader: InMemoryMetricReader) -> dict[str, dict[tuple[tuple[str, Any], ...], float]]:
    data: Any = reader.get_metrics_data()
    return {
        metric.name: {
            tuple(sorted(point.attributes.items())): point.value for point in metric.data.data_points
        }
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


async def test_the_instruments_say_what_the_snapshot_says(member: Member) -> None:
    a, b = await member("a"), await member("b")
    await a.register(Echo, "echo")
    for number in range(30):
        assert await b.pid("echo").ask(number) == number
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    observe(provider.get_meter("test"), b)
    found = await asyncio.to_thread(seen, reader)
    assert found["cajun.asks.answered"] == {(("node", "b"),): 30}
    sent = found["cajun.link.messages_sent"]
    assert sent[("guarantee", "EXACTLY_ONCE"), ("node", "b"), ("peer", "a")] == 30
    assert found["cajun.ask.duration_seconds.count"] == {(("node", "b"),): 30}
    (p50,) = found["cajun.ask.duration_seconds.p50"].values()
    assert 0 < p50 < 5
    await b.stop()
    await asyncio.sleep(0.3)
    assert seen(reader) == {}
    provider.shutdown()
