"""What an OpenTelemetry exporter is told of messages between nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

import cajun_fast as cf
from cajun_fast.metrics.tracing import OtelTracer, bytes_of, context_of, trace
from tests.metrics.conftest import Traced, is_child, said, until


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


class Last(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> Any:
        if message == "fail":
            raise ValueError("no")
        return message


class Middle(cf.Actor):
    """Asks the last one, across an await."""

    async def receive(self, message: Any, context: cf.Context) -> Any:
        await asyncio.sleep(0.01)
        return await context.system.pid("last").ask(message)


class Turns(cf.Actor):
    """A plain handler that goes on as a coroutine."""

    def receive(self, message: Any, context: cf.Context) -> Any:
        return self.later(message, context)

    async def later(self, message: Any, context: cf.Context) -> Any:
        await asyncio.sleep(0)
        context.system.pid("last").tell(message)
        return message


class Teller(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> None:
        context.system.pid("last").tell(message)


class Passer(cf.Actor):
    def receive(self, message: Any, context: cf.Context) -> None:
        context.forward(context.system.pid("last"))


@cf.actor("traced-keeper")
class Keeper(cf.Actor):
    """Holds its first message until it may go on; moves with what waits."""

    gate = asyncio.Event()

    def __init__(self) -> None:
        self.seen = 0

    def get_state(self) -> Any:
        return self.seen

    def set_state(self, state: Any) -> None:
        self.seen = state

    async def receive(self, message: Any, context: cf.Context) -> Any:
        self.seen += 1
        if message == "wait":
            await self.gate.wait()
        return context.node_id


async def test_one_trace_shows_an_ask_through_three_nodes(node: Any, traced: Traced) -> None:
    a, b, c = await node("a"), await node("b"), await node("c")
    await b.register(Middle, "middle")
    await c.register(Last, "last")
    with traced.tracer.start_as_current_span("request"):
        assert await a.pid("middle").ask(7) == 7
    await until(lambda: len(traced.exporter.get_finished_spans()) >= 7)
    root = await traced.one("request")
    asks = sorted(traced.spans("ask"), key=lambda span: span.start_time or 0)
    middle, last = await traced.one("handle middle"), await traced.one("handle last")
    assert len(asks) == 2
    assert is_child(asks[0], root)
    assert is_child(middle, asks[0])
    assert is_child(asks[1], middle)
    assert is_child(last, asks[1])
    assert [asks[0].kind, middle.kind] == [api.SpanKind.CLIENT, api.SpanKind.SERVER]
    assert [said(span, "cajun.node") for span in (asks[0], middle, asks[1], last)] == ["a", "b", "b", "c"]
    assert said(asks[1], "cajun.sender") == "middle"
    assert said(last, "messaging.destination.name") == "last"
    assert said(last, "messaging.operation.type") == "process"
    arrived = traced.spans("deliver")
    assert len(arrived) == 2
    assert all(any(is_child(each, ask) for ask in asks) for each in arrived)
    for each in traced.exporter.get_finished_spans():
        assert each.status.status_code is StatusCode.UNSET
        assert each.start_time
        assert each.end_time
        assert each.start_time <= each.end_time


async def test_nothing_is_made_of_what_no_sampled_span_sends(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    await b.register(Last, "last")
    assert await a.pid("last").ask(1) == 1
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("off")
    with unsampled.start_as_current_span("request"):
        assert await a.pid("last").ask(2) == 2
    assert traced.exporter.get_finished_spans() == ()
    with traced.tracer.start_as_current_span("request"):
        assert await a.pid("last").ask(3) == 3
    assert await a.pid("last").ask(4) == 4
    assert len(traced.spans("ask")) == len(traced.spans("handle last")) == 1


@pytest.mark.parametrize("kind", [Teller, Turns, Passer])
async def test_what_a_handler_sends_is_a_child_and_nothing_after_it(
    node: Any, traced: Traced, kind: type[cf.Actor]
) -> None:
    a, b = await node("a"), await node("b")
    await a.register(kind, "first")
    await b.register(Last, "last")
    with traced.tracer.start_as_current_span("request"):
        await b.pid("first").send(1)
    last = await traced.one("handle last")
    first = await traced.one(f"handle {kind.__name__.lower()}")
    (sent,) = [*traced.spans("tell"), *traced.spans("forward")]
    assert is_child(sent, first)
    assert is_child(last, sent)
    assert await b.pid("last").ask("quiet") == "quiet"
    b.pid("first").tell(2)
    await asyncio.sleep(0.1)
    assert len(traced.spans("handle last")) == len(traced.spans(f"handle {kind.__name__.lower()}")) == 1


async def test_a_message_on_its_own_node_is_traced_too(node: Any, traced: Traced) -> None:
    a = await node("a")
    await a.register(Last, "last")
    with traced.tracer.start_as_current_span("request"):
        a.pid("last").tell(1)
    assert is_child(await traced.one("handle last"), await traced.one("tell"))
    assert (await traced.one("tell")).kind is api.SpanKind.PRODUCER


async def test_a_handler_that_raises_ends_its_span_and_the_asks_in_error(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    await b.register(Last, "last")
    with traced.tracer.start_as_current_span("request"), pytest.raises(cf.RemoteActorError):
        await a.pid("last").ask("fail")
    handled, asked = await traced.one("handle last"), await traced.one("ask")
    assert [handled.status.status_code, asked.status.status_code] == [StatusCode.ERROR, StatusCode.ERROR]
    assert said(handled, "error.type") == "ValueError"
    assert [event.name for event in handled.events] == ["exception"]


async def test_a_dead_letter_ends_as_an_error_in_its_trace(node: Any, traced: Traced) -> None:
    a = await node("a")
    with traced.tracer.start_as_current_span("request"):
        a.pid("nobody").tell(1)
    lost = await traced.one("route")
    assert is_child(lost, await traced.one("tell"))
    assert lost.status.status_code is StatusCode.ERROR
    assert said(lost, "cajun.reason") == "way not known"


async def test_a_message_that_expires_in_the_mailbox_is_told_in_its_trace(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    Keeper.gate = asyncio.Event()
    await b.register(Keeper, "keeper")
    await a.pid("keeper").send("wait")
    with traced.tracer.start_as_current_span("request"):
        await a.pid("keeper").send("late", deadline=1.5)
    await asyncio.sleep(1.6)
    Keeper.gate.set()
    lost = await traced.one("dead-letter")
    assert is_child(lost, await traced.one("send"))
    assert said(lost, "cajun.node") == "b"
    assert lost.status.status_code is StatusCode.ERROR


async def test_what_waits_in_a_mailbox_keeps_its_trace_when_the_actor_moves(
    node: Any, traced: Traced
) -> None:
    a, b, _ = [await node(name) for name in "abc"]
    Keeper.gate = asyncio.Event()
    await a.create_actor_on_node("traced-keeper", "keeper", "b")
    a.pid("keeper").tell("wait")
    with traced.tracer.start_as_current_span("request"):
        asked = asyncio.ensure_future(a.pid("keeper").ask("where", timeout=20))
    cell = b._node.exchange.inboxes["keeper"]
    await until(lambda: cell.mailbox_size)
    move = asyncio.ensure_future(a.manager.migrate_actor("keeper", "c"))
    await until(lambda: cell.is_held)
    Keeper.gate.set()
    await move
    where = await asked
    handled = await traced.one("handle keeper")
    assert is_child(handled, await traced.one("ask"))
    assert said(handled, "cajun.node") == where == "c"
    with traced.tracer.start_as_current_span("again"):  # a still believes that it is at b
        assert await a.pid("keeper").ask("where", timeout=20) == "c"
    await until(lambda: len(traced.spans("handle keeper")) == 2)


async def test_large_messages_and_deadlines_are_traced(node: Any, traced: Traced) -> None:
    a, b = await node("a"), await node("b")
    await b.register(Last, "last")
    for size in (10, 65_400, 65_472, 65_480, 65_536, 300_000):
        traced.exporter.clear()
        with traced.tracer.start_as_current_span("request"):
            await a.pid("last").send("x" * size, deadline=20)
            a.pid("last").tell("behind")
        await until(lambda: len(traced.spans("handle last")) == 2)
        assert is_child(traced.spans("handle last")[0], traced.spans("send")[0]), size
        assert is_child(traced.spans("handle last")[1], traced.spans("tell")[0]), size


async def test_a_handler_begun_within_a_users_span_does_not_keep_it(
    traced: Traced, stack: AsyncExitStack
) -> None:
    """Connections and tasks of the system are made while a span is current: they are not that span's."""
    config = cf.ClusterConfig.Builder("a", "memory://begun-within").with_messaging_port(0).build()
    system = cf.ClusterFactory.create_cluster_system(config)
    trace(traced.provider, system)
    stack.push_async_callback(system.stop)
    with traced.tracer.start_as_current_span("startup"):
        await system.start()
    config = cf.ClusterConfig.Builder("b", "memory://begun-within").with_messaging_port(0).build()
    async with cf.ClusterFactory.create_cluster_system(config) as other:
        trace(traced.provider, other)
        await system.register(Teller, "teller")
        await other.register(Last, "last")
        with traced.tracer.start_as_current_span("dial"):
            await other.pid("teller").send(1)
        await traced.one("handle last")
        traced.exporter.clear()
        for number in range(20):
            await other.pid("teller").send(number)
        assert await other.pid("last").ask("quiet") == "quiet"
        await asyncio.sleep(0.1)
        assert traced.exporter.get_finished_spans() == ()


def test_a_context_travels_whole() -> None:
    state = TraceState([("vendor", "value"), ("other", "x" * 200)])
    span = NonRecordingSpan(SpanContext(2**127 + 5, 2**63 + 9, False, TraceFlags(1), state))
    back = api.get_current_span(context_of(bytes_of(span.get_span_context()))).get_span_context()
    assert back == SpanContext(2**127 + 5, 2**63 + 9, True, TraceFlags(1), state)
    long = TraceState([(f"vendor{number}", "x" * 200) for number in range(4)])
    assert len(bytes_of(SpanContext(1, 2, False, TraceFlags(1), long))) == 25


async def test_the_quick_look_is_had_with_this_opentelemetry(node: Any, traced: Traced) -> None:
    tracer = OtelTracer(traced.tracer, (await node("a"))._node.exchange, lambda: 1)
    asked = []
    tracer.is_sampled = lambda: asked.append(1) or OtelTracer.is_sampled(tracer)  # type: ignore[method-assign]
    for _ in range(3):
        assert not tracer.look()
    with traced.tracer.start_as_current_span("request"):
        for _ in range(3):
            assert tracer.look()
    assert not tracer.look()
    assert len(asked) == 3
