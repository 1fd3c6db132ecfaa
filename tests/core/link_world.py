"""Nodes, links and actors in memory: two machines joined by pipes that a test empties byte by byte.

Every message carries its number; an actor writes down what it gets, wherever it lives just then. The books at the end
say for each message whether it was handled, and what its sender was told.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from typing import Any

from cajun_fast._core.codec import Codec
from cajun_fast._core.lane import Exchange, Lane
from cajun_fast._core.link import Link
from cajun_fast._core.probe import VERDICTS, PyInbox, PyWire
from cajun_fast.errors import BackpressureError, OutcomeUnknownError
from cajun_fast.messaging.link_ports import LinkPorts

TAKEN, FULL, NOT_HERE, MOVING, EXPIRED = (
    VERDICTS[name] for name in ("TAKEN", "FULL", "NOT_HERE", "MOVING", "EXPIRED")
)
LARGE = 70_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now


class Letters:
    """Dead letters, kept whole."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.all: list[tuple[str, Any, str]] = []

    def record(
        self, target: str, message: Any, reason: str, sender: Any = None, message_id: str | None = None
    ) -> None:
        if isinstance(message, bytes):
            message = self.node.codec.decode(message)
        self.all.append((target, message, reason))


class Actor(PyInbox):
    """One actor at one node; ``log`` is shared by all its homes."""

    def __init__(self, node: Node, actor_id: str, log: list[Any]) -> None:
        self.node, self.id, self.log = node, actor_id, log
        self.mode = TAKEN
        self.asked: list[tuple[Any, int, Any]] = []

    def on_message(self, message: Any, sender: Any, replies: Any, tag: int, deadline: int) -> int:
        if deadline and self.node.clock() >= deadline:
            return EXPIRED
        if self.mode == TAKEN:
            self.log.append((message["n"], None if sender is None else sender.id))
            if tag:
                self.asked.append((replies, tag, message["n"]))
        return self.mode

    def has_room(self) -> bool:
        return self.mode != FULL

    def open(self) -> None:
        self.mode = TAKEN
        self.announce_room()


class Router:
    """Answers when the test says so, with where the actor lives then."""

    def __init__(self) -> None:
        self.asking: deque[Lane] = deque()

    def resolve(self, lane: Lane) -> None:
        self.asking.append(lane)

    def refresh(self, lane: Lane) -> None:
        """Nothing expires by time here."""


class Node:
    def __init__(self, name: str, clock: Clock, loop: asyncio.AbstractEventLoop, **link: Any) -> None:
        self.name, self.clock, self.link_options = name, clock, link
        self.letters = Letters(self)
        self.router = Router()
        self.codec = Codec()
        self.exchange = Exchange(
            name, loop=loop, clock=clock, router=self.router, dead_letters=self.letters,
            encode=self.codec.encode, decode=self.codec.decode,
        )  # fmt: skip
        self.codec.exchange = self.exchange
        self.links: dict[str, Link] = {}
        self.streams = 0

    def link(self, peer: str) -> Link:
        link = self.links.get(peer)
        if link is None or link.ended:
            self.streams += 1
            ports = LinkPorts(peer, self.replies_for, lambda _: None, lambda *_: None, self.letters)
            link = Link(self.exchange, peer, 1, self.codec, ports, stream=self.streams, **self.link_options)
            self.links[peer] = link
        return link

    def replies_for(self, node: str) -> Any:
        return self.exchange.asks if node == self.name else self.link(node).replies


class WireEnd(PyWire):
    """One side of a pipe; as a connection does, it writes at once what must not wait, unless it writes just now."""

    def __init__(self, pipe: Pipe, side: int) -> None:
        self.pipe, self.side, self.pushes = pipe, side, 0

    def on_push(self) -> None:
        self.pushes += 1
        self.pipe.collect(self.side)


class Pipe:
    """A connection: what each side wrote and the other has not taken in."""

    def __init__(self, left: Node, right: Node) -> None:
        self.ends = (left, right)
        self.wires = (WireEnd(self, 0), WireEnd(self, 1))
        self.collecting = [False, False]
        self.flying = [bytearray(), bytearray()]
        self.up = True
        for side, node in enumerate(self.ends):
            for data in self._link(side).attach(self.wires[side]):
                self.flying[side] += data
            assert node is self.ends[side]

    def _link(self, side: int) -> Link:
        return self.ends[side].link(self.ends[1 - side].name)

    def move(self, side: int, most: int | None = None) -> int:
        """What ``side`` wrote goes over, at most so many bytes; how many were taken in."""
        self.collect(side)
        flying = self.flying[side]
        data = bytes(flying if most is None else flying[:most])
        done = self._link(1 - side).feed(data)
        del flying[:done]
        return done

    def collect(self, side: int) -> None:
        """Write what ``side`` has to write."""
        if self.collecting[side] or not self.up:
            return
        self.collecting[side] = True
        try:
            for data in self._link(side).collect():
                self.flying[side] += data
        finally:
            self.collecting[side] = False

    def cut(self) -> None:
        self.up = False
        for side in (0, 1):
            self._link(side).detach(self.wires[side])


class World:
    """Node a sends; b and c are homes of actors, each of which lives in one of them."""

    def __init__(self, **link: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.options = link
        self.a = Node("a", self.clock, self.loop, **link)
        self.homes = {name: Node(name, self.clock, self.loop, **link) for name in "bc"}
        self.pipes: dict[str, Pipe] = {}
        self.where: dict[str, str] = {}
        self.actors: dict[str, Actor] = {}
        self.logs: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
        self.sent: dict[int, tuple[str, str | None]] = {}
        self.waiters: dict[int, asyncio.Future[None]] = {}
        self.expired_by: dict[int, int] = {}
        self.count = 0

    def close(self) -> None:
        self.loop.close()

    # ---- actors

    def settle_actor(self, actor_id: str, home: str) -> Actor:
        """The actor lives there from now on, and nowhere else."""
        old = self.where.get(actor_id)
        if old is not None:
            self.homes[old].exchange.close_inbox(actor_id)
            self.actors[actor_id].mode = NOT_HERE
            self.actors[actor_id].announce_room()
        node = self.homes[home]
        actor = Actor(node, actor_id, self.logs[actor_id])
        node.exchange.open_inbox(actor_id, actor)
        self.where[actor_id], self.actors[actor_id] = home, actor
        return actor

    # ---- sending from a

    def send(
        self, actor_id: str, *, size: int = 0, waits: bool = False, sender: str | None = None,
        seconds: float | None = None, guarantee: int | None = None, pad: bytes | str = b"x",
    ) -> int | None:  # fmt: skip
        """One message; its number, or None when there was no room."""
        number = self.count
        message = {"n": number, "pad": pad * size}
        pid = self.a.exchange.pid(actor_id)
        try:
            if waits:
                self.waiters[number] = pid.send(message, deadline=seconds, guarantee=guarantee)
            else:
                pid.tell(message, deadline=seconds, guarantee=guarantee)
        except BackpressureError:
            return None
        self.count += 1
        self.sent[number] = (actor_id, sender)
        if seconds is not None:
            self.expired_by[number] = self.clock.now + int(seconds * 1e9)
        return number

    def route(self) -> bool:
        """Answer the lane that has waited longest."""
        if not self.a.router.asking:
            return False
        lane = self.a.router.asking.popleft()
        lane.bind_carrier(self.a.link(self.where[lane.target]))
        return True

    # ---- connections

    def connect(self, home: str) -> None:
        if home in self.pipes:
            self.cut(home)
        self.pipes[home] = Pipe(self.a, self.homes[home])

    def cut(self, home: str) -> None:
        pipe = self.pipes.pop(home, None)
        if pipe is not None:
            pipe.cut()

    def restart(self, home: str) -> None:
        """The home dies and comes back with another incarnation; its actors start anew."""
        self.cut(home)
        self.a.link(home).end("it was killed")
        self.homes[home] = Node(home, self.clock, self.loop, **self.options)
        for actor_id in [actor_id for actor_id, lives in self.where.items() if lives == home]:
            del self.where[actor_id], self.actors[actor_id]
            self.settle_actor(actor_id, home)

    def drain(self) -> None:
        """Open everything, connect everything, until nothing moves any more."""
        for home in self.homes:
            if home not in self.pipes:
                self.connect(home)
        for _ in range(10_000):
            for actor in list(self.actors.values()):
                actor.open()
            moved = self.route()
            for pipe in self.pipes.values():
                moved = bool(pipe.move(0) + pipe.move(1)) or moved
            if not moved:
                return
        raise AssertionError("it never comes to rest")

    # ---- the books

    def check(self, *, unknown_allowed: bool) -> None:
        """Each message: handled once or its failure told; in order per actor."""
        handled = {actor: [n for n, _ in log] for actor, log in self.logs.items()}
        for actor_id, numbers in handled.items():
            assert numbers == sorted(set(numbers)), f"{actor_id}: doubled or out of order: {numbers}"
        delivered = {n for numbers in handled.values() for n in numbers}
        dead = [message["n"] for _, message, _ in self.a.letters.all]
        assert len(dead) == len(set(dead)), f"told twice: {dead}"
        for number, (actor_id, sender) in self.sent.items():
            told = number in dead
            waiter = self.waiters.get(number)
            if waiter is not None:
                assert waiter.done(), f"message {number} to {actor_id}: its sender waits for ever"
                error = waiter.exception()
                told = error is not None
                if isinstance(error, OutcomeUnknownError):
                    assert unknown_allowed or number in self.expired_by
                    continue
                assert (number in delivered) is (error is None), f"{number} to {actor_id}: told {error!r}"
            elif told and unknown_allowed:
                continue
            assert (number in delivered) is not told, f"message {number} to {actor_id} vanished, told: {told}"
            if number in delivered and sender is not None:
                assert (number, sender) in self.logs[actor_id]

    def check_empty(self) -> None:
        """Nothing is left behind but names."""
        for node in (self.a, *self.homes.values()):
            assert node.exchange.waiting_bytes == 0, f"{node.name}: {node.exchange.waiting_bytes} bytes wait"
            for link in node.links.values():
                left = {key: count for key, count in link.waits.items() if count and key != "names"}
                assert not left, f"{node.name} → {link.peer}: {left}"
                assert link.held_bytes < 1024, f"{node.name} → {link.peer} keeps {link.held_bytes} bytes"
