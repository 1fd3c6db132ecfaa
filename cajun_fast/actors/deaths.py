"""Death watch: an actor is told once when another one ends.

Laws: a ``Terminated`` is the last word on a target: the watch ends with it. It waits for room in the watcher's
mailbox rather than being lost. Who ends takes its own watches along. Costs nothing for actors that nobody watches
and that watch nobody. What is not on this node is the business of ``remote``; without one it is nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from cajun_fast._core.lane import Exchange
from cajun_fast.errors import CajunError
from cajun_fast.guarantees import DeliveryGuarantee
from cajun_fast.pid import Pid

logger = logging.getLogger("cajun_fast.actors")

#: Why an actor ended.
STOPPED, FAILED, NODE_LOST, NOT_FOUND = "stopped", "failed", "node-lost", "not-found"
#: Why a copy ended of an actor that goes on: elsewhere, or with its next message. No watcher is told.
MOVED, PASSIVATED = "moved", "passivated"


@dataclass(frozen=True, slots=True)
class Terminated:
    """The message that a watcher gets. ``reason``: "stopped" (by anybody, in order), "failed" (its supervision gave it
    up, or it did not start), "node-lost" (it may run again elsewhere, without what it knew), "not-found" (there was no
    such actor).
    """

    actor_id: str
    reason: str


class RemoteDeaths(Protocol):
    """Watches over actors of other nodes. Must not raise or wait."""

    def begin(self, target: str, here: bool) -> None:
        """Somebody here watches it from now on; ``here``: it is on this node."""
        ...

    def end(self, target: str, moved: bool) -> None:
        """Nobody here watches it any more; ``moved``: the last who did goes on doing so on another node."""
        ...

    def holds(self, watcher: Pid, message: Terminated) -> bool:
        """Whether the watcher is on its way to another node: it is told here or there, by ``remote``."""
        ...

    def ended_here(self, target: str, reason: str) -> bool:
        """An actor of this node that is watched from here has ended here; False: it lives on elsewhere, or that has to
        be found out.
        """
        ...


class Deaths:
    """Who watches whom, for the watchers of one node."""

    def __init__(self, exchange: Exchange, here: Any) -> None:
        """``here``: holds the ids of the actors of this node that take messages, or are about to."""
        self._exchange = exchange
        self._here = here
        self._watchers: dict[str, dict[str, Pid]] = {}
        self._targets: dict[str, set[str]] = {}
        self.remote: RemoteDeaths | None = None

    # ---- for contexts

    def watch(self, watcher: Pid, target: str) -> None:
        """See ``Context.watch``."""
        watchers = self._watchers.setdefault(target, {})
        first = not watchers
        if watcher.id in watchers:
            return
        watchers[watcher.id] = watcher
        self._targets.setdefault(watcher.id, set()).add(target)
        here = target in self._here
        if self.remote is None:
            if not here:
                self.terminated(target, NOT_FOUND)
        elif first:
            self.remote.begin(target, here)

    def unwatch(self, watcher: Pid, target: str) -> None:
        """See ``Context.unwatch``."""
        self._drop(watcher.id, target)
        targets = self._targets.get(watcher.id)
        if targets is not None:
            targets.discard(target)
            if not targets:
                del self._targets[watcher.id]

    def _drop(self, watcher: str, target: str, *, moved: bool = False) -> None:
        watchers = self._watchers.get(target)
        if watchers is None or watchers.pop(watcher, None) is None or watchers:
            return
        del self._watchers[target]
        if self.remote is not None:
            self.remote.end(target, moved)

    # ---- what happens

    def actor_ended(self, actor_id: str, reason: str) -> None:
        """An actor of this node is gone."""
        for target in self._targets.pop(actor_id, ()):
            self._drop(actor_id, target, moved=reason == MOVED)
        if actor_id in self._watchers and (self.remote is None or self.remote.ended_here(actor_id, reason)):
            self.terminated(actor_id, reason)

    def is_watched(self, target: str) -> bool:
        """Whether anybody here watches it."""
        return target in self._watchers

    def targets_of(self, watcher: str) -> Iterable[str]:
        """Whom an actor of this node watches: what moves with it."""
        return tuple(self._targets.get(watcher, ()))

    def terminated(self, target: str, reason: str) -> None:
        """Tell everybody here who watches it."""
        for watcher in self._watchers.pop(target, {}).values():
            targets = self._targets.get(watcher.id)
            if targets is not None:
                targets.discard(target)
                if not targets:
                    del self._targets[watcher.id]
            message = Terminated(target, reason)
            if self.remote is None or not self.remote.holds(watcher, message):
                self.tell(watcher, message)

    def tell(self, watcher: Pid, message: Terminated) -> None:
        """The last word, once there is room for it."""
        room = self._exchange.loop.create_future()
        room.add_done_callback(seen)
        try:
            self._exchange.pass_on(watcher, message, DeliveryGuarantee.EXACTLY_ONCE, None, room)
        except CajunError as error:
            self._exchange.dead_letters.record(watcher.id, message, type(error).__name__, None)


def seen(future: Any) -> None:
    """Whoever was to wait for it may be gone: its error needs no reader."""
    if not future.cancelled():
        future.exception()
