"""What Prometheus reads: parsed by its own client, checked by its own tool where that is installed."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

import cajun_fast as cf
from cajun_fast._core.instruments import Histogram
from cajun_fast.metrics.catalogue import LINK, NODE, TYPE
from cajun_fast.metrics.histogram import seconds_of
from cajun_fast.metrics.prometheus import SECONDS, SnapshotCollector, cumulated, render

ROOT = Path(__file__).resolve().parents[2]
SENT = "cajun_link_messages_sent_total"
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")


#: What the dashboard leaves out: said by another panel, or of use only while one fault is looked into.
WITHOUT_PANEL = {
    *(
        "node_info",
        "node_uptime_seconds",
        "node_fenced",
        "lease_age_seconds",
        "sample_every",
        "asks_answered",
    ),
    *("location_cache_entries", "location_cache_evictions", "location_cache_invalidations", "gc_collections"),
    *("link_messages_received", "link_received_bytes", "link_duplicates", "link_unacknowledged_messages"),
    "link_breaker_opened",
}


class Counter(cf.Actor):
    def receive(self, message: object, context: cf.Context) -> object:
        return message


@pytest.fixture
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Any, Any]]:
    async with AsyncExitStack() as stack:
        a, b = [
            await stack.enter_async_context(
                cf.ClusterFactory.create_cluster_system(
                    cf.ClusterConfig.Builder(node, f"memory://{request.node.name}")
                    .with_messaging_port(0)
                    .build()
                )
            )
            for node in ("a", "b")
        ]
        await a.register(Counter, "counter")
        for number in range(20):
            assert await b.pid("counter").ask(number) == number
        a.pid("nobody").tell(1)
        async with asyncio.timeout(10):
            while not a.dead_letters.total:  # noqa: ASYNC110 - dead letters have no event
                await asyncio.sleep(0.01)
        yield a, b


def read(text: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def value(families: dict[str, Metric], name: str, sample: str = "", **labels: str) -> float:
    (found,) = [
        each.value
        for each in families[name].samples
        if each.name == (sample or name) and labels.items() <= each.labels.items()
    ]
    return float(found)


async def test_the_text_says_what_the_snapshot_says(pair: tuple[Any, Any]) -> None:
    a, b = pair
    snapshot = b.metrics.snapshot()
    shown = read(render(snapshot))
    assert value(shown, "cajun_cluster_nodes", node="b") == 2
    assert value(shown, "cajun_asks_answered", "cajun_asks_answered_total") == 20
    assert value(shown, "cajun_link_messages_sent", SENT, peer="a", guarantee="EXACTLY_ONCE") == 20
    assert value(shown, "cajun_ask_duration_seconds", "cajun_ask_duration_seconds_count") == 20
    assert value(shown, "cajun_link_breaker_state", peer="a", state="closed") == 1
    theirs = read(render(a.metrics.snapshot()))
    assert value(theirs, "cajun_messages_handled", "cajun_messages_handled_total", type="counter") == 20
    assert value(theirs, "cajun_dead_letters", "cajun_dead_letters_total", reason="ActorNotFoundError") == 1


async def test_a_scrape_from_another_thread_reads_on_the_loop(pair: tuple[Any, Any]) -> None:
    a, b = pair
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(a, b))
    text = await asyncio.to_thread(generate_latest, registry)
    nodes = {sample.labels["node"] for family in read(text).values() for sample in family.samples}
    assert nodes == {"a", "b"}
    await b.stop()
    assert b'node="b"' not in generate_latest(registry)


def test_buckets_cumulate_to_all_values() -> None:
    histogram = Histogram()
    for nanoseconds in (500, 1_500, 30_000_000, 90_000_000_000):
        histogram.record(nanoseconds)
    found = dict(cumulated(seconds_of(histogram), SECONDS))
    assert found["1e-06"] == 1
    assert found["2.5e-06"] == 2
    assert found["50"] == 3
    assert found["+Inf"] == 4
    assert list(found.values()) == sorted(found.values())


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (set PROMTOOL to its path)")
async def test_promtool_finds_nothing_to_say(pair: tuple[Any, Any]) -> None:
    a, b = pair
    text = render(a.metrics.snapshot(), b.metrics.snapshot())
    assert PROMTOOL is not None
    ran = await asyncio.to_thread(
        subprocess.run, [PROMTOOL, "check", "metrics"], input=text, capture_output=True, timeout=30
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


async def test_the_dashboard_asks_for_nothing_that_is_not_shown(pair: tuple[Any, Any]) -> None:
    a, _ = pair
    shown = {
        sample.name for family in read(render(a.metrics.snapshot())).values() for sample in family.samples
    }
    board = json.loads((ROOT / "docs" / "grafana" / "cajun-fast.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    names = {word for expr in asked for word in words(expr) if word.startswith("cajun_")}
    assert names <= shown
    has_panel = {
        name.removesuffix(part) for name in names for part in ("", "_bucket", "_sum", "_count", "_total")
    }
    every = {f"cajun_{row.name}" for row in (*NODE, *TYPE, *LINK)}
    assert every - has_panel == {f"cajun_{name}" for name in WITHOUT_PANEL}


def words(expression: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in expression).split()


def test_no_bound_is_lost_to_rounding() -> None:
    assert all(math.isclose(float(f"{bound:.10g}"), bound) for bound in SECONDS)
