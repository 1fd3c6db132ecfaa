"""Publish and subscribe: what is published to a topic goes to every actor that has subscribed to it.

Laws: what one publisher publishes reaches each subscriber in that order. Subscriptions end with their actor. A
subscriber that is slow holds up nobody: what finds no room waits for it in its lane, up to the lane's limit; past that
it is a dead letter of that subscriber, or the error of whoever awaits. Other nodes are the business of ``remote``.
Costs nothing where nobody subscribes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from cajun_fast._core.lane import Exchange, running
from cajun_fast.actors.deaths import seen
from cajun_fast.errors import BackpressureError, CajunError, ConfigError, NotRunningError
from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.pid import Pid

LONGEST = 255


class RemoteGroups(Protocol):
    """The groups of a cluster. ``joined`` and the others must not wait."""

    def joined(self, topic: str) -> asyncio.Future[None]:
        """The first subscriber of this node; done once every node can know of it."""
        ...

    def left(self, topic: str) -> None:
        """The last subscriber of this node is gone."""
        ...

    def publish(
        self, topic: str, message: Any, guarantee: int, sender: Pid | None, trace: bytes | None
    ) -> None:
        """To the other nodes. Raises what ``Pid.tell`` raises."""
        ...

    async def send(self, topic: str, message: Any, timeout: float, trace: bytes | None) -> int:
        """To the other nodes; how many subscribers have it."""
        ...


class Groups:
    """The subscribers of one node, by topic."""

    def __init__(self, exchange: Exchange, is_closing: Callable[[], bool]) -> None:
        self._exchange = exchange
        self._is_closing = is_closing
        self._members: dict[str, dict[str, Pid]] = {}
        self._topics: dict[str, set[str]] = {}
        self.remote: RemoteGroups | None = None

    # ---- for contexts

    def subscribe(self, member: Pid, topic: str) -> Awaitable[None]:
        """See ``Context.subscribe``. Raises ConfigError for a bad topic, NotRunningError while the node stops."""
        check_topic(topic)
        if self._is_closing():
            raise NotRunningError(
                f"node {self._exchange.node_id!r} is stopping: nobody can subscribe any more"
            )
        self._members.setdefault(topic, {})[member.id] = member
        self._topics.setdefault(member.id, set()).add(topic)
        if self.remote is not None:
            return self.remote.joined(topic)
        done: asyncio.Future[None] = self._exchange.loop.create_future()
        done.set_result(None)
        return done

    def unsubscribe(self, member: Pid, topic: str) -> None:
        """See ``Context.unsubscribe``."""
        topics = self._topics.get(member.id)
        if topics is None or topic not in topics:
            return
        topics.discard(topic)
        if not topics:
            del self._topics[member.id]
        self._drop(member.id, topic)

    def _drop(self, member: str, topic: str) -> None:
        members = self._members[topic]
        members.pop(member, None)
        if not members:
            del self._members[topic]
            if self.remote is not None:
                self.remote.left(topic)

    def actor_ended(self, actor_id: str, reason: str) -> None:
        """An actor of this node is gone."""
        for topic in self._topics.pop(actor_id, ()):
            self._drop(actor_id, topic)

    def topics_of(self, member: str) -> Iterable[str]:
        """What an actor of this node has subscribed to: what moves with it."""
        return tuple(self._topics.get(member, ()))

    @property
    def topics(self) -> Iterable[str]:
        """Topics that somebody here has subscribed to."""
        return tuple(self._members)

    def count(self, topic: str) -> int:
        """Subscribers on this node."""
        return len(self._members.get(topic, ()))

    # ---- what is published

    def deliver(
        self, topic: str, message: Any, guarantee: int, sender: Pid | None, trace: bytes | None
    ) -> list[asyncio.Future[None]]:
        """To the subscribers of this node; what is done, or failed, when it stands in the mailbox of each."""
        return [
            self._deliver(member, message, guarantee, sender, trace)
            for member in tuple(self._members.get(topic, {}).values())
        ]

    def _deliver(
        self, member: Pid, message: Any, guarantee: int, sender: Pid | None, trace: bytes | None
    ) -> asyncio.Future[None]:
        exchange = self._exchange
        stands: asyncio.Future[None] = exchange.loop.create_future()
        stands.add_done_callback(seen)
        try:
            if member.lane.waiting_count >= exchange.waiting_limit:
                raise BackpressureError(f"no room on the way to subscriber {member.id!r}")
            exchange.pass_on(member, message, guarantee, sender, stands, trace)
        except CajunError as error:
            exchange.dead_letters.record(member.id, message, "no-room", sender)
            if not stands.done():
                stands.set_exception(error)
        return stands


class Group:
    """A handle on a topic: ``system.group(topic)``."""

    __slots__ = ("_exchange", "_groups", "topic")

    def __init__(self, groups: Groups, exchange: Exchange, topic: str) -> None:
        self._groups = groups
        self._exchange = exchange
        self.topic = check_topic(topic)

    def __repr__(self) -> str:
        return f"Group({self.topic!r})"

    def publish(self, message: Any, *, guarantee: DeliveryGuarantee | None = None) -> None:
        """Tell every subscriber, on every node, and go on; the running actor is the sender.

        Raises BackpressureError (this node's own subscribers may have it already), SerializationError (nothing was
        sent), NotRunningError, WrongThreadError. Whatever fails later is a dead letter.
        """
        number = self._exchange.guarantee if guarantee is None else DeliveryGuarantee(guarantee)
        sender = running()
        with self._span("publish", sender) as trace:
            if self._groups.remote is not None:
                self._groups.remote.publish(self.topic, message, number, sender, trace)
            self._groups.deliver(self.topic, message, number, sender, trace)

    async def send(self, message: Any, *, timeout: float = 5.0) -> int:
        """Publish, and wait until it stands in the mailbox of every subscriber; returns how many those are.

        Raises the first of what went wrong (NodeUnavailableError, OutcomeUnknownError, MailboxFullError,
        BackpressureError, AskTimeoutError); the others may have it.
        """
        sender = running()
        with self._span("send", sender) as trace:
            return await self._send(message, timeout, sender, trace)

    async def _send(self, message: Any, timeout: float, sender: Pid | None, trace: bytes | None) -> int:
        here = self._groups.deliver(self.topic, message, self._exchange.guarantee, sender, trace)
        there = (
            self._groups.remote.send(self.topic, message, timeout, trace)
            if self._groups.remote is not None
            else none()
        )
        try:
            async with asyncio.timeout(timeout):
                results = await asyncio.gather(there, *here, return_exceptions=True)
        except TimeoutError:
            raise BackpressureError(
                f"a subscriber of {self.topic!r} on this node had no room within {timeout:g} s"
            ) from None
        for result in results:
            if isinstance(result, BaseException):
                raise result
        there_are = results[0]
        return len(here) + (there_are if isinstance(there_are, int) else 0)

    @contextmanager
    def _span(self, what: str, sender: Pid | None) -> Iterator[bytes | None]:
        """What travels with the messages that are sent meanwhile, where they are traced."""
        span = self._exchange.span(what, self.topic, sender)
        error: BaseException | None = None
        try:
            yield None if span is None else span.context
        except BaseException as exc:
            error = exc
            raise
        finally:
            if span is not None:
                span.end(error)


async def none() -> int:
    return 0


def check_topic(topic: object) -> str:
    """The topic, if it is one. Raises ConfigError."""
    if not isinstance(topic, str) or not topic or len(topic.encode("utf-8", "replace")) > LONGEST:
        raise ConfigError(f"topic {topic!r:.80} is no text of 1 to {LONGEST} bytes: choose another name")
    return topic
