"""What discovery says of where nodes are, kept up to date.

Laws: discovery adds addresses and takes none away: who lives is said by the store alone, so an empty, partial or
missing answer changes nothing. A later answer for a node takes the place of an earlier one. This node itself is
passed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from cajun_fast.cluster.tasks import Tasks
from cajun_fast.config import NodeAddress
from cajun_fast.discovery.base import Discovery
from cajun_fast.errors import CajunError

log = logging.getLogger("cajun_fast.cluster")


class Finder:
    """See the module's laws."""

    def __init__(
        self,
        sources: Sequence[Discovery],
        node_id: str,
        interval: float,
        on_found: Callable[[str], None],
    ) -> None:
        """``on_found``: told of each node whose address is new, or another one; must not raise or wait."""
        self._sources = list(sources)
        self._node_id = node_id
        self._interval = interval
        self._on_found = on_found
        self._found: dict[str, NodeAddress] = {}
        self._looking: asyncio.Task[None] | None = None
        self._tasks = Tasks("finder")

    @property
    def found(self) -> Mapping[str, NodeAddress]:
        """The last address of each node that discovery has named."""
        return MappingProxyType(self._found)

    def add(self, sources: Sequence[Discovery]) -> None:
        """Ask these too."""
        self._sources += sources
        self.start()

    def start(self) -> None:
        """Look now and again, if there is anybody to ask."""
        if self._sources and self._looking is None:
            self._looking = self._tasks.start(self._run(), "look")

    async def stop(self) -> None:
        await self._tasks.stop()

    async def look(self) -> None:
        """Ask each source once. A source that cannot be asked is logged and passed over."""
        for source in tuple(self._sources):
            try:
                answer = await source.find()
            except CajunError as error:
                log.warning("%s: addresses stay as they are", error)
                continue
            for node, address in answer.items():
                if node != self._node_id and self._found.get(node) != address:
                    self._found[node] = address
                    self._on_found(node)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._interval)
