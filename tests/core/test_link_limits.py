"""Every bound of a link and of what stands before it is reached: each is an error, a wait or a dead letter that says
so, and what comes later goes on as before."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from cajun_fast._core.frame import TYPES, encode_frame
from cajun_fast._core.names import MOST_NAMES
from cajun_fast._core.probe import answer
from cajun_fast.errors import BackpressureError, CircuitBreakerOpenError, MessageExpiredError, ProtocolError
from tests.core.link_world import FULL, World

SMALL = {"window": 20_000, "max_message": 200_000, "max_bulk": 400_000, "bulk_window": 40_000}
ASKS = 65_536
REFUSALS = 1 << 20
TELL, BULK, DATA, ACK = 1, TYPES["BULK"], TYPES["DATA"], TYPES["ACK"]


@pytest.fixture
def world() -> Iterator[World]:
    world = World(**SMALL)
    world.settle_actor("x0", "b")
    world.settle_actor("x1", "b")
    yield world
    world.close()


def ask(world: World, actor_id: str, message: Any, timeout: float = 60.0) -> asyncio.Future[Any]:
    async def asking() -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = world.a.exchange.pid(actor_id).ask(message, timeout=timeout)
        return future

    return world.loop.run_until_complete(asking())


def answer_all(world: World, actor_id: str, size: int = 0) -> int:
    asked = world.actors[actor_id].asked
    for replies, tag, n in asked:
        answer(replies, tag, {"n": n, "pad": b"y" * size})
    count = len(asked)
    asked.clear()
    return count


def frames_of(kinds: list[bytes]) -> list[int]:
    """The types of the frames in what a link wrote."""
    data, types = b"".join(kinds), []
    while data:
        types.append(data[2])
        data = data[16 + struct.unpack_from("<I", data, 4)[0] :]
    return types


# ---- asks and answers -----------------------------------------------------------------------------------------------


def test_asks_in_flight_are_bounded_and_one_that_is_answered_makes_room_for_one(world: World) -> None:
    asks = [ask(world, "nobody", n) for n in range(ASKS)]
    with pytest.raises(BackpressureError, match="65536 asks wait"):
        ask(world, "nobody", -1)
    lane = world.a.exchange.lane("nobody")
    assert lane.waiting_count == ASKS, "the one that was refused left nothing behind"
    lane.fail(ValueError("nobody is there"))
    world.a.router.asking.clear()
    assert all(isinstance(each.exception(), Exception) for each in asks)
    again = ask(world, "x0", {"n": 0})
    world.drain()
    assert answer_all(world, "x0") == 1
    world.drain()
    assert again.result()["n"] == 0


def test_who_asks_and_takes_no_answers_in_is_asked_to_wait_and_what_is_kept_for_it_stays_bounded(
    world: World,
) -> None:
    world.connect("b")
    asks = [ask(world, "x0", {"n": n}) for n in range(300)]
    world.route()
    b = world.homes["b"].links["a"]
    for _ in range(300):  # b hears its neighbour, which takes nothing in
        world.pipes["b"].move(0, 200)
        answer_all(world, "x0", 3000)
        assert b.held_bytes <= 4 * SMALL["window"] + 4 * 3200
    assert b.held_bytes >= 4 * SMALL["window"]
    answered = sum(each.done() for each in asks)
    assert answered == 0
    world.send("x1")
    world.route()
    world.pipes["b"].move(0)
    assert world.logs["x1"] == [(0, None)], "messages that want no answer go on"
    for _ in range(2000):
        world.pipes["b"].move(0), world.pipes["b"].move(1)
        answer_all(world, "x0", 3000)
    assert [each.result()["n"] for each in asks] == list(range(300))
    assert [n for n, _ in world.logs["x0"]] == list(range(300)), "each was asked once"
    world.drain()
    world.check_empty()


def test_large_answers_that_nobody_takes_in_count_too(world: World) -> None:
    world.connect("b")
    asks = [ask(world, "x0", {"n": n}) for n in range(20)]
    world.route()
    b = world.homes["b"].links["a"]
    for _ in range(20):
        world.pipes["b"].move(0, 100)
        answer_all(world, "x0", 70_000)
        assert b.held_bytes <= 4 * SMALL["window"] + 4 * 71_000
    for _ in range(500):
        world.pipes["b"].move(0), world.pipes["b"].move(1)
        answer_all(world, "x0", 70_000)
    assert [each.result()["n"] for each in asks] == list(range(20))


# ---- refusals --------------------------------------------------------------------------------------------------------


def raw(target: int, kind: int, payload: bytes, flags: int = 2) -> bytes:
    return struct.pack("<IIBBH", 8 + len(payload), target, kind, flags, 0) + payload


def hostile(world: World) -> Any:
    """The link of b, to be fed by hand."""
    world.connect("b")
    world.pipes["b"].move(0), world.pipes["b"].move(1)
    return world.homes["b"].links["a"]


def refuse(link: Any, count: int, done: int = 0) -> None:
    """Have ``count`` tells refused that go to nobody."""
    step = 8192
    while count:
        body = raw(1, TELL, b"\x01") * min(step, count)
        link.feed(encode_frame(DATA, body, done + 1))
        done += min(step, count)
        count -= min(step, count)


def test_refusals_that_their_sender_never_confirms_are_bounded(world: World) -> None:
    link = hostile(world)
    link.feed(encode_frame(DATA, raw(1, 0, b"nobody", 0), 1))
    refuse(link, REFUSALS)
    assert link.waits["refusals"] == REFUSALS
    with pytest.raises(ProtocolError, match="1048576 messages were refused"):
        refuse(link, 1, REFUSALS)
    link.feed(encode_frame(ACK, struct.pack("<QQI", REFUSALS, 0, 0)))  # confirmed: it may go on
    assert link.waits["refusals"] == 0
    refuse(link, 1, REFUSALS)
    assert link.waits["refusals"] == 1


# ---- memory ----------------------------------------------------------------------------------------------------------


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    not os.path.exists("/proc/self/statm"), reason="only Linux says how much memory is in use"
)
def test_a_peer_that_fills_everything_at_once_takes_no_more_than_the_limits_say() -> None:
    """At the defaults: all names, unfinished transfers, refusals; docs/wire-protocol.md has the sum."""
    world = World()
    link = hostile(world)
    before = resident()
    for first in range(1, MOST_NAMES + 1, 1024):
        body = b"".join(raw(n, 0, b"%07d" % n + b"x" * 121, 0) for n in range(first, first + 1024))
        link.feed(encode_frame(DATA, body, 1))
    chunk = bytes(32 << 10)
    for transfer in range(1, 5):
        for at in range(0, 16 << 20, len(chunk)):
            if at < (16 << 20) - len(chunk):  # the last one never comes
                link.feed(encode_frame(BULK, struct.pack("<II", 16 << 20, at) + chunk, transfer))
    refuse(link, REFUSALS)
    assert link.inbound.names_size == 32 << 20
    least = (
        -(1 << 40) if "asan" in os.environ.get("LD_PRELOAD", "") else 120 << 20
    )  # it hands out what it held back
    assert least < resident() - before < 384 << 20
    with pytest.raises(ProtocolError, match="over the limit"):
        link.feed(encode_frame(BULK, struct.pack("<II", 1 << 20, 0) + chunk, 9))
    world.close()


def test_what_one_link_keeps_to_send_is_bounded_whatever_is_sent(world: World) -> None:
    """Small ones to the window, large ones to as much and one more, and what stands behind those counts with them."""
    world.connect("b")
    most = 2 * SMALL["window"] + SMALL["max_message"] + 70_000
    for n in range(300):
        world.send("x0", size=(70_000, 3_000, 190_000)[n % 3])
        world.send("x1", size=900)
        while world.route():
            pass
        assert world.a.link("b").held_bytes <= most
    assert world.send("x1", size=900) is None
    world.drain()
    world.check(unknown_allowed=False)


# ---- the control lane ------------------------------------------------------------------------------------------------


def test_control_goes_before_data_and_both_before_what_is_large(world: World) -> None:
    world.connect("b")
    pipe = world.pipes["b"]
    world.actors["x1"].mode = FULL
    world.send("x1")
    world.send("x0")
    while world.route():
        pass
    pipe.move(0), pipe.move(1), pipe.move(0)
    b = world.homes["b"].exchange  # the side that has bulk to send answers, refuses and has room too
    world.homes["b"].router.asking.clear()
    lane = b.lane("far")
    lane.bind_carrier(world.homes["b"].links["a"])
    b.pid("far").tell({"n": -1, "pad": b"z" * 150_000})
    link = world.homes["b"].links["a"]
    link.collect()  # the first chunks fill the pipe
    b.pid("near").tell({"n": -2})
    b.lane("near").bind_carrier(link)
    world.actors["x1"].open()
    link.ping()
    types = frames_of([bytes(each) for each in link.collect()])
    kinds = [types.index(kind) for kind in (TYPES["ROOM"], DATA)]
    assert kinds == sorted(kinds)
    assert ACK in types[: kinds[1]]
    assert BULK not in types[: kinds[1]]


# ---- parking ---------------------------------------------------------------------------------------------------------


def test_what_is_parked_while_the_breaker_is_open_is_bounded_and_goes_in_order_when_it_closes(
    world: World,
) -> None:
    link = world.a.link("b")
    link.park(lambda target: CircuitBreakerOpenError("open", "b", target))
    sent = 0
    while world.send("x0", size=900) is not None:
        world.route()
        sent += 1
        assert sent < 100
    assert 15 <= sent <= 30
    assert link.held_bytes <= SMALL["window"] + 1000
    waiting = world.send("x0", waits=True)
    late = world.send("x0", waits=True, seconds=0.1)
    world.clock.now += 200_000_000
    world.a.exchange.expire(world.clock.now)
    with pytest.raises(MessageExpiredError):
        world.waiters[late].result()
    assert not world.waiters[waiting].done()
    link.park(None)
    world.drain()
    assert [n for n, _ in world.logs["x0"]] == [*range(sent), waiting]
