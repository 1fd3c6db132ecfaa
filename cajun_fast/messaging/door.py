"""Who may come in at all: bounds on strangers, a growing pause for those who fail, and a log that cannot be flooded.

Laws: no sockets and no tasks here; time is asked of the clock that was handed in. A pause delays a challenge and never
refuses: a node with a wrong key must not shut out the others behind its address. Every table is bounded.
"""

from __future__ import annotations

import enum
import ipaddress
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from cajun_fast.messaging.settings import LinkSettings

log = logging.getLogger("cajun_fast.messaging")

ADDRESSES_MOST = 4096  # whose failures are remembered; the one that failed longest ago goes first
FREE_FAILURES = 3  # before the first pause: a key that is being rotated, a typing error
FIRST_PAUSE = 0.05  # seconds; doubles with each failure
FORGIVEN_AFTER = 60.0  # seconds without a failure, after which the count is halved
LINES_AT_ONCE = 20  # of the log; then one
LINE_EVERY = 1.0  # seconds


class Cause(enum.StrEnum):
    """Why a connection was ended before it carried anything."""

    CONNECTIONS = "too many connections"
    HANDSHAKES = "too many handshakes"
    SLOW = "too slow"
    TLS = "tls"
    AUTH = "authentication"
    REFUSED = "refused"
    PROTOCOL = "protocol"
    FORBIDDEN = "forbidden"  # no connection: a message that access rules do not allow


def place_of(peername: Any) -> str:
    """What counts as one address: an IPv4 address, an IPv6 network of 64 bits, this machine's Unix sockets."""
    if not isinstance(peername, tuple) or not peername:
        return "unix"
    try:
        address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    except ValueError:
        return str(peername[0])
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class Door:
    """Counts who stands in it, and who was sent away."""

    def __init__(self, settings: LinkSettings, now_ns: Callable[[], int]) -> None:
        self._settings = settings
        self._now_ns = now_ns
        self._half_open: Counter[str] = Counter()
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()  # count, time of the last
        self._lines = float(LINES_AT_ONCE)
        self._lines_ns = now_ns()
        self._unsaid = 0
        #: Connections that were turned down, by cause.
        self.turned_down: Counter[Cause] = Counter()

    # ---- half-open connections ---------------------------------------------------------------------------------

    def enter(self, place: str, connections: int) -> Cause | None:
        """Somebody connected from ``place``; returns why they cannot stay, or None: then ``leave`` is called later.
        ``connections``: how many there are already."""
        settings = self._settings
        if connections >= settings.max_connections:
            return Cause.CONNECTIONS
        if self._half_open.total() >= settings.max_handshakes:
            return Cause.HANDSHAKES
        if self._half_open[place] >= settings.max_handshakes_per_address:
            return Cause.HANDSHAKES
        self._half_open[place] += 1
        return None

    def leave(self, place: str) -> None:
        """A handshake is over, one way or the other."""
        self._half_open[place] -= 1
        if self._half_open[place] <= 0:
            del self._half_open[place]

    @property
    def half_open(self) -> int:
        """Handshakes under way."""
        return self._half_open.total()

    # ---- those who fail ----------------------------------------------------------------------------------------

    def failed(self, place: str) -> None:
        """Somebody at ``place`` could not prove who they are."""
        count = self._failures_of(place)
        self._failures[place] = count + 1, self._now_ns()
        self._failures.move_to_end(place)
        if len(self._failures) > ADDRESSES_MOST:
            self._failures.popitem(last=False)

    def pause(self, place: str) -> float:
        """Seconds until somebody at ``place`` gets a challenge: 0 for who never failed, less than a handshake may
        take for everybody."""
        extra = self._failures_of(place) - FREE_FAILURES
        if extra <= 0:
            return 0.0
        return float(min(FIRST_PAUSE * 2.0 ** min(extra - 1, 10), self._settings.handshake_timeout / 2))

    def _failures_of(self, place: str) -> int:
        count, last = self._failures.get(place, (0, 0))
        halvings = int((self._now_ns() - last) / 1e9 / FORGIVEN_AFTER)
        return count >> min(halvings, 32)

    # ---- the log -----------------------------------------------------------------------------------------------

    def explain(self, cause: Cause) -> str:
        """Why ``enter`` said no."""
        settings = self._settings
        if cause is Cause.CONNECTIONS:
            return f"{settings.max_connections} connections are open: raise max_connections"
        return (
            f"{settings.max_handshakes} handshakes are under way, or {settings.max_handshakes_per_address} from its "
            "address: raise max_handshakes or max_handshakes_per_address"
        )

    def note(self, cause: Cause, address: str, reason: str) -> None:
        """A connection is turned down: counted; logged while the log has room for it."""
        self.turned_down[cause] += 1
        self._say(f"connection with {address} ended: {reason}")

    def note_forbidden(self, peer: str, what: str) -> None:
        """A peer may not do that: counted and logged alike; the connection goes on."""
        self.turned_down[Cause.FORBIDDEN] += 1
        self._say(f"node {peer!r} may not {what}: no access rule allows it")

    def _say(self, text: str) -> None:
        now = self._now_ns()
        self._lines = min(LINES_AT_ONCE, self._lines + (now - self._lines_ns) / 1e9 / LINE_EVERY)
        self._lines_ns = now
        if self._lines < 1:
            self._unsaid += 1
            return
        self._lines -= 1
        unsaid, self._unsaid = self._unsaid, 0
        more = f" (and {unsaid} more that were not logged)" if unsaid else ""
        log.warning("%s%s", text, more)
