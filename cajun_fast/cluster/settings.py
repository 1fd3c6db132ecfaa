"""From a ClusterConfig to what each room takes: the only place that knows both sides.

Laws: pure; nothing is read but the configuration.
"""

from __future__ import annotations

from typing import Any

from cajun_fast.actors.props import policy_of
from cajun_fast.actors.settings import ActorSettings
from cajun_fast.cluster.failover import FailoverSettings
from cajun_fast.cluster.router import Patience
from cajun_fast.config import ClusterConfig
from cajun_fast.discovery import Discovery, DnsDiscovery
from cajun_fast.metadata import MetadataStore, open_store
from cajun_fast.ports import Ports


def actor_settings(config: ClusterConfig) -> ActorSettings:
    actors = config.actors
    policy = policy_of(actors.mailbox_policy)
    assert policy is not None
    return ActorSettings(
        mailbox_capacity=actors.mailbox_capacity,
        mailbox_policy=policy,
        stop_timeout=actors.stop_timeout,
        waiting_limit=actors.waiting_limit,
        waiting_bytes=actors.waiting_bytes,
        waiting_bytes_total=actors.waiting_bytes_total,
        raise_when_full=actors.raise_when_full,
        max_asks=actors.max_asks_in_flight,
        sample_budget=config.observability.sample_budget,
        notes=config.observability.flight_recorder,
        guarantee=config.delivery_guarantee,
    )


def patience(config: ClusterConfig) -> Patience:
    placement = config.placement
    return Patience(
        start_timeout=placement.start_timeout,
        rehost_timeout=placement.rehost_timeout,
        expiry=placement.location_cache_expiry_ms / 1e3,
    )


def tombstone_life(config: ClusterConfig) -> float:
    """Seconds until no node of the cluster can still believe that an actor lives where it has left."""
    return max(10.0, 4 * config.placement.location_cache_expiry_ms / 1e3)


def failover_settings(config: ClusterConfig) -> FailoverSettings:
    return FailoverSettings(
        batch_size=config.placement.adoption_batch_size, grace=config.membership.lease_ttl
    )


def discoveries(config: ClusterConfig) -> list[Discovery]:
    """Where else addresses may be found. Raises ConfigError for a URL that nothing serves."""
    url = config.membership.discovery
    return [] if url is None else [DnsDiscovery.from_url(url)]


def leader_ttl(config: ClusterConfig) -> float:
    return config.membership.leader_ttl or config.membership.lease_ttl


def store_of(config: ClusterConfig, ports: Ports) -> MetadataStore:
    """The configured metadata store, not yet connected. Raises ConfigError for a URL that nothing serves."""
    metadata = config.metadata
    options: dict[str, Any] = {
        "clock": ports.clock,
        "random": ports.random,
        "timeout": metadata.timeout,
        "max_connections": metadata.max_connections,
        "max_retries": metadata.max_retries,
        "retry_delay_ms": metadata.retry_delay_ms,
    }
    return open_store(config.store_url, **options)
