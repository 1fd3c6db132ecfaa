"""Whether a peer lives: the judgement by itself, and over real sockets and processes."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cajun_fast._core.heart import Heart, siphash
from cajun_fast.messaging.hearts import SocketHearts
from cajun_fast.messaging.liveness import PeerState, Signs, judge
from tests.messaging.lives import process
from tests.messaging.nodes import until

NOW, LIMIT = 100_000, 1_000
OLD = NOW - LIMIT - 1

JUDGEMENTS = [
    ({}, "unknown"),
    ({"wanted": NOW - LIMIT}, "unknown"),
    ({"wanted": OLD}, "silent"),
    ({"heard": NOW - LIMIT}, "alive"),
    ({"heard": OLD}, "silent"),
    ({"heard": NOW, "beat": NOW, "standing": 10 * LIMIT}, "alive"),
    ({"heard": OLD, "beat": OLD}, "silent"),
    ({"heard": OLD, "beat": NOW, "standing": LIMIT + 1}, "stuck"),
    ({"heard": OLD, "beat": NOW, "standing": LIMIT}, "cut"),
    ({"beat": NOW, "wanted": OLD}, "cut"),
    ({"heard": OLD, "beat": NOW, "stuck": NOW - LIMIT, "connected": True}, "stuck"),
    ({"heard": OLD, "beat": NOW, "stuck": OLD, "connected": True}, "cut"),
    ({"heard": OLD, "beat": NOW, "stuck": NOW}, "cut"),
]


@pytest.mark.parametrize(("signs", "state"), JUDGEMENTS, ids=str)
def test_the_signs_are_judged_together(signs: dict[str, Any], state: str) -> None:
    assert judge(Signs(NOW, LIMIT, **signs)) == state


async def test_a_watched_node_is_connected_to_and_judged_without_any_message(make_node: Any) -> None:
    a, b = await make_node("a"), await make_node("b")
    a.knows(b)
    assert a.messaging.liveness("b").state is PeerState.UNKNOWN
    assert a.messaging.liveness("nobody") is None
    told: list[tuple[str, int, PeerState]] = []
    a.messaging.on_liveness = lambda *news: told.append(news)
    a.messaging.watch("b")
    await until(lambda: told)
    assert told == [("b", 1, "alive")]
    await b.stop()
    await until(lambda: a.messaging.liveness("b").state is PeerState.SILENT)
    await until(lambda: a.messaging.liveness("b").refused)
    assert not a.messaging.liveness("b").connected


# ---- the beat --------------------------------------------------------------------------------------------------------


async def test_a_node_whose_gil_is_held_is_stuck_and_not_dead_and_goes_on_where_it_was(
    make_node: Any,
) -> None:
    async with process("b") as b:
        a = await make_node("a")
        a.knows(b)
        pid = a.pid("x", "b")
        assert await pid.ask(1) == 1
        connection = a.messaging.peer("b").connection
        told: list[PeerState] = []
        a.messaging.on_liveness = lambda node, incarnation, state: told.append(state)
        pid.tell({"hold": 3.0})
        await until(lambda: a.messaging.liveness("b").state is PeerState.STUCK)
        life = a.messaging.liveness("b")
        assert life.connected
        assert life.beat < 0.6
        assert life.standing > 0.6
        assert a.messaging.node_alive("b")
        assert await pid.ask(2, timeout=20) == 3
        assert a.messaging.peer("b").connection is connection, "the connection was kept"
        await until(lambda: told[-1] is PeerState.ALIVE)
        assert told == [PeerState.STUCK, PeerState.ALIVE]


async def test_a_stopped_process_falls_silent_and_a_woken_one_is_connected_again(make_node: Any) -> None:
    async with process("b") as b:
        a = await make_node("a")
        a.knows(b)
        assert await a.pid("x", "b").ask(1) == 1
        b.signal(signal.SIGSTOP)
        await until(lambda: a.messaging.liveness("b").state is PeerState.SILENT)
        await until(lambda: not a.messaging.node_alive("b"))
        b.signal(signal.SIGCONT)
        assert await a.pid("x", "b").ask(2, timeout=20) == 2
        assert a.messaging.liveness("b").state is PeerState.ALIVE


async def test_a_killed_process_falls_silent_and_its_host_says_that_nobody_listens(make_node: Any) -> None:
    async with process("b") as b:
        a = await make_node("a")
        a.knows(b)
        assert await a.pid("x", "b").ask(1) == 1
        b.signal(signal.SIGKILL)
        await until(lambda: a.messaging.liveness("b").refused)
        await until(lambda: a.messaging.liveness("b").state is PeerState.SILENT)


async def test_a_node_behind_a_dead_network_is_cut_off_and_not_stuck(make_node: Any, make_proxy: Any) -> None:
    async with process("b") as b:
        a = await make_node("a")
        proxy = await make_proxy(b.address)
        a.knows(b, await proxy.start())
        assert await a.pid("x", "b").ask(1) == 1
        proxy.stall()
        await until(lambda: a.messaging.liveness("b").state is PeerState.CUT)
        await until(lambda: not a.messaging.node_alive("b"))
        proxy.flow()
        assert await a.pid("x", "b").ask(2, timeout=20) == 2


KEY = bytes(range(16))


def beat(slot: int, number: int, key: bytes = KEY, *, standing: int = 0) -> bytes:
    """A beat as beat.h says."""
    body = struct.pack("<BBBBIQQQ", 0xCF, 0xBE, 1, 0, slot, number, 7, standing)
    return body + struct.pack("<Q", siphash(key, body))


@pytest.fixture
def ears() -> Iterator[tuple[Heart, Callable[[bytes], None]]]:
    """A heart that listens, and a way to throw bytes at it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    heart = Heart(sock.detach(), 10.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thrower:
        yield heart, lambda data: thrower.sendto(data, address) and None
    heart.close()


def test_siphash_gives_what_its_paper_says() -> None:
    assert siphash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


async def test_only_a_signed_beat_with_a_new_number_counts(ears: Any) -> None:
    heart, throw = ears
    heart.expect(3, KEY)
    throw(beat(3, 5, standing=9))
    await until(lambda: heart.last(3) is not None)
    assert heart.last(3)[1:] == (9, 7)
    hostile = [
        beat(3, 5), beat(3, 4), beat(3, 6, bytes(16)), beat(2, 6), beat(65535, 6), beat(3, 6)[:-1],
        beat(3, 6) + b"x", b"", b"\xcf\xbe", bytes(40), beat(3, 6)[:20] + b"\1" + beat(3, 6)[21:],
    ]  # fmt: skip
    for data in hostile:
        throw(data)
    await until(lambda: heart.dropped == len(hostile))
    throw(beat(3, 6, standing=1))
    await until(lambda: heart.last(3)[1] == 1)
    heart.forget(3)
    assert heart.last(3) is None
    throw(beat(3, 7))
    await until(lambda: heart.dropped == len(hostile) + 1)
    assert heart.last(3) is None


def test_a_heart_refuses_what_it_cannot_use_and_is_quiet_once_closed(ears: Any) -> None:
    heart, _ = ears
    with pytest.raises(ValueError, match="16 are due"):
        heart.expect(0, b"short")
    with pytest.raises(ValueError, match="slot 65536"):
        heart.expect(65536, KEY)
    assert heart.send_to(0, "127.0.0.1", 9, 0, KEY)
    assert not heart.send_to(0, "nowhere", 9, 0, KEY)
    assert not heart.send_to(0, "::1", 9, 0, KEY)
    heart.close()
    heart.close()
    heart.turn()
    heart.forget(0)
    heart.expect(0, KEY)
    assert heart.last(0) is None
    with pytest.raises(OSError, match="heartbeat"):
        Heart(os.open(os.devnull, os.O_RDONLY), 1.0)


async def test_a_host_that_cannot_be_bound_leaves_links_without_a_beat(caplog: Any) -> None:
    with caplog.at_level("WARNING"):
        assert await SocketHearts().start("203.0.113.1", 0.1) is None
    assert "no beat" in caplog.text


async def test_a_forgotten_peer_leaves_no_slot_behind() -> None:
    heart = await SocketHearts().start("127.0.0.1", 10.0)
    assert heart is not None
    first = heart.invite("a")
    assert heart.invite("a") == first
    heart.invite("b")
    heart.forget("a")
    assert heart.invite("c").id == first.id
    assert heart.invite("a").key != first.key
    heart.close()
