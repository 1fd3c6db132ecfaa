"""Groups across nodes: which nodes have subscribers of a topic stands in the store, under each node's lease.

    publisher ──▶ cajun:groups@<node>, once for each node that has subscribers ──▶ its subscribers

Laws: what one publisher publishes stays in order, for all of it takes the one lane to each node. Nothing is read or
watched before this node first publishes or subscribes; what is published until the first listing is there waits,
bounded, in order. Of two intentions for a topic the later one stands in the store in the end, outages or not; a node
that took its seat anew writes what it has again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from cajun_fast._core.lane import Exchange, Pid
from cajun_fast.actors.groups import Groups
from cajun_fast.cluster.follow import follow
from cajun_fast.cluster.membership import Membership
from cajun_fast.cluster.tasks import Backoff, Tasks
from cajun_fast.errors import (
    BackpressureError,
    CajunError,
    MetadataStoreError,
    NotRunningError,
    ProtocolError,
)
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import Entry, MetadataStore

log = logging.getLogger("cajun_fast.cluster")

PRESENT = b"1"


def groups_id(node_id: str) -> str:
    """Id of a node's door for what is published."""
    return f"cajun:groups@{node_id}"


class ClusterGroups:
    """The RemoteGroups port of ``actors.groups``; see the module's laws."""

    def __init__(
        self,
        exchange: Exchange,
        store: MetadataStore,
        keys: KeySpace,
        membership: Membership,
        node_id: str,
        groups: Callable[[], Groups],
        backoff: Callable[[], Backoff],
    ) -> None:
        """``groups``: the subscribers of this node."""
        self._exchange = exchange
        self._store = store
        self._keys = keys
        self._membership = membership
        self._node_id = node_id
        self._groups = groups
        self._backoff = backoff
        self._nodes: dict[str, list[str]] = {}
        self._written: dict[str, int] = {}
        self._joining: dict[str, asyncio.Future[None]] = {}
        self._dirty: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._early: deque[tuple[str, bytes, int, Pid | None, bytes | None]] = deque()
        self._listed: asyncio.Event | None = None
        self._tasks = Tasks("groups")

    async def stop(self) -> None:
        await self._tasks.stop()
        for joining in self._joining.values():
            if not joining.done():
                joining.set_exception(
                    NotRunningError("this node stopped before a subscription was known to all")
                )
                joining.exception()

    def nodes(self, topic: str) -> list[str]:
        """Other nodes that have subscribers, as far as is known."""
        return list(self._nodes.get(topic, ()))

    # ---- which nodes: what the store says

    def _begin(self) -> asyncio.Event:
        """Follow the groups, from the first use on."""
        if self._listed is None:
            self._listed = asyncio.Event()
            self._tasks.start(follow(self._store, self._keys.groups, self, self._backoff()), "watch")
            self._tasks.start(self._write(), "write")
        return self._listed

    def on_put(self, entry: Entry) -> None:
        topic, node = self._keys.group_of(entry.key)
        nodes = self._nodes.setdefault(topic, [])
        if node != self._node_id and node not in nodes:
            nodes.append(node)

    def on_delete(self, key: str, revision: int) -> None:
        topic, node = self._keys.group_of(key)
        nodes = self._nodes.get(topic, [])
        if node in nodes:
            nodes.remove(node)
        if not nodes:
            self._nodes.pop(topic, None)

    def on_synced(self) -> None:
        early, self._early = self._early, deque()
        assert self._listed is not None
        self._listed.set()
        for topic, payload, guarantee, sender, trace in early:
            try:
                self._publish(topic, payload, guarantee, sender, trace)
            except CajunError as error:
                self._exchange.dead_letters.record(topic, payload, type(error).__name__, sender)

    def on_lost(self, error: MetadataStoreError) -> None:
        log.warning("groups that change are not seen for now: %s", error)

    # ---- this node's part

    def joined(self, topic: str) -> asyncio.Future[None]:
        self._begin()
        joining = self._joining.get(topic)
        if joining is None:
            joining = self._joining[topic] = self._exchange.loop.create_future()
            if self._written.get(topic) == self._membership.lease_id:
                joining.set_result(None)
        self._touch(topic)
        return joining

    def left(self, topic: str) -> None:
        joining = self._joining.pop(topic, None)
        if joining is not None and not joining.done():
            joining.cancel()
        self._touch(topic)

    def renew(self) -> None:
        """This node has another lease: what it wrote under the old one is gone."""
        for topic in list(self._written):
            self._touch(topic)

    def _touch(self, topic: str) -> None:
        self._dirty[topic] = None
        self._wake.set()

    async def _write(self) -> None:
        """Make the store say what is so, topic by topic, until nothing is left to be said."""
        backoff = self._backoff()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                topic = next(iter(self._dirty))
                del self._dirty[topic]
                try:
                    await self._settle(topic)
                    backoff.reset()
                except NotRunningError:  # the actors are gone: what was written goes with this node's lease
                    return
                except MetadataStoreError as error:
                    log.info("group %r is not up to date in the store yet: %s", topic, error)
                    self._dirty.setdefault(topic)
                    await backoff.wait()

    async def _settle(self, topic: str) -> None:
        key, lease = self._keys.group(topic, self._node_id), self._membership.lease_id
        if self._groups().count(topic) == 0:
            await self._store.delete(key)
            self._written.pop(topic, None)
            return
        if self._written.get(topic) != lease:
            await self._store.put(key, PRESENT, lease=lease)
            self._written[topic] = lease
        joining = self._joining.get(topic)
        if joining is not None and not joining.done():
            joining.set_result(None)

    # ---- publishing

    def publish(
        self, topic: str, message: Any, guarantee: int, sender: Pid | None, trace: bytes | None
    ) -> None:
        listed = self._begin()
        nodes = self._nodes.get(topic)
        if listed.is_set() and not nodes:
            return
        payload = self._exchange.encode(message)
        if listed.is_set():
            self._publish(topic, payload, guarantee, sender, trace)
        elif len(self._early) >= self._exchange.waiting_limit:
            raise BackpressureError(
                f"{len(self._early)} messages wait until it is known who has subscribed: nothing was sent"
            )
        else:
            self._early.append((topic, payload, guarantee, sender, trace))

    def _publish(
        self, topic: str, payload: bytes, guarantee: int, sender: Pid | None, trace: bytes | None
    ) -> None:
        exchange = self._exchange
        for node in self._nodes.get(topic, ()):
            exchange.pass_on(exchange.pid(groups_id(node)), [topic, payload], guarantee, sender, None, trace)

    async def send(self, topic: str, message: Any, timeout: float, trace: bytes | None) -> int:
        await self._begin().wait()
        nodes = self.nodes(topic)
        if not nodes:
            return 0
        exchange, payload = self._exchange, self._exchange.encode(message)
        asks = [
            exchange.ask_on(exchange.pid(groups_id(node)), [topic, payload], timeout, trace) for node in nodes
        ]
        results: list[Any] = await asyncio.gather(*asks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return int(sum(results))

    # ---- the system actor: what others publish

    def receive(self, message: Any, context: Any) -> None:
        """One message for the subscribers of this node; an ask is answered when all of them have it."""
        match message:
            case [str(topic), bytes(payload)]:
                pass
            case _:
                raise ProtocolError(f"not something published: {message!r:.200}")
        plain = self._exchange.decode(payload)
        exchange = self._exchange
        stands = self._groups().deliver(
            topic, plain, exchange.guarantee, context.sender, exchange.current_trace()
        )
        answer = context.reply_later()
        if not answer.waiting:
            return
        if not stands:
            answer.send(0)
            return
        gathered = asyncio.gather(*stands, return_exceptions=True)
        gathered.add_done_callback(lambda done: _answer(answer, done))


def _answer(answer: Any, done: asyncio.Future[list[Any]]) -> None:
    if done.cancelled():
        return
    results = done.result()
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        answer.fail(errors[0])
    else:
        answer.send(len(results))
