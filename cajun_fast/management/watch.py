"""Follows the whole cluster for whoever looks: one round of questions a second, shared by all who watch.

Laws: while nobody watches, nothing is asked. Each watcher has a bounded queue; one that does not keep up loses
the oldest and is told how many. A round that the store or a node does not answer is no reason to stop: what
failed is in the result.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from cajun_fast.cluster.manager import NodeInfo
from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.errors import CajunError, NotRunningError
from cajun_fast.management.overview import Pair, Round, overview

log = logging.getLogger("cajun_fast.management")

#: A name and its data: ``overview`` or ``happened``.
News = tuple[str, Mapping[str, Any]]
#: News that wait for a watcher.
WAITING = 256
#: Events that a new watcher is told of.
REMEMBERED = 100
#: Rounds further apart than this (seconds) say nothing of now together.
STALE = 15.0
#: Every node tells of these; once is enough.
SEEN_BY_ALL = ("node-joined", "node-left")


class Watcher:
    """One who looks; ``async for name, data in watcher``. Ended by ``close``, or by the end of the watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._news: deque[News] = deque()
        self._ready = asyncio.Event()
        self._missed = 0
        self._closed = False

    def put(self, news: News) -> None:
        """One more; the oldest goes where there is no room."""
        if len(self._news) >= WAITING:
            self._news.popleft()
            self._missed += 1
        self._news.append(news)
        self._ready.set()

    def end(self) -> None:
        self._closed = True
        self._ready.set()

    async def next(self) -> News | None:
        """What came next; None at the end."""
        while not self._news and not self._closed:
            self._ready.clear()
            await self._ready.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return "missed", {"count": missed}
        return self._news.popleft() if self._news else None

    async def __aiter__(self) -> AsyncIterator[News]:
        while (news := await self.next()) is not None:
            yield news

    def close(self) -> None:
        """Look no more."""
        self._watch.leave(self)
        self.end()


class Watch:
    """See the module's laws."""

    def __init__(self, system: ClusterActorSystem, *, interval: float = 1.0, hottest: int = 10) -> None:
        self._system = system
        self._interval = interval
        self._hottest = hottest
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._pair = Pair(Round(), Round())
        self._seen: dict[str, Any] | None = None
        self._told: dict[str, tuple[int, int]] = {}  # node -> incarnation, last event
        self._past: deque[tuple[int, dict[str, Any]]] = deque(maxlen=REMEMBERED)
        self._closed = False

    @property
    def watchers(self) -> int:
        """How many look."""
        return len(self._watchers)

    def watch(self) -> Watcher:
        """One more who looks. Raises NotRunningError after ``close``."""
        if self._closed:
            raise NotRunningError("this node stops: watch another one")
        watcher = Watcher(self)
        for at_ns, event in self._past:
            watcher.put(("happened", {**event, "age": (self._system.clock.now_ns() - at_ns) / 1e9}))
        self._watchers.add(watcher)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="watch the cluster")
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    async def close(self) -> None:
        """End everybody's watching."""
        self._closed = True
        for watcher in tuple(self._watchers):
            watcher.end()
        self._watchers.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> dict[str, Any]:
        """The cluster now, with the rates since the look before. Raises MetadataStoreUnavailableError."""
        async with self._asking:
            age = (self._system.clock.now_ns() - self._pair.now.at_ns) / 1e9
            if self._seen is None or age > self._interval / 2:
                await self._round()
            return self._seen or {}

    async def _run(self) -> None:
        while self._watchers:
            try:
                async with self._asking:
                    seen, events = await self._round()
            except CajunError as error:
                seen, events = {"error": str(error)}, []
            for event in events:
                self._tell(("happened", event))
            self._tell(("overview", seen))
            await asyncio.sleep(self._interval)

    def _tell(self, news: News) -> None:
        for watcher in self._watchers:
            watcher.put(news)

    async def _round(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        infos = await self._system.manager.get_cluster_nodes()
        answers = await asyncio.gather(*(self._ask(info) for info in infos))
        now = Round(self._system.clock.now_ns(), dict(answers))
        stale = now.at_ns - self._pair.now.at_ns > STALE * 1e9
        self._pair = Pair(Round() if stale else self._pair.now, now)
        self._seen = overview(infos, self._pair)
        events = self._happened(infos, now)
        self._past.extend((now.at_ns - round(event["age"] * 1e9), event) for event in events)
        return self._seen, events

    async def _ask(self, info: NodeInfo) -> tuple[str, Any]:
        life, after = self._told.get(info.node, (0, 0))
        try:
            answer = await self._system.manager.inspect(
                info.node, "report", timeout=2.0, hottest=self._hottest, life=life, after=after
            )
        except CajunError as error:
            return info.node, error
        return info.node, answer

    def _happened(self, infos: Sequence[NodeInfo], now: Round) -> list[dict[str, Any]]:
        """What was not told before, the oldest first."""
        news = []
        known: dict[str, tuple[int, int]] = {}
        for info in infos:
            report = now.report(info.node)
            if report is None:
                known[info.node] = self._told.get(info.node, (0, 0))
                continue
            known[info.node] = report["incarnation"], report["last_event"]
            news += [
                {"told_by": info.node, **event}
                for event in report["events"]
                if event["kind"] not in SEEN_BY_ALL or info.node == self._system.node_id
            ]
        self._told = known
        return sorted(news, key=lambda event: -event["age"])
