"""The numbers of running nodes, held against what the tests themselves counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import cajun_fast as cf
from cajun_fast.metrics.snapshot import LinkSnapshot, Snapshot, snapshot_from_dict
from tests.metrics.conftest import Member, until


class Counter(cf.Actor):
    def __init__(self) -> None:
        self.count = 0

    def receive(self, message: Any, context: cf.Context) -> int:
        if message == "fail":
            raise ValueError("as planted")
        self.count += 1
        return self.count


class Slow(cf.Actor):
    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate

    async def receive(self, message: Any, context: cf.Context) -> None:
        await self.gate.wait()


def link(snapshot: Snapshot, peer: str) -> LinkSnapshot:
    (found,) = [each for each in snapshot.links if each.peer == peer]
    return found


def of_type(snapshot: Snapshot, name: str) -> Any:
    (found,) = [each for each in snapshot.types if each.type == name]
    return found


async def test_messages_are_counted_where_they_are_sent_and_where_they_are_handled(member: Member) -> None:
    a, b = await member("a"), await member("b")
    await a.register(Counter, "counter")
    there = b.pid("counter")
    for guarantee, count in ((0, 30), (1, 50), (2, 70)):
        for _ in range(count):
            there.tell(1, guarantee=cf.DeliveryGuarantee(guarantee))
    assert await there.ask(1) == 151
    for _ in range(40):
        a.pid("counter").tell(1)
    assert await a.pid("counter").ask(1) == 192

    ours, theirs = a.metrics.snapshot(), b.metrics.snapshot()
    assert link(theirs, "a").sent == {
        "AT_MOST_ONCE": 30,
        "AT_LEAST_ONCE": 50,
        "EXACTLY_ONCE": 71,
        "answer": 0,
    }
    assert link(ours, "b").received == 151
    assert link(ours, "b").sent["answer"] == 1
    assert link(theirs, "a").received == 1
    assert link(ours, "b").received_bytes == link(theirs, "a").sent_bytes
    assert (ours.handled, theirs.handled) == (192, 0)
    assert of_type(ours, "counter").handled == 192
    assert of_type(ours, "counter").actors == ours.actors == a.metrics.get_actor_count() == 1
    assert (ours.nodes, b.metrics.get_node_count()) == (2, 2)
    assert (ours.asks.answered, theirs.asks.answered) == (1, 1)
    assert theirs.asks.round_trip.count == 1
    assert a.metrics.get_message_throughput() > 0


async def test_each_message_is_measured_while_few_come(member: Member) -> None:
    a = await member("a")
    here = await a.register(Counter, "counter")
    for _ in range(100):
        await here.ask(1)
    kind = of_type(a.metrics.snapshot(), "counter")
    assert kind.latency.count == kind.handling.count == 100
    assert 0 < kind.handling.sum <= kind.latency.sum
    assert a.metrics.get_average_message_latency() == pytest.approx(kind.latency.mean)


async def test_a_sample_stands_for_all_messages_when_many_come(member: Member) -> None:
    a = await member("a")
    here = await a.register(Counter, "counter")
    for _ in range(200):
        for _ in range(500):
            here.tell(1)
        await here.ready()
        await asyncio.sleep(0)
    await here.ask(1)
    snapshot = a.metrics.snapshot()
    assert snapshot.sample_every > 1
    assert of_type(snapshot, "counter").handled == 100_001
    assert of_type(snapshot, "counter").latency.count == pytest.approx(100_001, rel=0.25)


async def test_the_wait_in_the_mailbox_belongs_to_the_latency_and_not_to_the_handling(member: Member) -> None:
    a = await member("a")
    gate = asyncio.Event()
    here = await a.register(Slow, "slow", gate)
    for _ in range(5):
        here.tell(1)
    await until(lambda: a.metrics.snapshot().queued == 4)
    await asyncio.sleep(0.2)
    gate.set()
    await until(lambda: a.metrics.snapshot().handled == 5 and a.metrics.snapshot().queued == 0)
    await asyncio.sleep(0)
    kind = of_type(a.metrics.snapshot(), "slow")
    assert kind.latency.count == 5
    assert kind.latency.percentile(1) > 0.15
    assert kind.handling.percentile(50) < 0.1


async def test_what_fails_is_counted_by_its_reason(member: Member) -> None:
    a = await member("a")
    here = await a.register(Counter, "counter")
    here.tell("fail")
    with pytest.raises(cf.RemoteActorError):
        await here.ask("fail")
    a.pid("nobody").tell(1)
    with pytest.raises(cf.ActorNotFoundError):
        await a.pid("nobody").ask(1)
    await until(lambda: a.dead_letters.total)
    snapshot = a.metrics.snapshot()
    assert of_type(snapshot, "counter").failed == 2
    assert snapshot.dead_letters == a.dead_letters.counts
    assert snapshot.asks.failed == 2
    # two handlers that raised, a dead letter, and an ask that found nobody
    assert snapshot.failed == a.metrics.get_failed_message_count() == 2 + 1 + 1


async def test_the_acknowledgement_is_timed_apart_from_the_handler(member: Member) -> None:
    a, b = await member("a"), await member("b")
    gate = asyncio.Event()
    await a.register(Slow, "slow", gate)
    await b.pid("slow").send(1)
    await asyncio.sleep(0.3)
    gate.set()
    await until(lambda: of_type(a.metrics.snapshot(), "slow").latency.count == 1)
    assert link(b.metrics.snapshot(), "a").round_trip.largest < 0.25
    assert of_type(a.metrics.snapshot(), "slow").latency.largest > 0.25


async def test_a_snapshot_survives_json(member: Member) -> None:
    a, b = await member("a"), await member("b")
    await a.register(Counter, "counter")
    await b.pid("counter").ask(1)
    remove = a.metrics.add_gauge("tls_certificate_expiry_seconds", lambda: 3600.0)
    with pytest.raises(cf.ConfigError, match="tls_certificate_expiry_seconds"):
        a.metrics.add_gauge("tls_certificate_expiry_seconds", lambda: 1.0)
    snapshot = a.metrics.snapshot()
    remove()
    assert snapshot.gauges == {"tls_certificate_expiry_seconds": 3600.0}
    assert a.metrics.snapshot().gauges == {}
    assert snapshot_from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


async def test_health_says_what_is_wrong(member: Member) -> None:
    a = await member("a")
    assert a.metrics.get_health_status() == {
        "metadata_store": True,
        "membership": True,
        "messaging": True,
        "event_loop": True,
    }
    a._node.health.available = False
    assert a.metrics.get_health_status()["metadata_store"] is False


async def test_numbers_of_a_stopped_system_are_refused(member: Member) -> None:
    a = await member("a")
    metrics = a.metrics
    await a.stop()
    with pytest.raises(cf.NotRunningError):
        metrics.snapshot()
    with pytest.raises(cf.NotRunningError):
        _ = a.metrics


async def test_a_node_that_only_sends_measures_less_when_it_sends_much(member: Member) -> None:
    a, b = await member("a"), await member("b")
    await a.register(Counter, "counter")
    there = b.pid("counter")
    await there.ask(1)
    before = b.exchange.flight.noted
    for _ in range(20_000):
        await there.ready()
        there.tell(1)
    await there.ask(1)
    assert b.exchange.flight.noted - before < 10_000
