"""The cluster: who lives, who owns which actor, and how a message finds its way. ``ClusterFactory`` is the
way in.
"""

from cajun_fast.cluster.factory import ClusterFactory
from cajun_fast.cluster.manager import ActorInfo, ActorPage, ClusterManager, ElectionResult, NodeInfo
from cajun_fast.cluster.metrics import ClusterMetrics
from cajun_fast.cluster.system import ClusterActorSystem

__all__ = [
    "ActorInfo",
    "ActorPage",
    "ClusterActorSystem",
    "ClusterFactory",
    "ClusterManager",
    "ClusterMetrics",
    "ElectionResult",
    "NodeInfo",
]
