"""Who is told of what: members that come and go, terms that begin and end, a store that is lost and found.

Laws: the parts do not know each other, the crossings are here; nothing is decided here. Everything is told within the
turn in which it was heard, in this order; none of what is called may raise or wait.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from cajun_fast.cluster.directory import Standing
from cajun_fast.cluster.leader import Term
from cajun_fast.cluster.links import addresses_of
from cajun_fast.cluster.records import NodeRecord
from cajun_fast.cluster.shards.ids import is_sharded

if TYPE_CHECKING:
    from cajun_fast.cluster.node import Node

log = logging.getLogger("cajun_fast.cluster")


class News:
    """See the module's laws."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # ---- nodes

    def node_joined(self, record: NodeRecord) -> None:
        node = self._node
        node.events.add("node-joined", f"node {record.node!r} joined at {record.address}", node=record.node)
        self.dial(record)
        node.failover.node_joined()
        node.detector.watch_all()
        node.sharding.allocator.look()

    def node_changed(self, before: NodeRecord, now: NodeRecord) -> None:
        self._node.sharding.on_change(before, now)
        if (before.address, before.path) != (now.address, now.path):
            log.info("node %r has a new address: %s", now.node, now.address)
            self.dial(now)

    def node_left(self, record: NodeRecord) -> None:
        node = self._node
        how = "left" if record.leaving else "is lost"
        node.events.add("node-left", f"node {record.node!r} {how}", node=record.node)
        node.locator.node_left(record.node)
        node.messaging.remove_node(record.node, record.incarnation, in_order=record.leaving)
        node.failover.node_left(record.owner)
        node.detector.watch_all()
        node.sharding.allocator.node_left(record.owner)
        node.deaths.node_left(record)
        node.mover.node_left(record.owner)

    def address_found(self, other: str) -> None:
        """Discovery names an address that is new: one more to dial, if the node lives."""
        record = self._node.members.get(other)
        if record is not None:
            self.dial(record)

    def dial(self, record: NodeRecord) -> None:
        """A link to that node, at all addresses that are known of it."""
        node = self._node
        addresses = addresses_of(record, node.config, node.finder.found)
        node.messaging.add_node(record.node, record.incarnation, addresses)

    # ---- actors

    def actor_moved(self, actor_id: str, standing: Standing | None, revision: int) -> None:
        node = self._node
        node.hosting.on_moved(actor_id, standing, revision)
        node.deaths.on_moved(actor_id, standing)
        node.mover.on_moved(actor_id, standing, revision)
        node.failover.on_record(standing)

    def actor_stopped(self, actor_id: str) -> None:
        if is_sharded(actor_id):
            self._node.sharding.region.actor_stopped(actor_id)
        else:
            self._node.hosting.actor_stopped(actor_id)

    # ---- leading

    def elected(self, term: Term) -> None:
        node, name = self._node, self._node.owner.node
        node.events.add("leader-elected", f"node {name!r} leads", node=name)
        node.failover.on_elected(term)
        node.detector.watch_all()
        node.sharding.on_elected(term)

    def deposed(self, why: str) -> None:
        node, name = self._node, self._node.owner.node
        node.events.add("leader-deposed", f"node {name!r} leads no longer: {why}", node=name)
        node.failover.on_deposed(why)
        node.detector.watch_all()
        node.sharding.allocator.on_deposed(why)

    # ---- the store

    def store_lost(self, error: str) -> None:
        self._node.events.add("store-lost", f"the metadata store does not answer: {error}")
        self._node.leadership.resign()

    def store_recovered(self) -> None:
        self._node.events.add("store-recovered", "the metadata store answers again")
        self._node.sync_soon()
