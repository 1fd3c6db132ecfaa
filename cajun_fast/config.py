"""All settings of a cluster member: frozen, grouped by room, checked when made.

Laws: nothing is read here but arguments (files and the environment: ``config_load``); each field carries its
rule and its advice; a ClusterConfig that exists is valid; a builder shares nothing with what it built.
"""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from cajun_fast.config_groups import (
    GROUPS,
    ActorsConfig,
    Group,
    HttpConfig,
    MembershipConfig,
    MessagingConfig,
    MetadataConfig,
    MovementConfig,
    ObservabilityConfig,
    PlacementConfig,
    SecurityConfig,
    ShardingConfig,
)
from cajun_fast.config_rules import (
    NodeAddress,
    Rule,
    endpoints,
    flag,
    guarantee,
    identifier,
    is_loopback,
    known_nodes,
    many,
    optional,
    setting,
    text,
    wrong,
)
from cajun_fast.errors import ConfigError
from cajun_fast.guarantees import DeliveryGuarantee

EXACTLY_ONCE = DeliveryGuarantee.EXACTLY_ONCE
__all__ = [
    "ActorsConfig",
    "ClusterConfig",
    "HttpConfig",
    "MembershipConfig",
    "MessagingConfig",
    "MetadataConfig",
    "MovementConfig",
    "NodeAddress",
    "ObservabilityConfig",
    "PlacementConfig",
    "SecurityConfig",
    "ShardingConfig",
    "did_you_mean",
    "rule_of",
    "settings",
]

WILDCARDS = ("", "0.0.0.0", "::", "*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig(Group):
    """All settings of one member of a cluster. Made by ``ClusterConfig.Builder``, ``ClusterConfig.load`` or
    directly.

    Raises ConfigError naming the setting, its value and the remedy. ``dataclasses.replace`` gives a changed
    copy.
    """

    system_id: str = setting("", identifier, "this node's name, one living node each")
    endpoints: tuple[str, ...] = setting((), endpoints, "URL of the metadata store; etcd: of several servers")
    cluster_name: str = setting(
        "cajun", identifier, "nodes of another name are strangers, also on the same store"
    )
    client: bool = setting(False, flag, "a member that sends and asks but hosts no actors of the cluster")
    delivery_guarantee: DeliveryGuarantee = setting(  # noqa: RUF009 - a field, as all of them
        EXACTLY_ONCE, guarantee, "of messages that name none of their own"
    )
    known_nodes: Mapping[str, NodeAddress] = field(
        default_factory=dict, metadata={"rule": known_nodes, "advice": "addresses known beforehand"}
    )
    roles: tuple[str, ...] = setting((), many(identifier), "what this node offers, e.g. gpu, zone-a")
    imports: tuple[str, ...] = setting(
        (), many(text), "modules that register actor types, imported at the start"
    )
    persistence: str | None = setting(None, optional(text), "URL of where durable actors keep their state")
    messaging: MessagingConfig = field(default_factory=MessagingConfig)
    metadata: MetadataConfig = field(default_factory=MetadataConfig)
    membership: MembershipConfig = field(default_factory=MembershipConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    actors: ActorsConfig = field(default_factory=ActorsConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    observability: ObservabilityConfig = field(default_factory=ObservabilityConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    sharding: ShardingConfig = field(default_factory=ShardingConfig)
    movement: MovementConfig = field(default_factory=MovementConfig)

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Check everything, the settings against each other too. Called when made; raises ConfigError."""
        Group.__post_init__(self)
        if self.messaging.host in WILDCARDS and self.messaging.advertised_host is None:
            raise wrong(
                "messaging.host",
                self.messaging.host,
                "it means every interface, so other nodes must be told which to dial: set advertised_host",
            )
        if self.messaging.advertised_host in WILDCARDS:
            raise wrong(
                "messaging.advertised_host",
                self.messaging.advertised_host,
                "name a host that others can dial",
            )

        self._check_exposure()

    def _check_exposure(self) -> None:
        security = self.security
        if is_loopback(self.messaging.host) or security.insecure_network:
            return
        missing = [
            name
            for name, has in (
                ("TLS (with_tls: security.tls_cert, tls_key, tls_ca)", security.has_tls),
                ("authentication (with_authentication: security.key_file)", security.has_keys),
            )
            if not has
        ]
        if missing:
            raise wrong(
                "messaging.host",
                self.messaging.host,
                f"other machines can connect there, and there is no {' and no '.join(missing)}; "
                "where the network alone is to be trusted, say with_insecure_network() (security.insecure_network)",
            )

    @property
    def store_url(self) -> str:
        """The endpoints as one URL: further servers behind the first, after commas."""
        first, *more = self.endpoints
        return ",".join([first.rstrip("/") if more else first, *(each.split("://")[-1] for each in more)])

    def __repr__(self) -> str:
        # The URL of a store may hold a password: it is not shown.
        return f"ClusterConfig({self.system_id!r}, cluster_name={self.cluster_name!r}, client={self.client})"

    @classmethod
    def load(
        cls,
        file: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> ClusterConfig:
        """From a TOML file, then ``CAJUN_*`` variables, then keyword arguments; later ones win.

        ``messaging_port=0`` is ``port`` in ``[messaging]`` and ``CAJUN_MESSAGING_PORT``. ``environ`` defaults
        to the process's. Raises ConfigError, for an unknown name too.
        """
        from cajun_fast.config_load import load

        return load(cls, file, os.environ if environ is None else environ, overrides)

    class Builder:
        """Settings one by one, each checked where it is given; ``build`` makes the configuration."""

        def __init__(self, system_id: str, *endpoints: str) -> None:
            """``endpoints``: URL of the metadata store; several for etcd."""
            self._values: dict[str, Any] = {}
            self._set("system_id", system_id)
            self._set("endpoints", endpoints)
            self._nodes: dict[str, NodeAddress] = {}

        def _set(self, name: str, value: Any) -> Self:
            self._values[name] = rule_of(name)(name, value)
            return self

        def with_messaging_port(self, port: int) -> Self:
            """Port to listen on; 0 takes any free one."""
            return self._set("messaging.port", port)

        def with_bind_address(self, host: str, port: int | None = None) -> Self:
            """Where to listen; other nodes dial the advertised address."""
            self._set("messaging.host", host)
            return self if port is None else self._set("messaging.port", port)

        def with_advertised_address(self, host: str, port: int | None = None) -> Self:
            """What other nodes dial, where it differs from the bind address (containers, NAT)."""
            self._set("messaging.advertised_host", host)
            return self._set("messaging.advertised_port", port)

        def with_delivery_guarantee(self, guarantee: DeliveryGuarantee | str) -> Self:
            """Of messages that name none of their own."""
            return self._set("delivery_guarantee", guarantee)

        def add_node(self, node_id: str, host: str, port: int) -> Self:
            """An address known beforehand; the metadata store still says who lives."""
            known = known_nodes("known_nodes", {node_id: (host, port)})
            if node_id in self._nodes:
                raise wrong("known_nodes", node_id, f"it stands there already, at {self._nodes[node_id]}")
            self._nodes.update(known)
            return self

        def as_client(self) -> Self:
            """A member that sends and asks but hosts no actors of the cluster."""
            return self._set("client", True)

        def with_cluster_name(self, name: str) -> Self:
            """Nodes of another name are strangers, also on the same store."""
            return self._set("cluster_name", name)

        def with_roles(self, *roles: str) -> Self:
            """What this node offers, for placement."""
            return self._set("roles", roles)

        def with_imports(self, *modules: str) -> Self:
            """Modules that register actor types."""
            return self._set("imports", modules)

        def with_persistence(self, url: str) -> Self:
            """Where durable actors keep their state."""
            return self._set("persistence", url)

        def with_lease_ttl(self, seconds: float) -> Self:
            """A node that cannot renew its lease for so long is lost."""
            return self._set("membership.lease_ttl", seconds)

        def with_registration_batch_size(self, size: int) -> Self:
            """Claims that leave in one transaction."""
            return self._set("metadata.registration_batch_size", size)

        def with_location_cache_expiry_ms(self, milliseconds: float) -> Self:
            """How long a cached location serves before it is looked up again."""
            return self._set("placement.location_cache_expiry_ms", milliseconds)

        def with_rehost_timeout(self, seconds: float) -> Self:
            """How long senders wait for the actors of a lost node to start elsewhere."""
            return self._set("placement.rehost_timeout", seconds)

        def with_circuit_breaker(self, failure_threshold: int = 5, reset_timeout_ms: float = 30_000) -> Self:
            """Failures in a row that open a node's breaker, and its rest before the probe."""
            self._set("messaging.failure_threshold", failure_threshold)
            return self._set("messaging.reset_timeout_ms", reset_timeout_ms)

        def with_mailbox(self, capacity: int = 10_000, policy: str = "block") -> Self:
            """Size of a mailbox, and what a full one does: block, drop_new, drop_oldest, fail."""
            self._set("actors.mailbox_capacity", capacity)
            return self._set("actors.mailbox_policy", policy)

        def with_tls(
            self,
            *,
            cert: str | os.PathLike[str] | None = None,
            key: str | os.PathLike[str] | None = None,
            ca: str | os.PathLike[str] | None = None,
            context: ssl.SSLContext | None = None,
            client_context: ssl.SSLContext | None = None,
        ) -> Self:
            """Encrypt links, and know each node by its certificate: from PEM files, which are read again when they
            change, or with two contexts, for nodes that dial this one and for those that it dials.
            """
            paths = {"tls_cert": cert, "tls_key": key, "tls_ca": ca}
            for name, path in paths.items():
                if path is not None:
                    self._set(f"security.{name}", os.fspath(path))
            self._set("security.tls_context", context)
            return self._set("security.tls_client_context", client_context)

        def with_authentication(
            self, *, key_file: str | os.PathLike[str] | None = None, key_env: str | None = None
        ) -> Self:
            """Have nodes prove to each other that they hold a key of that file, or of that variable."""
            if (key_file is None) == (key_env is None):
                raise ConfigError(
                    "with_authentication takes key_file= or key_env=: where the keys are, not the keys"
                )
            self._set("security.key_file", None if key_file is None else os.fspath(key_file))
            return self._set("security.key_env", key_env)

        def with_access(
            self,
            peers: Iterable[str] | str,
            *,
            send: Iterable[str] | str = (),
            spawn: Iterable[str] | str = (),
            manage: bool = False,
        ) -> Self:
            """A rule: nodes with such ids may send to such actors, have such types started, manage this node. Once
            there is a rule, what none allows is refused.
            """
            rule = {"peers": peers, "send": send, "spawn": spawn}
            listed = {name: [each] if isinstance(each, str) else list(each) for name, each in rule.items()}
            rules = (*self._values.get("security.allow", ()), {**listed, "manage": manage})
            return self._set("security.allow", rules)

        def with_insecure_network(self) -> Self:
            """Listen beyond this machine without TLS and authentication: whoever can connect is let in."""
            return self._set("security.insecure_network", True)

        def with_sharding(self, shard_count: int = 256, passivate_after: float | None = None) -> Self:
            """Number of shards, the same on every node and for good; seconds without a message that end a sharded
            actor."""
            self._set("sharding.shard_count", shard_count)
            return self if passivate_after is None else self._set("sharding.passivate_after", passivate_after)

        def with_setting(self, name: str, value: Any) -> Self:
            """Any setting by its dotted name, as in ``docs/configuration.md``."""
            return self._set(name, value)

        def build(self) -> ClusterConfig:
            """The configuration; later calls on this builder do not reach it. Raises ConfigError."""
            return build(ClusterConfig, {**self._values, "known_nodes": dict(self._nodes)})


def settings() -> dict[str, dataclasses.Field[Any]]:
    """All settings by their dotted names."""
    top = {each.name: each for each in dataclasses.fields(ClusterConfig) if each.name not in GROUPS}
    for group, kind in GROUPS.items():
        top |= {f"{group}.{each.name}": each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return top


def rule_of(name: str) -> Rule:
    """The rule of a setting; ConfigError with the nearest name for one that does not exist."""
    known = settings()
    if name not in known:
        raise ConfigError(f"there is no setting {name!r}{did_you_mean(name, known)}")
    rule: Rule = known[name].metadata["rule"]
    return rule


def did_you_mean(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f": did you mean {near[0]!r}?" if near else ": docs/configuration.md lists them all"


def build(kind: type[ClusterConfig], values: Mapping[str, Any]) -> ClusterConfig:
    """A configuration from values by dotted name."""
    top: dict[str, Any] = {name: value for name, value in values.items() if "." not in name}
    for group, group_kind in GROUPS.items():
        chosen = {
            name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{group}.")
        }
        if chosen:
            top[group] = group_kind(**chosen)
    return kind(**top)
