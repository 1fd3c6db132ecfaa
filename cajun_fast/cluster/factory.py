"""The seed's way in: ``ClusterFactory.create_cluster_system(config)``."""

from __future__ import annotations

from cajun_fast.actors.registry import Registry
from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.config import ClusterConfig
from cajun_fast.errors import ConfigError
from cajun_fast.metadata.store import MetadataStore
from cajun_fast.persistence import Persistence
from cajun_fast.ports import Ports


class ClusterFactory:
    """Makes members of clusters."""

    @staticmethod
    def create_cluster_system(
        config: ClusterConfig,
        *,
        ports: Ports | None = None,
        store: MetadataStore | None = None,
        types: Registry | None = None,
        persistence: Persistence | None = None,
    ) -> ClusterActorSystem:
        """A member that is not started yet: use it with ``async with``. See ClusterActorSystem for the
        arguments.
        """
        if not isinstance(config, ClusterConfig):
            raise ConfigError(
                f"config={config!r:.100} is a {type(config).__name__}: give a ClusterConfig (call build())"
            )
        return ClusterActorSystem(config, ports=ports, store=store, types=types, persistence=persistence)
