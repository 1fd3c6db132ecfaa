"""A link without sockets: frames, windows, names and acknowledgements, beside the same messages joined by hand.

Both sides of the link run here: 10,000 tells are numbered, encoded, kept, parsed in place, handed to an inbox one at a
time, acknowledged, and let go. By hand they get a length and nothing else: no number, no actor, no acknowledgement.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest

from cajun_fast._core.codec import Codec
from cajun_fast._core.lane import Exchange
from cajun_fast._core.link import Link
from cajun_fast._core.probe import VERDICTS, PyInbox, PyWire
from cajun_fast.messaging.link_ports import LinkPorts

MESSAGES = 10_000
BURST = 500
TAKEN = VERDICTS["TAKEN"]
LENGTH = struct.Struct(">I")


def message(i: int) -> dict[str, Any]:
    return {"id": i, "op": "add", "v": 1.5, "tag": "0123456789abcdef" * 2}


class Counting(PyInbox):
    count = 0

    def on_message(self, message: Any, sender: Any, replies: Any, tag: int, deadline: int) -> int:
        self.count += 1
        return TAKEN


class Letters:
    def record(self, target: str, message: Any, reason: str, sender: Any = None) -> None:
        raise AssertionError(f"{target}: {reason}")


class Side:
    """One node's end."""

    def __init__(self, name: str, peer: str, loop: asyncio.AbstractEventLoop) -> None:
        codec, letters = Codec(), Letters()
        self.exchange = Exchange(
            name, loop=loop, clock=lambda: 1, router=self, dead_letters=letters,
            encode=codec.encode, decode=codec.decode,
        )  # fmt: skip
        codec.exchange = self.exchange
        ports = LinkPorts(peer, lambda _: self.exchange.asks, lambda _: None, lambda *_: None, letters)
        self.link = Link(self.exchange, peer, 1, codec, ports, stream=1)
        self.link.attach(PyWire())

    def refresh(self, lane: Any) -> None:
        """Nothing expires."""

    def resolve(self, lane: Any) -> None:
        lane.bind_carrier(self.link)


class Joined:
    """Two ends of one link."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.left, self.right = Side("a", "b", loop), Side("b", "a", loop)
        self.inbox = Counting()
        self.right.exchange.open_inbox("target", self.inbox)
        self.pid = self.left.exchange.pid("target")
        self.move()

    def move(self) -> None:
        for here, there in ((self.left, self.right), (self.right, self.left)):
            there.link.feed(b"".join(here.link.collect()))

    def tell(self) -> None:
        tell = self.pid.tell
        for start in range(0, MESSAGES, BURST):
            for i in range(start, start + BURST):
                tell(message(i))
            self.move()


@pytest.fixture
def joined() -> Iterator[Joined]:
    with asyncio.Runner() as runner:

        async def make() -> Joined:
            return Joined(asyncio.get_running_loop())

        yield runner.run(make())


def by_hand() -> int:
    pack, unpack, length, count = msgpack.Packer().pack, msgpack.unpackb, LENGTH.pack, 0
    for start in range(0, MESSAGES, BURST):
        parts = []
        for i in range(start, start + BURST):
            body = pack(message(i))
            parts.append(length(len(body)))
            parts.append(body)
        data, at = memoryview(b"".join(parts)), 0
        while at < len(data):
            (size,) = LENGTH.unpack_from(data, at)
            unpack(data[at + 4 : at + 4 + size])
            at += 4 + size
            count += 1
    return count


@pytest.mark.benchmark(group="link: 10,000 tells, both sides")
def test_link(benchmark: Any, joined: Joined) -> None:
    benchmark(joined.tell)
    assert joined.inbox.count % MESSAGES == 0
    assert joined.left.link.held_bytes < 1 << 20
    assert not joined.left.link.unsettled


@pytest.mark.benchmark(group="link: 10,000 tells, both sides")
def test_by_hand(benchmark: Any) -> None:
    assert benchmark(by_hand) == MESSAGES


def test_ratio_to_joining_by_hand(joined: Joined, costs_at_most: Callable[..., None]) -> None:
    costs_at_most("a tell through a link", joined.tell, by_hand, 0.8)
