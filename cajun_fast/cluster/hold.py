"""Going on as an owner while the metadata store is silent for everybody.

Laws: a node whose seat is not known to be its own may go on only while every other member that it knows has
promised, within the last half of a lease, to take nothing from anybody for a whole lease. A member promises only
if the store does not answer it either, and not to one that it has seen leave, or be suspected. So whoever could
take an actor over either has promised not to, or sees the store, and then nobody holds. A node that knows no
other member holds nothing: it stands still until the store is back. The first few are asked before all others: where
the store is slow for one node only they say so, and a hundred nodes need not be dialled to hear it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from cajun_fast.clock import Clock
from cajun_fast.cluster.records import Owner
from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import CajunError, MetadataStoreError
from cajun_fast.metadata.store import MetadataStore

log = logging.getLogger("cajun_fast.cluster")

#: Parts of the lease: the pause between two rounds, a peer's look at the store, the wait for its answer, the
#: hold.
PAUSE, LOOK, ANSWER, HOLD = 1 / 8, 1 / 8, 1 / 5, 1 / 2

#: Members that are asked first; with more than so many others, one of them is asked to ask the rest.
FIRST = 3
MANY = 8

#: Asks a node for its promise; raises CajunError if it does not answer.
AskPromise = Callable[[str, float], Awaitable[bool]]
#: Asks a node for the promises of all; answers who has given one. Raises CajunError if it does not answer.
AskForAll = Callable[[str, float], Awaitable[Sequence[str]]]


class Hold:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        clock: Clock,
        ttl: float,
        *,
        peers: Callable[[], Sequence[str]],
        ask: AskPromise,
        extend: Callable[[int], None],
        stands: Callable[[Owner], bool] = lambda owner: True,
        ask_for_all: AskForAll | None = None,
    ) -> None:
        """``peers``: all other members, first those to which there is a connection at any rate. ``extend``: this node
        may act until that moment of the clock. ``stands``: whether that life of a node has
        its seat, as far as is known here.
        """
        self._store = store
        self._clock = clock
        self._ttl = ttl
        self._peers = peers
        self._ask = ask
        self._extend = extend
        self._stands = stands
        self._ask_for_all = ask_for_all
        self._silent = 0  # collectors that did not answer, in a row
        self._looking: asyncio.Task[bool] | None = None
        self._promised_until_ns = 0
        self._rounds: asyncio.Task[None] | None = None
        self._tasks = Tasks("hold")

    @property
    def has_promised(self) -> bool:
        """Whether this node must take nothing from anybody now."""
        return self._clock.now_ns() < self._promised_until_ns

    async def promise(self, asker: Owner) -> bool:
        """Give the promise if the store does not answer here either."""
        return (await self.promise_each([asker]))[0]

    async def promise_each(self, askers: Sequence[Owner]) -> list[bool]:
        """The same to several: what is promised to each."""
        standing = [self._stands(asker) for asker in askers]
        if not any(standing) or not await self._sees_an_outage():
            return [False] * len(standing)
        self._promised_until_ns = self._clock.now_ns() + round(self._ttl * 1e9)
        return standing

    async def _sees_an_outage(self) -> bool:
        """Whether the store does not answer here: one look for all who want to know."""
        if self._rounds is not None and not self._rounds.done():  # this node asks for promises itself
            return True
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.start(self._look(), "look")
        return self._looking is not None and await asyncio.shield(self._looking)

    async def _look(self) -> bool:
        try:
            async with asyncio.timeout(self._ttl * LOOK):
                await self._store.ping(self._ttl * LOOK)
            return False
        except (MetadataStoreError, TimeoutError):
            return True

    def begin(self) -> None:
        """The store has not answered this node: collect promises, again and again, until ``end``."""
        if self._rounds is None:
            self._rounds = self._tasks.start(self._collect(), "promises")

    def end(self) -> None:
        """The store answers."""
        rounds, self._rounds = self._rounds, None
        if rounds is not None:
            rounds.cancel()

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _collect(self) -> None:
        while True:
            began = self._clock.now_ns()
            if await self._all_promise():
                self._extend(began + round(self._ttl * HOLD * 1e9))
            await asyncio.sleep(self._ttl * PAUSE)

    async def _all_promise(self) -> bool:
        peers = self._peers()
        if not peers:
            return False
        given = await self._collected(peers)
        left = [peer for peer in peers if peer not in given]
        for some in (left[:FIRST], left[FIRST:]):
            if not all(await asyncio.gather(*map(self._asked, some))):
                return False
        return True

    async def _collected(self, peers: Sequence[str]) -> set[str]:
        """Who has promised, as one of them says who has asked all: the same one for all, as long as it answers."""
        if self._ask_for_all is None or len(peers) <= MANY:
            return set()
        collector = sorted(peers)[self._silent % FIRST]
        try:
            given = set(await self._ask_for_all(collector, self._ttl * ANSWER))
        except CajunError as error:
            log.info("node %r collected no promises: %s", collector, error)
            self._silent += 1
            return set()
        self._silent = 0
        return given

    async def _asked(self, peer: str) -> bool:
        try:
            return await self._ask(peer, self._ttl * ANSWER)
        except CajunError as error:
            log.info("node %r gave no promise: %s", peer, error)
            return False
