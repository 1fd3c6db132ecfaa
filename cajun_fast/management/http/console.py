"""What the routes of one application share.

Laws: made with the application, closed with it; it owns the watch and the jobs, and nothing of the node.
"""

from __future__ import annotations

from cajun_fast.cluster.system import ClusterActorSystem
from cajun_fast.management.http.guard import Guard
from cajun_fast.management.jobs import Jobs
from cajun_fast.management.operations import Operations
from cajun_fast.management.watch import Watch

#: Pages that may follow the cluster at the same time; readers of single jobs' streams likewise.
MOST_WATCHERS = 64


class Console:
    """See the module's laws."""

    def __init__(self, system: ClusterActorSystem, guard: Guard) -> None:
        self.system = system
        self.guard = guard
        self.operations = Operations(system)
        self.watch = Watch(system)
        self.jobs = Jobs(system.clock)
        #: Streams of single jobs that are read now.
        self.followers = 0

    async def close(self) -> None:
        """End the streams and the jobs."""
        await self.watch.close()
        await self.jobs.close()
