"""The trace of a message on a link: it goes wherever the message goes, and never to a peer that knows no traces."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cajun_fast._core.tracing import Tracing
from tests.core.link_world import EXPIRED, LARGE, NOT_HERE, World

CONTEXT = bytes(range(100, 124)) + b"\x01"
STATE = CONTEXT + b"vendor=" + b"x" * 300


def option(context: bytes) -> bytes:
    return struct.pack("<BH", 1, len(context)) + context


class Span:
    def __init__(self, context: bytes) -> None:
        self.context = context
        self.ends: list[Any] = []
        self.numbers: list[tuple[int, int]] = []

    def numbered(self, stream: int, sequence: int) -> None:
        self.numbers.append((stream, sequence))

    def end(self, error: Any) -> None:
        self.ends.append(error)

    def end_with(self, future: Any) -> None:
        self.end(future.exception())


class Tracer(Tracing):
    """Every message is traced while ``on``."""

    def __init__(self, context: bytes = CONTEXT) -> None:
        super().__init__()
        self.on = True
        self.context = context
        self.sent: list[Span] = []
        self.routes: list[tuple[bytes, int, Span]] = []
        self.letters: list[bytes] = []

    def is_sampled(self) -> bool:
        return self.on

    def send(self, what: str, target: str, sender: str | None) -> Span:
        self.sent.append(Span(self.context))
        return self.sent[-1]

    def route(self, trace: bytes, target: str, verdict: int) -> Span:
        self.routes.append((trace, verdict, Span(trace)))
        return self.routes[-1][2]

    def lost(self, trace: bytes, target: str, error: Any) -> None:
        self.letters.append(trace)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.settle_actor("x", "b")
    world.settle_actor("y", "b")
    yield world
    world.close()


def traced(world: World, context: bytes = CONTEXT) -> Tracer:
    tracer = Tracer(context)
    world.a.exchange.tracer = tracer
    return tracer


def flying(world: World, home: str = "b") -> bytes:
    world.pipes[home].collect(0)
    return bytes(world.pipes[home].flying[0])


@pytest.mark.parametrize("how", [{}, {"seconds": 9.0}, {"waits": True}, {"guarantee": 0}, {"size": LARGE}])
@pytest.mark.parametrize("context", [CONTEXT, STATE])
def test_a_trace_stands_behind_the_other_options(world: World, how: dict[str, Any], context: bytes) -> None:
    tracer = traced(world, context)
    world.connect("b")
    world.send("x", **how)
    world.route()
    assert (flying(world).count(option(context)) == 1) is (
        "size" not in how
    )  # a large one's record comes last
    tracer.on = False
    world.send("x", **how)
    world.drain()
    world.check(unknown_allowed=False)
    assert len(world.logs["x"]) == 2
    ((trace, why, span),) = tracer.routes
    assert (trace, why, span.ends) == (context, 3, [None])
    assert tracer.sent[0].ends == (
        [] if "waits" in how else [None]
    )  # a future's callbacks need a turn of the loop


def test_a_peer_that_knows_no_traces_is_sent_none(world: World) -> None:
    traced(world)
    world.connect("b")
    world.a.link("b").traces = False
    for _ in range(3):
        world.send("x", seconds=9.0)
    world.route()
    assert CONTEXT[:24] not in flying(world)
    world.drain()
    world.check(unknown_allowed=False)


def test_what_was_written_before_the_peer_was_asked_goes_without_to_one_that_knows_none(world: World) -> None:
    traced(world, STATE)
    for number in range(20):
        world.send("x", seconds=9.0 if number % 2 else None, size=number * 100, waits=number % 3 == 0)
    world.route()
    world.a.link("b").traces = False  # what the handshake says, before the connection carries anything
    world.connect("b")
    assert CONTEXT[:24] not in flying(world)
    world.drain()
    world.check(unknown_allowed=False)
    assert [number for number, _ in world.logs["x"]] == list(range(20))


def test_what_goes_again_has_its_trace(world: World) -> None:
    traced(world)
    world.connect("b")
    world.send("x", seconds=9.0)
    world.route()
    assert flying(world).count(option(CONTEXT)) == 1
    world.connect("b")
    assert flying(world).count(option(CONTEXT)) == 1
    world.drain()
    world.check(unknown_allowed=False)


def test_what_is_refused_looks_for_another_way_with_its_trace(world: World) -> None:
    tracer = traced(world, STATE)
    world.connect("b")
    world.connect("c")
    world.send("x")
    world.route()
    world.settle_actor("x", "c")
    world.pipes["b"].move(0)
    world.pipes["b"].move(1)
    world.route()
    assert flying(world, "c").count(option(STATE)) == 1
    assert [(why, span.ends) for _, why, span in tracer.routes] == [(3, [None]), (NOT_HERE, [None])]
    world.drain()
    world.check(unknown_allowed=False)


def test_a_final_refusal_is_told_in_its_trace(world: World) -> None:
    tracer = traced(world)
    world.connect("b")
    world.actors["x"].mode = EXPIRED
    world.send("x")
    world.route()
    world.pipes["b"].move(0)
    world.pipes["b"].move(1)
    assert len(world.a.letters.all) == 1
    assert tracer.letters == [CONTEXT]


def test_a_lost_peer_is_told_in_the_trace_of_what_it_may_have_seen(world: World) -> None:
    tracer = traced(world)
    world.connect("b")
    world.send("x")
    world.route()
    flying(world)
    world.restart("b")
    assert tracer.letters == [CONTEXT]


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("send"), st.sampled_from("xy"), st.sampled_from([0, 50, 3000, LARGE]), st.booleans(),
            st.sampled_from([None, 60.0]), st.sampled_from([b"", CONTEXT, STATE]),
        ),
        st.tuples(st.just("connect"), st.booleans()),
        st.tuples(st.just("move"), st.integers(0, 1), st.integers(1, 6000)),
        st.tuples(st.just("settle"), st.sampled_from("xy"), st.sampled_from("bc")),
        st.just(("cut",)),
        st.just(("route",)),
    ),
    max_size=40,
)  # fmt: skip


@given(STEPS)
@settings(deadline=None, max_examples=60)
def test_traced_or_not_every_message_comes_once_and_in_order(steps: list[Any]) -> None:
    world = World(window=20_000, max_message=200_000, max_bulk=400_000, bulk_window=40_000, max_names=4)
    try:
        world.settle_actor("x", "b")
        world.settle_actor("y", "b")
        tracer = traced(world)
        for step in steps:
            match step:
                case ("send", actor, size, waits, seconds, context):
                    tracer.on, tracer.context = bool(context), context
                    world.send(actor, size=size, waits=waits, seconds=seconds)
                case ("connect", knows):
                    world.a.link("b").traces = knows
                    world.connect("b")
                case ("move", side, most):
                    with contextlib.suppress(KeyError):
                        world.pipes["b"].move(side, most)
                case ("settle", actor, home):
                    world.settle_actor(actor, home)
                case ("cut",):
                    world.cut("b")
                case ("route",):
                    world.route()
        world.drain()
        world.check(unknown_allowed=False)
        world.check_empty()
        assert all(len(span.ends) == 1 for *_, span in tracer.routes)
        assert all(len(span.ends) < 2 for span in tracer.sent)
    finally:
        world.close()
