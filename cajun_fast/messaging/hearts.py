"""The real heart behind the Hearts port: a datagram socket, and the native thread that beats on it.

Laws: keys come from the operating system's generator; a peer that is forgotten leaves no key and no slot behind. What
fails here is logged and done without: a link has a heartbeat of its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket

from cajun_fast._core.heart import KEY_SIZE, MOST_SLOTS
from cajun_fast._core.heart import Heart as NativeHeart
from cajun_fast.ports import Heart, Invitation, Pulse

WILDCARDS = ("0.0.0.0", "::")

log = logging.getLogger("cajun_fast.messaging")


class SocketHearts:
    """Hearts over UDP."""

    __slots__ = ()

    async def start(self, host: str, interval: float) -> Heart | None:
        """See Hearts."""
        try:
            sock = await _bound(host)
            own, port = sock.getsockname()[:2]
            native = NativeHeart(sock.detach(), interval)
        except OSError as error:
            log.warning("no beat beside the links: a blocked node will look like a lost one: %s", error)
            return None
        return SocketHeart(native, "" if own in WILDCARDS else own, port)


class SocketHeart:
    """Slots of the native heart by node id."""

    def __init__(self, native: NativeHeart, host: str, port: int) -> None:
        self._native = native
        self._host, self._port = host, port
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._invited: dict[str, Invitation] = {}  # one a peer: of connections that cross either may stand
        self.turn = native.turn
        self.close = native.close

    def _slot(self, node: str) -> int:
        slot = self._slots.get(node)
        if slot is None:
            slot = self._free.pop() if self._free else len(self._slots)
            self._slots[node] = slot
        return slot

    def invite(self, node: str) -> Invitation:
        invitation = self._invited.get(node)
        if invitation is None:
            slot, key = self._slot(node), secrets.token_bytes(KEY_SIZE)
            if slot < MOST_SLOTS:
                self._native.expect(slot, key)
            invitation = self._invited[node] = Invitation(self._host, self._port, slot, key)
        return invitation

    def accept(self, node: str, host: str, invitation: Invitation) -> None:
        _, port, number, key = invitation
        slot = self._slot(node)
        if slot < MOST_SLOTS and not self._native.send_to(slot, invitation.host or host, port, number, key):
            log.info("node %s cannot be sent beats at %s", node, invitation.host or host)

    def last(self, node: str) -> Pulse | None:
        slot = self._slots.get(node)
        pulse = None if slot is None else self._native.last(slot)
        return None if pulse is None else Pulse(pulse[0], pulse[1])

    def forget(self, node: str) -> None:
        slot = self._slots.pop(node, None)
        self._invited.pop(node, None)
        if slot is not None:
            self._native.forget(slot)
            self._free.append(slot)

    @property
    def dropped(self) -> int:
        """Datagrams that were not genuine beats."""
        return self._native.dropped


async def _bound(host: str) -> socket.socket:
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, 0, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
