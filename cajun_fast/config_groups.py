"""The groups of settings of a cluster member, one a room: each field with its rule and its advice.

Laws: a group is frozen and checks each field when made; it knows nothing of the other groups (what must fit together is
``ClusterConfig.validate``'s) and reads nothing but its arguments.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cajun_fast.access import AccessRule
from cajun_fast.config_rules import (
    Rule,
    access_rules,
    flag,
    many,
    number,
    one_of,
    optional,
    setting,
    ssl_context,
    text,
    variable,
    whole,
    wrong,
)


class Group:
    """A frozen group of settings; making one checks each field by its rule."""

    __slots__ = ()
    _PREFIX = ""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            rule: Rule | None = each.metadata.get("rule")
            if rule is not None:
                value = rule(f"{self._PREFIX}{each.name}", getattr(self, each.name))
                object.__setattr__(self, each.name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingConfig(Group):
    """Links between nodes."""

    _PREFIX = "messaging."

    host: str = setting("127.0.0.1", text, "address to listen on; beyond loopback: set advertised_host too")
    port: int = setting(8080, whole(0, 65535), "port to listen on; 0: any free one, told through the store")
    advertised_host: str | None = setting(None, optional(text), "host that other nodes dial; default: host")
    advertised_port: int | None = setting(
        None, optional(whole(1, 65535)), "port that other nodes dial; default: the one listened on"
    )
    max_message_bytes: int = setting(
        16 * 1024 * 1024, whole(1024, 1 << 31), "largest encoded message; the same on every node"
    )
    failure_threshold: int = setting(5, whole(1), "failures in a row that open a node's circuit breaker")
    reset_timeout_ms: float = setting(
        30_000.0, number(1, unit="ms"), "rest of an open breaker before its probe"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfig(Group):
    """The metadata store and the way of claims into it."""

    _PREFIX = "metadata."

    timeout: float = setting(
        5.0, number(0.01, unit="s"), "an operation without an answer for so long has failed"
    )
    max_connections: int = setting(10, whole(1), "etcd: channels for single calls")
    max_retries: int = setting(10, whole(0), "etcd: attempts after the first, within timeout")
    retry_delay_ms: float = setting(
        25.0, number(0.001, unit="ms"), "etcd: first back-off, doubles, full jitter"
    )
    registration_batch_size: int = setting(50, whole(1, 100), "claims that leave in one transaction")
    registration_batch_age_ms: float = setting(
        2.0, number(0, 1000, "ms"), "how long a claim waits for company"
    )
    registration_queue_limit: int = setting(
        100_000, whole(1), "claims that may wait during an outage of the store"
    )
    registration_timeout: float = setting(
        10.0, number(0.01, unit="s"), "a claim that has not settled by then fails"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig(Group):
    """Being a member: the lease of the node's record, the leader's lock."""

    _PREFIX = "membership."

    lease_ttl: float = setting(
        5.0,
        number(0.2, 3600, "s"),
        "life of a node's record without any renewal: what evicts when nobody else can",
    )
    suspicion_timeout: float = setting(
        0.7,
        number(0.1, 3600, "s"),
        "a node that is not heard and does not answer a suspicion for so long is lost; each node asks the store "
        "three times in it whether its seat is its own, and stands still while it cannot know",
    )
    stuck_timeout: float = setting(
        60.0, number(0, unit="s"), "a node whose process lives but whose event loop stands is kept so long"
    )
    leader_ttl: float | None = setting(
        None, optional(number(0.2, 3600, "s")), "the leader's; default: lease_ttl"
    )
    discovery: str | None = setting(
        None,
        optional(text),
        "where else nodes' addresses may be found, e.g. dns://_cajun._tcp.workers.example or dns://workers.example:8080",
    )
    discovery_interval: float = setting(10.0, number(0.1, 86_400, "s"), "pause between two looks there")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementConfig(Group):
    """Where actors live, and how a sender finds out."""

    _PREFIX = "placement."

    location_cache_expiry_ms: float = setting(
        5_000.0, number(1, unit="ms"), "a cached location is looked up again"
    )
    location_cache_size: int = setting(
        262_144, whole(1), "cached locations, least recently used go first; as many as names on a link"
    )
    negative_cache_ms: float = setting(
        100.0, number(0, 60_000, "ms"), "how long 'no such actor' is remembered"
    )
    start_timeout: float = setting(
        3.0, number(0, unit="s"), "senders wait so long for an actor that starts or moves"
    )
    rehost_timeout: float = setting(
        10.0, number(0, unit="s"), "senders wait so long for a lost node's actors"
    )
    adoption_batch_size: int = setting(100, whole(1, 1000), "actors of a lost node given away in one request")
    adoption_timeout: float = setting(
        15.0, number(0.1, unit="s"), "a node that has not answered by then is passed over"
    )
    lookups_at_once: int = setting(64, whole(1), "reads of the directory in flight; more wait")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorsConfig(Group):
    """Actors of this node, and what may wait for them."""

    _PREFIX = "actors."

    mailbox_capacity: int = setting(10_000, whole(1), "messages that a mailbox holds")
    mailbox_policy: str = setting(
        "block", one_of("block", "drop_new", "drop_oldest", "fail"), "what a full mailbox does with one more"
    )
    waiting_limit: int = setting(10_000, whole(1), "messages to one actor that may wait for its location")
    waiting_bytes: int = setting(
        8 << 20, whole(1), "their bytes, beyond which a tell to that actor has no room"
    )
    waiting_bytes_total: int = setting(64 << 20, whole(1), "the same for all actors together")
    raise_when_full: bool = setting(
        True, flag, "tell without room: raise BackpressureError; false: dead letter"
    )
    max_asks_in_flight: int = setting(65_536, whole(1), "asks of this node that may wait for answers")
    stop_timeout: float = setting(5.0, number(0, unit="s"), "how long a stop waits for handlers that run")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig(Group):
    """Who may connect, what is hidden from whom, who may do what, and how much a stranger may take up.

    Secrets are never settings: a setting says where they are.
    """

    _PREFIX = "security."

    tls_cert: str | None = setting(
        None, optional(text), "PEM file: this node's certificate chain; turns TLS on"
    )
    tls_key: str | None = setting(None, optional(text), "PEM file: the key of the certificate")
    tls_ca: str | None = setting(None, optional(text), "PEM file: the authorities whose certificates count")
    tls_context: ssl.SSLContext | None = setting(  # noqa: RUF009 - a field, as all of them
        None, ssl_context, "in code only: an SSLContext for nodes that dial this one"
    )
    tls_client_context: ssl.SSLContext | None = setting(  # noqa: RUF009 - a field, as all of them
        None, ssl_context, "in code only: an SSLContext for nodes that it dials"
    )
    tls_minimum: str = setting("1.2", one_of("1.2", "1.3"), "oldest version of TLS that is spoken")
    tls_mutual: bool = setting(True, flag, "nodes that dial must show a certificate too")
    tls_check_host: bool = setting(
        True, flag, "a dialled node's certificate must name its host, besides the node; false: the node only"
    )
    key_file: str | None = setting(
        None, optional(text), "file with the keys that nodes prove to hold; turns authentication on"
    )
    key_env: str | None = setting(None, optional(variable), "name of a variable that holds the keys instead")
    reload_interval: float = setting(
        10.0, number(0.05, 86_400, "s"), "how often changed certificates and keys are looked for"
    )
    insecure_network: bool = setting(
        False,
        flag,
        "listen beyond this machine without TLS and authentication: everybody who can connect is let in",
    )
    allow: tuple[AccessRule, ...] = setting(
        (), access_rules, "who may do what; without a rule everybody who is let in may do everything"
    )
    handshake_timeout: float = setting(
        2.0, number(0.1, 60, "s"), "a connection that is not through by then ends"
    )
    max_connections: int = setting(4096, whole(1), "connections that are open at once")
    max_handshakes: int = setting(256, whole(1), "connections whose handshake is not done, at once")
    max_handshakes_per_address: int = setting(128, whole(1), "the same, from one address")
    max_strangers: int = setting(1024, whole(1), "nodes that connected and are no members, at once")
    max_nesting: int = setting(64, whole(4, 512), "how deep a message may be nested; the same on every node")

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        files = (self.tls_cert, self.tls_key, self.tls_ca)
        contexts = (self.tls_context, self.tls_client_context)
        if any(files) and any(contexts):
            raise wrong("security.tls_context", self.tls_context, "TLS takes files or contexts, not both")
        for names, values in (
            (("tls_cert", "tls_key", "tls_ca"), files),
            (("tls_context", "tls_client_context"), contexts),
        ):
            if any(values) and not all(values):
                missing = " and ".join(name for name, value in zip(names, values, strict=True) if not value)
                raise wrong(f"security.{missing.split()[0]}", None, f"TLS needs {missing} too")
        if self.key_file is not None and self.key_env is not None:
            raise wrong("security.key_env", self.key_env, "keys come from one place: drop it or key_file")

    @property
    def tls_files(self) -> tuple[str, str, str] | None:
        """Chain, key and authorities, where TLS is made of files."""
        if self.tls_cert is None or self.tls_key is None or self.tls_ca is None:
            return None
        return self.tls_cert, self.tls_key, self.tls_ca

    @property
    def has_tls(self) -> bool:
        """Whether links are encrypted."""
        return self.tls_cert is not None or self.tls_context is not None

    @property
    def has_keys(self) -> bool:
        """Whether nodes prove that they hold a key."""
        return self.key_file is not None or self.key_env is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig(Group):
    """Management over HTTP and the dashboard, served by this node. Off unless ``listen`` is set.

    Beyond loopback it needs a token or client certificates. Secrets are no settings: a setting says where they are.
    """

    _PREFIX = "http."

    listen: str | None = setting(
        None, optional(text), "host:port to serve management and dashboard on; port 0: any free one"
    )
    writable: bool = setting(False, flag, "whether actors can be moved and nodes drained through it")
    token_file: str | None = setting(
        None, optional(text), "file whose first line callers must show as a token"
    )
    token_env: str | None = setting(
        None, optional(variable), "name of a variable that holds the token instead"
    )
    certificate: str | None = setting(None, optional(text), "PEM file: certificate chain; turns HTTPS on")
    key: str | None = setting(None, optional(text), "PEM file: the key of the certificate")
    client_ca: str | None = setting(
        None, optional(text), "PEM file: authorities; callers must show a certificate of theirs"
    )
    names: tuple[str, ...] = setting(
        (), many(text), "host names under which it is called, besides the one it listens on and loopback"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardingConfig(Group):
    """Actors that are found by the shard of their id: ``docs/sharding.md``."""

    _PREFIX = "sharding."

    shard_count: int | None = setting(
        None,
        optional(whole(1, 1_000_000)),
        "shards of each sharded type, for good; default: the cluster's, else 256",
    )
    passivate_after: float | None = setting(
        None,
        optional(number(0, unit="s")),
        "a sharded actor without a message for so long ends; default: never",
    )
    handover_timeout: float = setting(
        5.0,
        number(0.1, unit="s"),
        "how long the actors of a shard that moves may still work on what they have",
    )
    rebalance_delay: float = setting(
        2.0,
        number(0, unit="s"),
        "how long the nodes must have stayed the same before shards move for evenness",
    )
    rebalance_batch: int = setting(32, whole(1, 100_000), "shards that move at the same time")
    rebalance_pause: float = setting(0.5, number(0.001, unit="s"), "rest between two batches")


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementConfig(Group):
    """Moving actors to other nodes, draining a node."""

    _PREFIX = "movement."

    moves_at_once: int = setting(8, whole(1), "actors that leave a node at the same time")
    arrivals_at_once: int = setting(64, whole(1), "actors that arrive on a node at the same time")
    handler_timeout: float = setting(
        10.0, number(0.01, unit="s"), "an actor whose handler runs for longer stays where it is"
    )
    settle_timeout: float = setting(
        5.0, number(0.01, unit="s"), "an actor whose messages are not accepted by then stays where it is"
    )
    answer_timeout: float = setting(
        10.0, number(0.1, unit="s"), "the other node has this long for each step before the commit"
    )
    start_timeout: float = setting(15.0, number(0.1, unit="s"), "and this long for the start behind it")
    silence: float = setting(
        15.0,
        number(0.1, unit="s"),
        "after that much silence of the old owner the new one looks into the directory",
    )
    chunk_bytes: int = setting(
        256 * 1024, whole(1024, 8 << 20), "an actor's state and mailbox travel in parts of this size"
    )
    max_bytes: int = setting(256 << 20, whole(1024), "an actor with more state and mailbox does not move")
    drain_on_stop: bool = setting(False, flag, "SIGTERM: move the actors to other nodes first, then stop")
    drain_timeout: float = setting(
        60.0, number(0.1, unit="s"), "a drain ends by then, with what it has moved"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservabilityConfig(Group):
    """What a node measures of itself. Counters are always kept."""

    _PREFIX = "observability."

    sample_budget: int = setting(
        256, whole(0, 1 << 20), "messages measured in a tenth of a second, about; 0: none"
    )
    flight_recorder: int = setting(
        4096, whole(0, 1 << 20), "notes kept of measured messages, and again of lost ones; 0: none"
    )
    explain_timeouts: bool = setting(True, flag, "an ask that times out asks where its target stands")
    trace: str | None = setting(
        None,
        optional(text),
        "where a node process sends spans: otlp (OTEL_… variables say more), file:PATH, console, an exporter's name",
    )
    trace_rate: float = setting(
        10.0,
        number(0, 1e6, "traces a second"),
        "with observability.trace: traces that a node begins, at most about; 0: it only joins in those of others",
    )


#: By the name that stands before the dot of a setting.
GROUPS: Mapping[str, type[Group]] = MappingProxyType(
    {
        "messaging": MessagingConfig,
        "metadata": MetadataConfig,
        "membership": MembershipConfig,
        "placement": PlacementConfig,
        "actors": ActorsConfig,
        "security": SecurityConfig,
        "observability": ObservabilityConfig,
        "http": HttpConfig,
        "sharding": ShardingConfig,
        "movement": MovementConfig,
    }
)
