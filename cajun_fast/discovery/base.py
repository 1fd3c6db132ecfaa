"""The Discovery port, and the simplest implementation of it.

Laws: an answer names addresses at which nodes may be found, nothing more: an empty or partial answer evicts
nobody, and an answer that could not be had is an error, not an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cajun_fast.config import NodeAddress


class Discovery(Protocol):
    """Where nodes may be found."""

    async def find(self) -> Mapping[str, NodeAddress]:
        """What is known now, by node id. Raises DiscoveryError (any CajunError) when it cannot be
        asked."""
        ...


class StaticDiscovery:
    """A list that somebody wrote: ``ClusterConfig.Builder.add_node``."""

    def __init__(self, nodes: Mapping[str, NodeAddress]) -> None:
        self._nodes = dict(nodes)

    async def find(self) -> Mapping[str, NodeAddress]:
        return dict(self._nodes)
