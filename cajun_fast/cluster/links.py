"""Between the cluster's records and the messaging system: addresses, settings, and a look at who listens.

Laws: the only place in this room that knows how a messaging system is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.config import ClusterConfig, NodeAddress
from cajun_fast.messaging.security import Security
from cajun_fast.messaging.serializer import make_codec
from cajun_fast.messaging.settings import LinkSettings
from cajun_fast.messaging.system import MessagingSystem
from cajun_fast.ports import Address, Network, Ports

#: Seconds in which a living node on a working network accepts a connection.
PROBE_TIMEOUT = 0.5


def link_settings(config: ClusterConfig) -> LinkSettings:
    messaging, security = config.messaging, config.security
    return LinkSettings(
        max_message_bytes=messaging.max_message_bytes,
        handshake_timeout=security.handshake_timeout,
        max_connections=security.max_connections,
        max_handshakes=security.max_handshakes,
        max_handshakes_per_address=security.max_handshakes_per_address,
        max_strangers=security.max_strangers,
        max_bulk_bytes=max(LinkSettings().max_bulk_bytes, messaging.max_message_bytes),
        failure_threshold=messaging.failure_threshold,
        reset_timeout=messaging.reset_timeout_ms / 1e3,
    )


def make_messaging(
    config: ClusterConfig,
    owner: Owner,
    actors: ActorSystem,
    ports: Ports,
    security: Security,
    new_home: Callable[[str], str | None] = lambda actor_id: None,
) -> MessagingSystem:
    """The messaging system of one life of a node."""
    return MessagingSystem(
        owner.node,
        owner.incarnation,
        config.cluster_name,
        actors.exchange,
        actors.dispatcher,
        ports,
        link_settings(config),
        client=config.client,
        serializer=make_codec(actors.exchange, max_depth=config.security.max_nesting),
        security=security,
        new_home=new_home,
    )


def address_of(record: NodeRecord) -> Address:
    return Address(record.address.host, record.address.port, record.path)


def addresses_of(
    record: NodeRecord, config: ClusterConfig, found: Mapping[str, NodeAddress] = MappingProxyType({})
) -> list[Address]:
    """Where a node says it is, and where this node's configuration and its discovery say it is."""
    others = (config.known_nodes.get(record.node), found.get(record.node))
    return [
        address_of(record),
        *(Address(each.host, each.port) for each in others if each is not None and each != record.address),
    ]


async def probe(network: Network, record: NodeRecord) -> bool:
    """Whether somebody accepts connections where the record says."""
    try:
        transport = await network.dial(address_of(record), asyncio.Protocol, timeout=PROBE_TIMEOUT)
    except OSError:
        return False
    transport[0].close()
    return True
