"""Between the cluster's records and the messaging system: addresses, settings, and a look at who listens.

Laws: the only place in this room that knows how a messaging system is made.
"""

from __future__ import annotations

import asyncio

from cajun_fast.actors.system import ActorSystem
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.config import ClusterConfig
from cajun_fast.messaging.settings import LinkSettings
from cajun_fast.messaging.system import MessagingSystem
from cajun_fast.ports import Address, Network, Ports

#: Seconds in which a living node on a working network accepts a connection.
PROBE_TIMEOUT = 0.5


def link_settings(config: ClusterConfig) -> LinkSettings:
    messaging = config.messaging
    return LinkSettings(
        max_message_bytes=messaging.max_message_bytes,
        max_bulk_bytes=max(LinkSettings().max_bulk_bytes, messaging.max_message_bytes),
        failure_threshold=messaging.failure_threshold,
        reset_timeout=messaging.reset_timeout_ms / 1e3,
    )


def make_messaging(config: ClusterConfig, owner: Owner, actors: ActorSystem, ports: Ports) -> MessagingSystem:
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
    )


def address_of(record: NodeRecord) -> Address:
    return Address(record.address.host, record.address.port, record.path)


def addresses_of(record: NodeRecord, config: ClusterConfig) -> list[Address]:
    """Where a node says it is, and where this node's configuration says it is."""
    known = config.known_nodes.get(record.node)
    addresses = [address_of(record)]
    if known is not None and known != record.address:
        addresses.append(Address(known.host, known.port))
    return addresses


async def probe(network: Network, record: NodeRecord) -> bool:
    """Whether somebody accepts connections where the record says."""
    try:
        transport = await network.dial(address_of(record), asyncio.Protocol, timeout=PROBE_TIMEOUT)
    except OSError:
        return False
    transport[0].close()
    return True
