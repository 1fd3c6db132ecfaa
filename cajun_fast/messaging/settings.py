"""What can be set about links."""

from __future__ import annotations

from dataclasses import dataclass

from cajun_fast._core.names import LONGEST_ID, MOST_NAME_BYTES, MOST_NAMES
from cajun_fast.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Bounds and times of links between nodes. Times in seconds, sizes in bytes."""

    #: What one link keeps until it is acknowledged: so much of small messages, and so much and one more of large ones.
    #: Above it tells raise BackpressureError and sends wait. Larger: more throughput over long distances, more memory.
    window_bytes: int = 8 << 20
    #: Largest encoded message.
    max_message_bytes: int = 16 << 20
    #: Large messages that are coming in by one link and are not finished.
    max_bulk_bytes: int = 64 << 20
    #: Chunks of large messages on their way at once: small keeps asks beside them fast, large fills long distances.
    bulk_window_bytes: int = 512 << 10
    #: Actor names that one link remembers in each direction.
    max_names: int = 1 << 18
    #: Bytes of those names together, in each direction.
    max_name_bytes: int = MOST_NAME_BYTES
    #: A peer that was silent for so long is not reachable; idle links show life four times in it.
    heartbeat_timeout: float = 1.0
    dial_timeout: float = 2.0
    handshake_timeout: float = 2.0
    #: Pauses between tries to connect: the first, and the longest; each is drawn at random up to its bound.
    first_pause: float = 0.02
    longest_pause: float = 1.0
    #: Connections that were accepted, at once; those whose handshake is not done, and of these from one address.
    max_connections: int = 4096
    max_handshakes: int = 256
    max_handshakes_per_address: int = 128
    #: Nodes that connected without being known to membership, at once; and how long one that is down is remembered.
    max_strangers: int = 1024
    stranger_memory: float = 60.0
    #: How long `stop` waits for what was accepted to be acknowledged.
    stop_timeout: float = 1.0
    #: Failures to connect before the breaker opens; those that lie closer together than the spacing count once, so that
    #: a short break of the network does not open it.
    failure_threshold: int = 5
    failure_spacing: float = 1.0
    reset_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"{name} must be above 0, got {value!r}")
        if not 3 <= self.max_names <= MOST_NAMES:
            raise ConfigError(f"max_names must lie between 3 and {MOST_NAMES}, got {self.max_names!r}")
        if not 3 * LONGEST_ID <= self.max_name_bytes <= MOST_NAME_BYTES:
            raise ConfigError(
                f"max_name_bytes must lie between {3 * LONGEST_ID} and {MOST_NAME_BYTES}, got {self.max_name_bytes!r}"
            )
        if self.max_message_bytes > self.max_bulk_bytes:
            raise ConfigError(
                f"max_bulk_bytes ({self.max_bulk_bytes}) must hold one message of max_message_bytes "
                f"({self.max_message_bytes}): raise the first or lower the second"
            )
