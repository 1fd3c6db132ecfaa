"""Whether the metadata store answers, judged with hysteresis; and who wants to know.

Laws: a single failure changes nothing, a single success neither; a ping has a time-out of its own. Parts ask
the flag before they begin what needs the store, so that it fails at once with a clear error instead of after
a time-out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cajun_fast.cluster.tasks import Tasks
from cajun_fast.errors import MetadataStoreError, MetadataStoreUnavailableError
from cajun_fast.metadata.store import MetadataStore

log = logging.getLogger("cajun_fast.cluster")

#: So many pings in a row turn the flag.
FAILURES = 2
SUCCESSES = 2


class StoreHealth:
    """See the module's laws."""

    def __init__(
        self,
        store: MetadataStore,
        *,
        interval: float,
        timeout: float,
        on_lost: Callable[[str], None],
        on_recovered: Callable[[], None],
    ) -> None:
        """``on_lost`` and ``on_recovered`` must not raise and must not wait; they come in turns."""
        self._store = store
        self._interval = interval
        self._timeout = timeout
        self._on_lost = on_lost
        self._on_recovered = on_recovered
        self._tasks = Tasks("health")
        self._failures = 0
        self._successes = 0
        self.available = True
        self.last_error = ""

    def start(self) -> None:
        self._tasks.start(self._run(), "pings")

    async def stop(self) -> None:
        await self._tasks.stop()

    def require(self, what: str) -> None:
        """Raise MetadataStoreUnavailableError at once while the store is known not to answer."""
        if not self.available:
            raise MetadataStoreUnavailableError(
                f"{what} needs the metadata store {self._store.url}, which does not answer "
                f"({self.last_error}): "
                "messages to known actors go on; try again when it is back"
            )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                async with asyncio.timeout(self._timeout):
                    await self._store.ping(self._timeout)
            except (MetadataStoreError, TimeoutError) as error:
                self.note_failure(str(error) or f"no answer within {self._timeout:g} s")
            else:
                self.note_success()

    def note_failure(self, error: str) -> None:
        self._successes = 0
        self._failures += 1
        self.last_error = error
        if self.available and self._failures >= FAILURES:
            self.available = False
            log.warning("the metadata store does not answer, going on without it: %s", error)
            self._on_lost(error)

    def note_success(self) -> None:
        self._failures = 0
        self._successes += 1
        if not self.available and self._successes >= SUCCESSES:
            self.available = True
            log.info("the metadata store answers again")
            self._on_recovered()
