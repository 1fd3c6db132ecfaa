"""The cluster: who lives, who owns which actor, and how a message finds its way. ``ClusterFactory`` is the
way in.
"""

from cajun_fast.cluster.factory import ClusterFactory
from cajun_fast.cluster.manager import ActorInfo, ActorPage, ClusterManager, ElectionResult, NodeInfo
from cajun_fast.cluster.metrics import ClusterMetrics
from cajun_fast.cluster.movement.results import (
    CordonResult,
    DrainProgress,
    DrainResult,
    MigrationResult,
    Outcome,
    Stayed,
)
from cajun_fast.cluster.shards.face import ShardedType
from cajun_fast.cluster.system import ClusterActorSystem, ShardedClusterActorSystem

__all__ = [
    "ActorInfo",
    "ActorPage",
    "ClusterActorSystem",
    "ClusterFactory",
    "ClusterManager",
    "ClusterMetrics",
    "CordonResult",
    "DrainProgress",
    "DrainResult",
    "ElectionResult",
    "MigrationResult",
    "NodeInfo",
    "Outcome",
    "ShardedClusterActorSystem",
    "ShardedType",
    "Stayed",
]
