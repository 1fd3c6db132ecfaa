"""Nodes as their records in the metadata store say.

Laws: reads only; a record that cannot be read is left out with a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from cajun_fast.config import NodeAddress
from cajun_fast.errors import ProtocolError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import MetadataStore

log = logging.getLogger("cajun_fast.discovery")

#: Node id and the bytes of its record to its address; raises ProtocolError.
AddressOf = Callable[[str, bytes], NodeAddress]


class StoreDiscovery:
    """The default: every living node has its record in the store."""

    def __init__(self, store: MetadataStore, keys: KeySpace, address_of: AddressOf) -> None:
        self._store = store
        self._keys = keys
        self._address_of = address_of

    async def find(self) -> Mapping[str, NodeAddress]:
        found: dict[str, NodeAddress] = {}
        page = await self._store.list(self._keys.nodes)
        while True:
            for entry in page.entries:
                node = self._keys.node_of(entry.key)
                try:
                    found[node] = self._address_of(node, entry.value)
                except ProtocolError as error:
                    log.warning("%s: left out", error)
            if page.after is None:
                return found
            page = await self._store.list(self._keys.nodes, after=page.after, revision=page.revision)
