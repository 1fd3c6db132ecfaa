"""Large bytes in a message go to the wire from where they lie: what arrives is what was sent, byte for byte, whichever
way a message takes and however often it goes again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cajun_fast._core.lane import Pid
from cajun_fast.errors import SerializationError
from tests.core.link_world import FULL, LARGE, MOVING, NOT_HERE, TAKEN, Actor, World

REFERRED = 64 * 1024  # bytes: from this size on a bytes object is not copied
FIRST = bytes(range(256)) * 1200


def of_size(size: int) -> bytes:
    """No two places of it are alike that lie a chunk apart."""
    return (FIRST[size % 251 :] * (size // len(FIRST) + 2))[:size]


SIZES = st.one_of(st.integers(0, 40), st.integers(REFERRED - 3, REFERRED + 3), st.integers(LARGE, 4 * LARGE))
DATA = SIZES.map(of_size)
LEAVES = st.one_of(DATA, DATA, DATA.map(bytearray), st.integers(), SIZES.map(lambda size: "é" * (size // 2)))
MESSAGES = st.one_of(
    LEAVES, st.lists(LEAVES, max_size=4), st.dictionaries(st.text(max_size=3), LEAVES, max_size=4)
)


class Keeper(Actor):
    """Keeps what it gets."""

    def on_message(self, message: Any, sender: Any, replies: Any, tag: int, deadline: int) -> int:
        if self.mode == TAKEN:
            self.log.append(message["body"])
        return self.mode


class Large(World):
    """One sender, one actor that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []
        self.pid: Pid = self.a.exchange.pid("x")
        self.live_at("b")

    def live_at(self, home: str) -> None:
        """The actor lives there from now on."""
        old = self.actors.get("x")
        if old is not None:
            self.homes[self.where["x"]].exchange.close_inbox("x")
            old.mode = NOT_HERE
            old.announce_room()
        self.where["x"] = home
        self.actors["x"] = Keeper(self.homes[home], "x", self.kept)
        self.homes[home].exchange.open_inbox("x", self.actors["x"])

    def find_the_way(self) -> None:
        """Until then messages wait in the lane, encoded."""
        self.connect("b")
        self.pid.tell({"body": 0})
        self.drain()


@pytest.fixture
def world() -> Iterator[Large]:
    world = Large()
    yield world
    world.close()


@given(data=st.data())
def test_what_arrives_is_what_was_sent(data: st.DataObject) -> None:
    world = Large()
    sent = []
    try:
        world.find_the_way()
        world.a.link("b").bulk.use_chunks(large=data.draw(st.booleans()))
        for body in data.draw(st.lists(MESSAGES, min_size=1, max_size=5)):
            world.pid.tell({"body": body})
            sent.append(bytes(body) if isinstance(body, bytearray) else plain(body))
            if isinstance(body, bytearray):
                body[:] = b"it belongs to the application again"
            step = data.draw(st.sampled_from(["go on", "move", "cut", "refuse", "move house"]))
            world.route()
            if step == "move":
                world.pipes["b"].move(0, data.draw(st.integers(1, 200_000)))
            elif step == "cut":
                world.pipes["b"].move(0, data.draw(st.integers(1, 200_000)))
                world.connect("b")
            elif step == "refuse":
                world.actors["x"].mode = data.draw(st.sampled_from([FULL, MOVING]))
                world.pipes["b"].move(0)
            elif step == "move house":
                world.live_at("c" if world.where["x"] == "b" else "b")
        world.drain()
        assert world.kept == [0, *sent]
        world.check_empty()
    finally:
        world.close()


def plain(body: Any) -> Any:
    """As it comes out."""
    if isinstance(body, bytearray):
        return bytes(body)
    if isinstance(body, list):
        return [plain(each) for each in body]
    if isinstance(body, dict):
        return {key: plain(each) for key, each in body.items()}
    return body


def test_nothing_is_copied_and_it_is_let_go_when_it_has_arrived(world: Large) -> None:
    body = of_size(3 * LARGE)
    free = sys.getrefcount(body)
    world.find_the_way()
    world.pid.tell({"body": body})
    out = [data for data in world.a.link("b").collect() if isinstance(data, memoryview)]
    assert sum(len(data) for data in out if data.obj is body) > 2 * LARGE
    del out
    world.connect("b")
    world.drain()
    assert world.kept == [0, body]
    assert sys.getrefcount(body) == free


def test_it_is_let_go_when_it_cannot_be_sent(world: Large) -> None:
    body = of_size(LARGE)
    free = sys.getrefcount(body)
    world.find_the_way()
    with pytest.raises(SerializationError, match="cannot hold a"):
        world.pid.tell({"body": [body, object()]})
    assert sys.getrefcount(body) == free
    world.drain()
    assert world.kept == [0]


def test_one_that_ends_without_having_gone_is_a_dead_letter_in_one_piece(world: Large) -> None:
    body = [of_size(LARGE), "between", of_size(2 * LARGE)]
    world.find_the_way()
    world.cut("b")
    world.pid.tell({"body": body}, deadline=1.0)
    world.clock.now += 2_000_000_000
    world.a.link("b").tick(world.clock.now)
    assert [message for _, message, _ in world.a.letters.all] == [{"body": body}]
    world.drain()
    assert world.kept == [0]
    world.check_empty()


def test_those_that_a_lost_peer_has_not_seen_arrive_elsewhere(world: Large) -> None:
    bodies = [of_size(size) for size in (LARGE, 10, 5 * LARGE)]
    world.find_the_way()
    world.cut("b")
    for body in bodies:
        world.pid.tell({"body": body})
    world.live_at("c")
    world.restart("b")
    world.drain()
    assert world.kept == [0, *bodies]
