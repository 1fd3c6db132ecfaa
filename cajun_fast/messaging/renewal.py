"""Certificates and keys change while messages flow: read again what changed, and renew the connections that the old
ones made.

Laws: the new connection stands before the old one goes, and the link keeps what was not acknowledged: nothing is lost.
A connection whose key was taken out of the ring, or whose certificates have ended, goes in any case; one that merely
shows an older certificate stays until a new one stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cajun_fast.messaging.tls import expires_at, seconds_left

if TYPE_CHECKING:
    from cajun_fast.messaging.connection import Connection
    from cajun_fast.messaging.peer import Peer
    from cajun_fast.messaging.system import MessagingSystem

log = logging.getLogger("cajun_fast.messaging")

SPREAD = 0.5  # of the reload interval: peers are not dialled all at once
WARN_BEFORE = 7 * 86_400.0  # seconds


class Renewal:
    """One task per messaging system."""

    def __init__(self, system: MessagingSystem, peers: Mapping[str, Peer]) -> None:
        self._system = system
        self._peers = peers
        self._warned = False

    async def run(self) -> None:
        """Until it is cancelled."""
        interval = self._system.security.reload_interval
        while True:
            self._warn_in_time()
            await asyncio.sleep(interval)
            self._system.security.reload(self._system.node_id)
            for peer in list(self._peers.values()):
                connection = peer.connection
                if connection is not None and (self.is_over(connection) or self.is_old(connection)):
                    delay = self._system.random.uniform(0, SPREAD * interval)
                    self._system.start_task(self._renew(peer, connection, delay), f"renew {peer.node}")

    def is_old(self, connection: Connection) -> bool:
        """Whether this side would show other papers now."""
        return connection.tls is not None and connection.tls.papers is not self._system.security.papers

    def is_over(self, connection: Connection) -> bool:
        """Whether what it was trusted for does not hold any more."""
        ring, introduction = self._system.ring, connection.introduction
        if ring is not None and introduction is not None and not ring.holds(introduction.key):
            return True
        if connection.tls is None:
            return False
        ends = (expires_at(connection.tls.certificate), connection.tls.papers.expires)
        return any((seconds_left(end) or 1.0) < 0 for end in ends)

    async def _renew(self, peer: Peer, connection: Connection, delay: float) -> None:
        await asyncio.sleep(delay)
        if peer.connection is not connection:
            return
        dial = peer.renew_connection()
        if dial is not None:
            await asyncio.wait([dial])
        if peer.connection is connection and self.is_over(connection):
            log.warning(
                "the connection to node %s ends: its key or certificate does not hold any more", peer.node
            )
            connection.abort()

    def _warn_in_time(self) -> None:
        left = self._system.security.status().certificate_seconds
        if left is None or left > WARN_BEFORE:
            self._warned = False
        elif not self._warned:
            self._warned = True
            log.warning(
                "this node's certificate ends in %.1f days: put a new one into its place", left / 86_400
            )
