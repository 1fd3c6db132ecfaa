"""Which cases there are, and what each must reach (design: the table in ``docs/performance.md``).

Laws: a case names its sides as data; the first side is the one that is judged, each goal names the side it
is judged against. Nothing is run here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Command = dict[str, Any]
Cores = list[list[int]]


@dataclass(frozen=True)
class Side:
    """One contestant with its options."""

    label: str
    kind: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    command: Command = dataclasses.field(default_factory=dict)  # what is different in the command
    beside: float = 0.0  # a second sender tells this share of what it could meanwhile


@dataclass(frozen=True)
class Goal:
    """The first side's ``figure`` divided by that of side ``over``; by a number where ``over`` is one."""

    over: str | float
    figure: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Case:
    """Sides that take turns at the same command."""

    workload: str
    name: str
    command: Command
    sides: tuple[Side, ...]
    goals: tuple[Goal, ...] = ()
    cores: Cores | None = None
    quick: bool = False


def engine(label: str = "engine", **options: Any) -> Side:
    return Side(label, "engine", options)


def plain(label: str = "plain floor", **options: Any) -> Side:
    return Side(label, "frames", options)


def transported(case: Case, transport: str) -> Case:
    """The same on TCP or Unix sockets."""
    sides = tuple(
        side
        if side.options.get("alone")
        else dataclasses.replace(side, options=side.options | {"transport": transport})
        for side in case.sides
    )
    return dataclasses.replace(case, name=f"{case.name}, {transport}", sides=sides)


MSGSPEC = plain("plain, msgspec", codec="msgspec")
ZMQ = Side("pyzmq", "zmq")
PUMP = Side("bytes only", "pump")
TELL = {"do": "tell", "size": 64}
ASK = {"do": "ask", "size": 64}
ASKS = {"do": "asks", "size": 64}
GUARANTEES = ("AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE")


def over_the_wire() -> Iterator[Case]:
    """What is measured on both transports."""
    yield Case(
        "W1",
        "tell",
        TELL,
        (engine(), plain(), MSGSPEC, ZMQ, PUMP),
        (
            Goal("plain floor", "rate", at_least=2.5),
            Goal("pyzmq", "rate", at_least=7),
            Goal("plain, msgspec", "rate"),
            Goal("bytes only", "rate"),
            Goal("plain floor", "send_us", at_most=0.6),
            Goal("plain floor", "receive_us", at_most=0.4),
        ),
        quick=True,
    )
    for cores, text in ([[0], [0]], "one core"), ([[0], [1]], "two cores"):
        yield Case(
            "W2",
            f"ask, {text}",
            ASK,
            (engine(), Side("echo", "echo"), plain("plain, one write", joined=1), ZMQ),
            (
                Goal("echo", "p50_us", at_most=1.25),
                Goal("plain, one write", "p50_us"),
                Goal("pyzmq", "p50_us"),
            ),
            cores,
            quick=True,
        )
        # Left to the scheduler, the same pair is sometimes on one core and sometimes on two: two different figures.
        yield Case(
            "W3",
            f"64 asks in flight, {text}",
            ASKS,
            (engine(), plain("plain, one write", joined=1), ZMQ),
            (
                Goal("plain, one write", "rate", at_least=1.5),
                Goal("plain, one write", "send_us"),
                Goal("pyzmq", "rate"),
            ),
            cores,
            quick=True,
        )
    yield Case(
        "W4",
        "acknowledged tell",
        TELL,
        (
            engine("exactly once", guarantee="EXACTLY_ONCE"),
            engine("at least once", guarantee="AT_LEAST_ONCE"),
            engine("at most once", guarantee="AT_MOST_ONCE"),
            plain("plain, acked", acked=True),
        ),
        (
            Goal("at most once", "rate", at_least=0.9),
            Goal("at least once", "rate"),
            Goal("plain, acked", "rate"),
        ),
        quick=True,
    )


def secured() -> Iterator[Case]:
    """What TLS costs: the engine beside itself."""
    yield Case(
        "TLS",
        "tell with TLS and authentication against plain",
        TELL,
        (engine("secure", secure=True), engine()),
        (
            Goal("engine", "rate", at_least=0.6),
            Goal("engine", "send_us"),
            Goal("engine", "receive_us"),
        ),
        quick=True,
    )
    yield Case(
        "TLS",
        "ask with TLS and authentication against plain",
        ASK,
        (engine("secure", secure=True), engine()),
        (Goal("engine", "p50_us"),),
        quick=True,
    )
    yield Case(
        "TLS",
        "tell of 1024 KiB with TLS and authentication against plain",
        TELL | {"size": 1 << 20},
        (engine("secure", secure=True), engine()),
        (Goal("engine", "rate"),),
    )


def growing() -> Iterator[Case]:
    """Cost a message as work grows."""
    for links in (8, 32):
        yield Case(
            "links",
            f"{links} links into one node against 1",
            TELL,
            (engine("many links", links=links), engine()),
            (Goal("engine", "rate", at_least=0.8), Goal("engine", "receive_us")),
            quick=links == 32,
        )
    for actors in (10, 1000, 100_000):
        yield Case(
            "actors",
            f"{actors:,} target actors against 1",
            TELL,
            (engine("many actors", actors=actors), engine()),
            (Goal("engine", "rate"), Goal("engine", "receive_us")),
        )
    yield Case(
        "handlers",
        "async handlers against sync ones",
        TELL,
        (engine("async", handler="async"), engine()),
        (Goal("engine", "rate"), Goal("engine", "receive_us")),
    )


def observed() -> Iterator[Case]:
    """What it costs that a node measures itself: everything on, as it is by default, against everything off."""
    off = ["sample_budget", "flight_recorder", "explain_timeouts"]
    sides = (engine("measured"), engine("not measured", off=off))
    figures = (
        Goal("not measured", "rate", at_least=0.98),
        Goal("not measured", "send_us", at_most=1.02),
        Goal("not measured", "receive_us", at_most=1.02),
    )
    yield Case("observability", "tell, measured against not measured", TELL, sides, figures)
    yield Case(
        "observability",
        "tell, with the flight recorder against without",
        TELL,
        (engine("recorded"), engine("not recorded", off=["flight_recorder"])),
        (
            Goal("not recorded", "rate", at_least=0.97),
            Goal("not recorded", "send_us", at_most=1.03),
            Goal("not recorded", "receive_us", at_most=1.03),
        ),
    )
    # In one place: where the scheduler puts two processes is worth a fifth of an ask.
    yield Case(
        "observability",
        "ask on one core, measured against not measured",
        ASK,
        sides,
        (Goal("not measured", "p50_us"),),
        cores=[[0], [0]],
    )


def beside() -> Iterator[Case]:
    """The tail of asks while another link carries half of what it could."""
    yield Case(
        "tail",
        "ask beside half of W1 on another link",
        ASK,
        (
            dataclasses.replace(engine(), beside=0.5),
            dataclasses.replace(plain("plain, one write", joined=1), beside=0.5),
            engine("engine, no load"),
        ),
        (
            Goal("plain, one write", "p99.9_us"),
            Goal("engine, no load", "p99.9_us"),
            Goal("engine, no load", "p50_us"),
        ),
    )


def sizes() -> Iterator[Case]:
    """Payloads from 16 B to 1 MiB; large ones beside a bare stream of the same bytes."""
    for size in (16, 1024):
        yield Case(
            "payload",
            f"tell of {size} B",
            TELL | {"size": size},
            (engine(), plain()),
            (Goal("plain floor", "rate"),),
        )
    for size in (64 * 1024, 1024 * 1024):
        yield Case(
            "payload",
            f"tell of {size // 1024} KiB",
            TELL | {"size": size},
            (engine(), Side("bare stream", "pump", {"size": size}), plain()),
            (
                Goal("bare stream", "rate", at_least=0.7 if size > 1 << 16 else None),
                Goal("plain floor", "rate"),
            ),
            quick=size > 1 << 16,
        )


def alone(label: str, **command: Any) -> Side:
    return Side(label, "local", {"alone": True}, command)


def within() -> Iterator[Case]:
    """What needs no second process."""
    yield Case(
        "W5",
        "local tell",
        {"do": "tell"},
        (
            alone("engine", who="engine"),
            alone("deque mailbox", who="deque"),
            alone("asyncio.Queue", who="queue"),
            alone("engine, async", who="engine-async"),
        ),
        (
            Goal("deque mailbox", "rate", at_least=1.0),
            Goal("asyncio.Queue", "rate"),
            Goal("engine, async", "rate"),
        ),
        quick=True,
    )
    for who, text in ("cache", "location-cache hit"), ("breaker", "breaker check"):
        yield Case(
            "parts",
            text,
            {"do": "part"},
            (alone(who, who=who), alone("dict look-up", who="dict")),
            (Goal("dict look-up", "ns", at_most=2.0),),
            quick=True,
        )
    for known in (1_000, 1_000_000):
        yield Case(
            "locations",
            f"{known:,} cached locations, hits all over them",
            {"do": "part"},
            tuple(alone(who, who=who, known=known) for who in ("cache", "dict")),
            (Goal("dict", "ns", at_most=2.0),),
        )
    yield Case(
        "memory",
        "an idle actor",
        {"do": "idle_actors", "count": 10_000},
        (alone("engine"),),
        (Goal(1024.0, "bytes", at_most=1.0),),
        quick=True,
    )


def cases() -> list[Case]:
    """All of them; those of the quick run are marked."""
    wired = [*over_the_wire(), *growing(), *secured(), *observed(), *beside(), *sizes()]
    found = [transported(case, "unix") for case in wired]
    found += [dataclasses.replace(transported(case, "tcp"), quick=False) for case in wired]
    return found + list(within())


def workloads() -> list[str]:
    """Names to choose by, in order."""
    return list(dict.fromkeys(case.workload for case in cases()))


def chosen(names: list[str], quick: bool) -> list[Case]:
    """The cases of these workloads (all of them for none), or those of the quick run among them."""
    return [
        case
        for case in cases()
        if (case.quick or not quick) and (not names or case.workload.lower() in names)
    ]
