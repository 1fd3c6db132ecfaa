"""Who lives, as this node sees it: the view of all node records, followed without a gap.

Laws: joins and leaves come from the store alone; silence of the store evicts nobody. A node whose record
vanished without a word (it left, or was suspected and did not answer) is gone only if it is not heard from
either, for a while: a store that drops every lease at once must not take the cluster apart. A newer incarnation
ends the older one. This node is in the view but never reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cajun_fast.cluster.follow import follow
from cajun_fast.cluster.records import NodeRecord, Owner
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import MetadataStoreError, ProtocolError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Entry, MetadataStore

log = logging.getLogger("cajun_fast.cluster")


@dataclass(frozen=True, slots=True)
class MemberHooks:
    """Who is told; callbacks must not raise and must not wait."""

    on_join: Callable[[NodeRecord], None]
    #: Same incarnation, something else changed: address, roles, load.
    on_change: Callable[[NodeRecord, NodeRecord], None]
    on_leave: Callable[[NodeRecord], None]
    #: Heard from within the heartbeat limit: it lives, whatever the store says.
    heard: Callable[[NodeRecord], bool]
    #: Its process lives and it cannot renew its record itself, however long that takes.
    is_stuck: Callable[[NodeRecord], bool] = lambda record: False


class Members:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        keys: KeySpace,
        node_id: str,
        *,
        backoff: Backoff,
        grace: float,
        hooks: MemberHooks,
        listen: float = 0.0,
    ) -> None:
        """``grace``: seconds that a node without a record is kept while it is still heard from; ``listen``: for so
        long it is kept at any rate, to hear whether it lives.
        """
        self._store = store
        self._keys = keys
        self._node_id = node_id
        self._backoff = backoff
        self._grace = grace
        self._listen = listen
        self._hooks = hooks
        self._nodes: dict[str, NodeRecord] = {}
        self._unlisted: dict[str, asyncio.TimerHandle] = {}
        self._tasks = Tasks("members")
        self._synced = asyncio.Event()
        self.in_sync = False

    @property
    def nodes(self) -> Mapping[str, NodeRecord]:
        """Living nodes by id, this one too once its record has been seen."""
        return MappingProxyType(self._nodes)

    def get(self, node_id: str) -> NodeRecord | None:
        return self._nodes.get(node_id)

    async def knows(self, node_id: str, *, timeout: float = 2.0) -> bool:
        """Whether it lives; one that has just joined is waited for: its record stands, its event is on its way."""
        if node_id in self._nodes:
            return True
        if await self._store.get(self._keys.node(node_id)) is None:
            return False
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while node_id not in self._nodes and loop.time() < end:  # noqa: ASYNC110 - rare, short and bounded
            await asyncio.sleep(0.01)
        return node_id in self._nodes

    def lives(self, owner: Owner) -> bool:
        """Whether that life of the node goes on, as far as is known."""
        record = self._nodes.get(owner.node)
        return record is not None and record.incarnation == owner.incarnation

    def is_listed(self, owner: Owner) -> bool:
        """As ``lives``, and its record stands in the store too."""
        return self.lives(owner) and owner.node not in self._unlisted

    def stands(self, owner: Owner) -> bool:
        """As ``is_listed``, and nobody has marked it as suspected."""
        record = self._nodes.get(owner.node)
        return record is not None and self.is_listed(owner) and not record.suspected

    def hosts(self) -> list[NodeRecord]:
        """Nodes that may get new actors, in order of id."""
        nodes = (self._nodes[node] for node in sorted(self._nodes))
        return [record for record in nodes if record.hosts and record.node not in self._unlisted]

    async def start(self) -> None:
        """Returns when the view is complete for the first time."""
        self._tasks.start(follow(self._store, self._keys.nodes, self, self._backoff), "watch")
        await self._synced.wait()

    async def stop(self) -> None:
        for timer in self._unlisted.values():
            timer.cancel()
        self._unlisted.clear()
        await self._tasks.stop()

    # ---- what the follower reports

    def on_put(self, entry: Entry) -> None:
        node = self._keys.node_of(entry.key)
        try:
            record = NodeRecord.decode(node, entry.value)
        except ProtocolError as error:
            log.warning("%s: ignored", error)
            return
        self._listed(node)
        known = self._nodes.get(node)
        if known is not None and known.incarnation > record.incarnation:
            return
        self._nodes[node] = record
        if node == self._node_id:
            return
        if known is not None and known.incarnation == record.incarnation:
            if known != record:
                self._hooks.on_change(known, record)
            return
        if known is not None:
            self._hooks.on_leave(known)
        log.info("node %r joined: incarnation %d at %s", node, record.incarnation, record.address)
        self._hooks.on_join(record)

    def on_delete(self, key: str, revision: int) -> None:
        node = self._keys.node_of(key)
        record = self._nodes.get(node)
        if record is None or node == self._node_id:
            return
        now = asyncio.get_running_loop().time()
        if record.leaving or record.suspected or not (self._listen or self._hooks.heard(record)):
            self._gone(record)
        elif node not in self._unlisted:
            log.warning("node %r lost its record without a word: it stays while it is heard from", node)
            self._look_again(record, now + self._listen, now + self._grace)

    def evicted(self, record: NodeRecord) -> None:
        """This node has just removed its record: the event may be long in coming."""
        if self._nodes.get(record.node) is not None and self.lives(record.owner):
            self._gone(self._nodes[record.node])

    def on_synced(self) -> None:
        self.in_sync = True
        self._synced.set()

    def on_lost(self, error: MetadataStoreError) -> None:
        if self.in_sync:
            log.warning("nodes that come and go are not seen for now: %s", error)
        self.in_sync = False

    # ---- nodes without a record

    def _look_again(self, record: NodeRecord, listen_until: float, until: float) -> None:
        loop = asyncio.get_running_loop()

        def look() -> None:
            self._unlisted.pop(record.node, None)
            now = loop.time()
            if self._nodes.get(record.node) is not record:
                return
            if (
                now < listen_until
                or self._hooks.is_stuck(record)
                or (now < until and self._hooks.heard(record))
            ):
                self._look_again(record, listen_until, until)
            else:
                self._gone(record)

        self._unlisted[record.node] = loop.call_later(min(0.25, self._grace), look)

    def _listed(self, node: str) -> None:
        timer = self._unlisted.pop(node, None)
        if timer is not None:
            timer.cancel()

    def _gone(self, record: NodeRecord) -> None:
        self._listed(record.node)
        if self._nodes.get(record.node) is record:
            del self._nodes[record.node]
        log.info("node %r is gone: incarnation %d", record.node, record.incarnation)
        self._hooks.on_leave(record)
