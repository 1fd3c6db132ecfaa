"""What a store can be told besides its URL; a store takes what concerns it and leaves the rest.

Laws: frozen, checked when made; secrets are never part of ``repr``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from cajun_fast.clock import Clock, MonotonicClock, system_random
from cajun_fast.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    #: Time, for leases' deadlines; a simulation hands in its own.
    clock: Clock = field(default_factory=MonotonicClock)
    #: Chance, for lease ids and the jitter of retries.
    random: random.Random = field(default_factory=system_random, repr=False)
    #: Seconds until an operation without an answer is MetadataStoreUnavailableError, retries included.
    timeout: float = 5.0
    #: etcd: channels for unary calls; streams have their own two.
    max_connections: int = 10
    #: etcd: attempts after the first, within ``timeout``.
    max_retries: int = 10
    #: etcd: the first back-off; doubles per attempt, full jitter, capped at one second.
    retry_delay_ms: float = 25.0
    #: etcd: user and password (or ``http://user:password@host`` in the URL, which is never printed).
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    #: etcd over https: PEM files. Without ``ca_file`` the system's authorities are trusted.
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        limits = {"timeout": 0.001, "max_connections": 1, "max_retries": 0, "retry_delay_ms": 0.001}
        for name, least in limits.items():
            if not getattr(self, name) >= least:
                raise ConfigError(f"store option {name}={getattr(self, name)!r}: at least {least}")
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigError("store options cert_file and key_file belong together: give both, or none")
        if (self.user is None) != (self.password is None):
            raise ConfigError("store options user and password belong together: give both, or none")
