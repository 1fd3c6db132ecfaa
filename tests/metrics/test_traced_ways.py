"""The trace of what goes by other ways than straight from a Pid: later, to a group, out of an outbox; its number."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

import cajun_fast as cf
from cajun_fast.cluster.fate import MessageId
from cajun_fast.errors import ConfigError
from cajun_fast.metrics.tracing import trace
from cajun_fast.persistence.sqlite import SqlitePersistence
from cajun_fast.persistence.sqlite_tables import LAYOUT
from tests.metrics.conftest import Member, Traced, is_child, said, until


class Last(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> Any:
        return message


@cf.actor("traced-clock")
class Clock(cf.Actor):
    """Schedules, delays, and counts what came of it; moves with both."""

    def __init__(self) -> None:
        self.beats = 0

    def get_state(self) -> Any:
        return self.beats

    def set_state(self, state: Any) -> None:
        self.beats = state

    def receive(self, message: Any, context: cf.Context) -> Any:
        match message:
            case ["schedule", float(delay), interval]:
                context.schedule(delay, "beat", interval=interval)
            case ["later", float(delay)]:
                context.system.pid("last").tell("late", delay=delay)
            case "beat":
                self.beats += 1
            case "beats":
                return self.beats
        return None


class Reader(cf.Actor):
    def __init__(self, topic: str) -> None:
        self.topic = topic

    async def pre_start(self) -> None:
        await self.context.subscribe(self.topic)

    def receive(self, message: Any, context: cf.Context) -> None:
        pass


class Till(cf.Actor):
    """Durable: takes an amount and tells somebody of it."""

    durable = True

    def __init__(self, other: str) -> None:
        self.other = other
        self.sum = 0

    def get_state(self) -> Any:
        return self.sum

    def set_state(self, state: Any) -> None:
        self.sum = state

    def receive(self, message: Any, context: cf.Context) -> Any:
        if message != "sum":
            self.sum += message
            if self.other:
                context.system.pid(self.other).tell(message)
        return self.sum


async def handled(traced: Traced, name: str, target: str, count: int = 1) -> list[ReadableSpan]:
    def found() -> list[ReadableSpan]:
        spans = traced.spans(f"handle {name}")
        return [span for span in spans if said(span, "messaging.destination.name") == target]

    await until(lambda: len(found()) >= count)
    assert len(found()) == count
    return found()


def parents(spans: Iterable[ReadableSpan]) -> set[int]:
    return {span.parent.span_id for span in spans if span.parent is not None}


# ---- later


async def test_what_is_told_later_belongs_to_whoever_told_it(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    await a.register(Clock, "clock")
    await b.register(Last, "last")
    with traced.tracer.start_as_current_span("request"):
        await a.pid("clock").send(["later", 0.05])
    (first,), (last,) = await handled(traced, "clock", "clock"), await handled(traced, "last", "last")
    told = await traced.one("tell")
    assert is_child(told, first)
    assert is_child(last, told)
    assert (last.start_time or 0) - (told.start_time or 0) > 20_000_000


async def test_a_timer_belongs_to_whoever_set_it_and_its_later_beats_to_nobody(
    node: Any, traced: Traced
) -> None:
    a, b = await node("a"), await node("b")
    await a.register(Clock, "clock")
    with traced.tracer.start_as_current_span("request"):
        await b.pid("clock").send(["schedule", 0.02, 0.02])
    scheduled = await traced.one("schedule")
    first, beat = await handled(traced, "clock", "clock", 2)
    assert is_child(scheduled, first)
    assert is_child(beat, scheduled)
    assert scheduled.kind is api.SpanKind.PRODUCER
    before = await b.pid("clock").ask("beats")
    await until(lambda: a._node.actors.cell("clock").instance.beats > before + 2)
    assert len(traced.spans("handle clock")) == 2


async def test_timers_and_delayed_tells_keep_their_traces_when_the_actor_moves(
    node: Any, traced: Traced
) -> None:
    a, b, c = [await node(name) for name in "abc"]
    await a.create_actor_on_node("traced-clock", "clock", "b")
    await a.register(Last, "last")
    with traced.tracer.start_as_current_span("request"):
        await a.pid("clock").send(["schedule", 600.0, None])
        await a.pid("clock").send(["later", 600.0])
    scheduled, told = await traced.one("schedule"), await traced.one("tell")
    await a.manager.migrate_actor("clock", "c")
    exchange, cell = c._node.exchange, c._node.actors.cell("clock")
    for timer in tuple(cell.timers):
        timer.postpone(0)
    for target, message, guarantee, _, kept in exchange.take_delayed(cell.pid):
        exchange.tell_later(exchange.pid(target), message, 0, guarantee, cell.pid, kept)
    (late,) = await handled(traced, "last", "last")
    beat = (await handled(traced, "clock", "clock", 3))[-1]
    assert is_child(late, told)
    assert is_child(beat, scheduled)
    assert [said(scheduled, "cajun.node"), said(beat, "cajun.node")] == ["b", "c"]
    assert b._node.actors.cell("clock") is None


# ---- groups


@pytest.mark.parametrize("how", ["publish", "send"])
async def test_what_is_published_shows_each_subscriber_on_each_node(
    node: Any, traced: Traced, how: str
) -> None:
    a, b, c = [await node(name) for name in "abc"]
    for system, name in ((a, "one"), (b, "two"), (b, "three")):
        await system.register(Reader, name, "news")
    await until(lambda: set(c._node.groups.nodes("news")) == {"a", "b"} or c.group("news").publish("listen"))
    traced.exporter.clear()
    with traced.tracer.start_as_current_span("request") as request:
        if how == "publish":
            c.group("news").publish("big")
        else:
            assert await c.group("news").send("big") == 3
    await until(lambda: len(traced.spans("handle reader")) == 3)
    (sent,) = traced.spans(how)
    assert said(sent, "messaging.destination.name") == "news"
    assert sent.parent is not None
    assert sent.parent.span_id == request.get_span_context().span_id
    found = traced.spans("handle reader")
    assert all(is_child(span, sent) for span in found)
    assert sorted(said(span, "messaging.destination.name") for span in found) == ["one", "three", "two"]
    assert sorted(said(span, "cajun.node") for span in found) == ["a", "b", "b"]
    names = {span.name for span in traced.exporter.get_finished_spans()}
    assert names <= {"request", how, "route", "deliver", "handle reader"}
    assert parents(traced.spans("route")) <= {sent.context.span_id if sent.context else 0}


async def test_what_is_published_before_anything_is_known_keeps_its_trace(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    await a.register(Reader, "one", "news")
    with traced.tracer.start_as_current_span("request"):
        b.group("news").publish("early")
    await until(lambda: traced.spans("handle reader"))
    assert is_child(await traced.one("handle reader"), await traced.one("publish"))


async def test_a_publish_that_fails_says_so(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    await a.register(Reader, "one", "news")
    with traced.tracer.start_as_current_span("request"), pytest.raises(cf.SerializationError):
        b.group("news").publish(object())
    sent = await traced.one("publish")
    if b._node.groups.nodes("news"):
        assert sent.status.status_code is StatusCode.ERROR


# ---- outboxes


def durable(name: str, folder: Path) -> cf.ClusterActorSystem:
    builder = cf.ClusterConfig.Builder(name, f"sqlite:///{folder}/cluster.db").with_messaging_port(0)
    builder.with_persistence(f"sqlite:///{folder}/state.db")
    return cf.ClusterFactory.create_cluster_system(builder.build())


async def test_what_a_durable_actor_tells_keeps_its_trace_through_the_commit(
    traced: Traced, tmp_path: Path
) -> None:
    async with durable("a", tmp_path) as a, durable("b", tmp_path) as b:
        for system in (a, b):
            trace(traced.provider, system)
        await a.register(Till, "till", "bank")
        await b.register(Till, "bank", "last")
        await a.register(Last, "last")
        with traced.tracer.start_as_current_span("request"):
            await b.pid("till").send(5)
        first, second = await handled(traced, "till", "till"), await handled(traced, "till", "bank")
        (last,) = await handled(traced, "last", "last")
        to_bank, to_last = traced.spans("tell")
        assert is_child(to_bank, first[0])
        assert is_child(second[0], to_bank)
        assert is_child(to_last, second[0])
        assert is_child(last, to_last)
        b.pid("till").tell(6)
        await until(lambda: a._node.actors.cell("till").instance.sum == 11)
        assert await a.pid("bank").ask("sum") in (5, 11)
        assert len(traced.spans("tell")) == 2


async def test_what_stands_in_an_outbox_keeps_its_trace_through_the_end_of_its_node(
    traced: Traced, tmp_path: Path
) -> None:
    async with durable("a", tmp_path) as a:
        trace(traced.provider, a)
        await a.register(Till, "till", "nobody")
        with traced.tracer.start_as_current_span("request"):
            await a.pid("till").send(5)
        await until(lambda: len(traced.spans("tell")) == 1)
    store = SqlitePersistence(tmp_path / "state.db")
    async with store:
        restored = await store.peek("till")
    assert restored is not None
    ((*_, kept),) = restored.outbox
    assert kept is not None
    async with durable("a", tmp_path) as a:
        trace(traced.provider, a)
        await a.register(Last, "nobody")
        await a.register(Till, "till", "nobody")
        (last,) = await handled(traced, "last", "nobody")
        assert is_child(last, await traced.one("tell"))


async def test_an_outbox_from_before_traces_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with SqlitePersistence(path):
        pass
    old = sqlite3.connect(path)
    old.execute("ALTER TABLE outbox DROP COLUMN trace")
    old.execute("INSERT INTO outbox VALUES ('x', 1, 'y', '@x#1', 1, 2, x'00')")
    old.execute("INSERT INTO actors VALUES ('x', 'r', 1, 1, 1, 'b', 1, NULL)")
    old.execute("PRAGMA user_version=1")
    old.commit()
    old.close()
    store = SqlitePersistence(path)
    async with store:
        restored = await store.peek("x")
    assert restored is not None
    assert restored.outbox[0].trace is None
    again = sqlite3.connect(path)
    assert again.execute("PRAGMA user_version").fetchone() == (LAYOUT,)
    again.execute("PRAGMA user_version=99")
    again.close()
    with pytest.raises(ConfigError, match="layout 99"):
        await SqlitePersistence(path).connect()


# ---- numbers


async def test_both_ends_say_the_id_that_explain_knows(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    await b.register(Last, "last")
    there = a.pid("last")
    with traced.tracer.start_as_current_span("request"):
        await there.send(1)  # the way is looked for: it is numbered once that is known
    sent = (await traced.one("send"), await traced.one("route"))
    numbers = {said(each, "messaging.message.id") for each in sent} - {None}
    (first,) = await handled(traced, "last", "last")
    assert numbers == {said(first, "messaging.message.id")}
    traced.exporter.clear()
    with traced.tracer.start_as_current_span("request"):
        there.tell(2)
    last = a.manager.last_message_id(there)
    (second,) = await handled(traced, "last", "last")
    told = await traced.one("tell")
    assert str(last) == said(told, "messaging.message.id") == said(second, "messaging.message.id")
    assert str(last) == said(await traced.one("deliver"), "messaging.message.id")
    assert said(second, "cajun.sender.node") == "a"
    fate = await b.manager.explain(MessageId.parse(said(second, "messaging.message.id")))
    assert (fate.stage, fate.node) == ("handled", "b")


async def test_large_messages_and_local_ones_say_no_number_that_is_not_theirs(
    node: Any, traced: Traced
) -> None:
    a, b = await node("a"), await node("b")
    await b.register(Last, "last")
    await a.register(Last, "here")
    await a.pid("last").send("first")
    with traced.tracer.start_as_current_span("request"):
        await a.pid("here").send(1)
        await a.pid("last").send("x" * 300_000)
    (local,) = await handled(traced, "last", "here")
    (large,) = await handled(traced, "last", "last")
    assert said(local, "messaging.message.id") is None
    large_sent = next(s for s in traced.spans("send") if said(s, "messaging.destination.name") == "last")
    assert said(large_sent, "messaging.message.id") in (None, said(large, "messaging.message.id"))


# ---- traces that begin here


async def test_a_rate_begins_traces_where_no_span_is_current(member: Member, traced: Traced) -> None:
    a, b = await member("a"), await member("b")
    trace(traced.provider, a, rate=1000.0)
    trace(traced.provider, b, rate=0.0)
    await b.register(Last, "last")
    await until(lambda: not a.pid("last").tell(0) and traced.spans("handle last"))
    roots = [span for span in traced.spans("tell") if span.parent is None]
    assert roots
    assert any(is_child(span, root) for span in traced.spans("handle last") for root in roots)
    traced.exporter.clear()
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("off")
    with unsampled.start_as_current_span("request"):  # who has decided against it is not overruled
        for _ in range(20):
            await a.pid("last").ask(1)
    for _ in range(20):
        await b.pid("last").ask(1)
    assert traced.spans("ask") == []


async def test_a_rate_is_kept(member: Member, traced: Traced) -> None:
    a = await member("a")
    trace(traced.provider, a, rate=0.001)
    await a.register(Last, "last")
    for number in range(200):
        await a.pid("last").ask(number)
    assert len(traced.spans("ask")) <= 1
    with pytest.raises(ValueError, match="traces a second"):
        trace(traced.provider, a, rate=-1)


async def test_a_timers_beat_may_begin_a_trace(member: Member, traced: Traced) -> None:
    a = await member("a")
    await a.register(Clock, "clock")
    await a.pid("clock").send(["schedule", 0.01, 0.01])
    trace(traced.provider, a, rate=1000.0)
    await until(lambda: traced.spans("handle clock"))
    await asyncio.sleep(0)
    assert any(is_child(span, root) for span in traced.spans("handle clock")
               for root in traced.spans("schedule") if root.parent is None)  # fmt: skip
