"""Everything that node processes say to each other and to their etcd, through relays that a test can cut: one way and
both ways, links and the beats beside them.

Laws: a relay stands at the address that a node advertises, so nothing in a node is changed for it; who dials is read
in its HELLO. A cut holds bytes back and drops datagrams, as a network does: a stream never loses anything in its
middle. It comes later, once the cable is plugged in again, or its connection is over (``heal(reset=True)``). A node
that is gone has its doors shut: whoever dials it is refused, as by its own machine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass

from cajun_fast._core.frame import TYPES
from cajun_fast.messaging.handshake import Hello, Resume
from cajun_fast.ports import Invitation
from cajun_fast.testing.proxy import HEADER

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024
#: Where a node's metadata store stands, as one end of a cable.
STORE = "store"
#: Frames behind which the bytes of a connection need no more looking at.
OVER = {TYPES["RESUME"], TYPES["REFUSE"], TYPES["BYE"]}

Way = tuple[str, str]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False, slots=True)
class Relayed:
    """One connection: between whom, and both of its sockets."""

    ways: tuple[Way, Way]
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    was_cut: bool = False

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


@dataclass(slots=True)
class Door:
    """What stands at an advertised port, and where it leads."""

    node: str
    target: int
    port: int = 0
    to_store: bool = False
    server: asyncio.Server | None = None


@dataclass(slots=True)
class Counts:
    connections: int = 0
    held: int = 0
    dropped: int = 0
    beats: int = 0


class Cables:
    """See the module's laws."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._open: dict[Way, asyncio.Event] = defaultdict(_opened)
        self._doors: list[Door] = []
        self._relayed: set[Relayed] = set()
        self._beats: dict[Way, BeatRelay] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    # ---- the doors

    async def door_of(self, node: str, target: int) -> int:
        """The port to advertise for a node that listens at ``target``."""
        return await self._make(Door(node, target))

    async def store_of(self, node: str, target: int) -> int:
        """Where that node finds its store."""
        return await self._make(Door(node, target, to_store=True))

    async def _make(self, door: Door) -> int:
        self._doors.append(door)
        await self._listen(door)
        return door.port

    async def _listen(self, door: Door) -> None:
        door.server = await asyncio.start_server(
            lambda reader, writer: self._came(door, (reader, writer)), LOOPBACK, door.port
        )
        door.port = door.server.sockets[0].getsockname()[1]

    def shut(self, node: str) -> None:
        """Its process is gone."""
        for door in self._doors:
            if door.node == node and not door.to_store and door.server is not None:
                door.server.close()
                door.server = None
        for relayed in [each for each in self._relayed if node in each.ways[0]]:
            relayed.abort()

    async def open(self, node: str) -> None:
        """It is about to start again."""
        for door in self._doors:
            if door.node == node and door.server is None:
                await self._listen(door)

    async def stop(self) -> None:
        self._stopped = True
        for event in self._open.values():
            event.set()
        for door in self._doors:
            if door.server is not None:
                door.server.close()
        for relayed in list(self._relayed):
            relayed.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for beat in self._beats.values():
            beat.close()
        await asyncio.sleep(0)  # what was aborted ends in the next turn

    # ---- cuts

    def cut(self, one: str, other: str) -> None:
        """Nothing that ``one`` says reaches ``other``."""
        self._open[one, other].clear()
        for relayed in self._relayed:
            relayed.was_cut |= (one, other) in relayed.ways

    def heal(self, *, reset: bool = False) -> None:
        """All is whole again. ``reset``: connections that were cut are over, with what they held back."""
        if reset:
            for relayed in [each for each in self._relayed if each.was_cut]:
                relayed.abort()
        for relayed in self._relayed:
            relayed.was_cut = False
        for event in self._open.values():
            event.set()

    def is_open(self, way: Way) -> bool:
        return self._open[way].is_set()

    # ---- connections

    def _came(self, door: Door, near: Ends) -> None:
        if self._stopped:
            near[1].transport.abort()
            return
        task = asyncio.ensure_future(self._carry(door, near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: near[1].transport.abort())  # also of one that never began

    async def _carry(self, door: Door, near: Ends) -> None:
        self.counts.connections += 1
        relayed: Relayed | None = None
        far_writer: asyncio.StreamWriter | None = None
        try:
            first = b"" if door.to_store else await _frame(near[0])
            dialler = door.node if door.to_store else Hello.decode(first[HEADER.size :]).node
            target = STORE if door.to_store else door.node
            there, back = (dialler, target), (target, dialler)
            if not door.to_store:
                await self._open[there].wait()
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, door.target)
            relayed = Relayed((there, back), (near[1], far_writer))
            relayed.was_cut = not (self.is_open(there) and self.is_open(back))
            self._relayed.add(relayed)
            far_writer.write(first)
            await self._both(door, (near, (far_reader, far_writer)), there, back)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the ends is gone: the other one is told by the end of its connection
        finally:
            if relayed is not None:
                self._relayed.discard(relayed)
            if far_writer is not None:
                far_writer.transport.abort()

    async def _both(self, door: Door, ends: tuple[Ends, Ends], there: Way, back: Way) -> None:
        (near_reader, near_writer), (far_reader, far_writer) = ends
        looks = not door.to_store
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._pump(near_reader, far_writer, there, looks)),
                group.create_task(self._pump(far_reader, near_writer, back, looks)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way, looks: bool
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                if looks:
                    frame = await _frame(reader)
                    looks = frame[2] not in OVER
                    data = await self._with_relayed_beats(frame, way)
                else:
                    data = await reader.read(CHUNK)
                if not data:
                    return
                if not self.is_open(way):
                    self.counts.held += len(data)
                    await self._open[way].wait()
                if writer.is_closing():  # aborted while its bytes were held back
                    return
                writer.write(data)
                await writer.drain()

    # ---- beats

    async def _with_relayed_beats(self, frame: bytes, way: Way) -> bytes:
        """RESUME says where its sender wants to be sent beats: they come by a relay too."""
        if frame[2] != TYPES["RESUME"]:
            return frame
        resume = Resume.decode(frame[HEADER.size :])
        if resume.invitation is None:
            return frame
        asked, sender = way
        relay = self._beats.get((sender, asked))
        if relay is None:
            relay = self._beats[sender, asked] = BeatRelay(self, (sender, asked))
            await relay.start()
        relay.target = (resume.invitation.host or LOOPBACK, resume.invitation.port)
        invitation = Invitation(LOOPBACK, relay.port, resume.invitation.id, resume.invitation.key)
        return Resume(resume.stream, resume.watermark, invitation).encode()


class BeatRelay(asyncio.DatagramProtocol):
    """Passes one node's beats on to one other."""

    def __init__(self, cables: Cables, way: Way) -> None:
        self._cables, self._way = cables, way
        self._transport: asyncio.DatagramTransport | None = None
        self.target = (LOOPBACK, 0)
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(LOOPBACK, 0))
        self.port = self._transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: object) -> None:
        assert self._transport is not None
        if not self._cables.is_open(self._way):
            self._cables.counts.dropped += 1
            return
        self._cables.counts.beats += 1
        self._transport.sendto(data, self.target)

    def error_received(self, error: Exception) -> None:
        """Nobody listens there any more."""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _opened() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(HEADER.size)
    return head + await reader.readexactly(HEADER.unpack(head)[4])
