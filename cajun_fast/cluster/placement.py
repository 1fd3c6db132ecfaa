"""Which node gets an actor: the same answer in every process, by rendezvous hashing over ids.

Laws: pure; a node that comes or goes moves only what it gets or had.
"""

from __future__ import annotations

from collections.abc import Sequence

from cajun_fast._core.rendezvous import assign_key
from cajun_fast.cluster.records import NodeRecord


def choose(actor_id: str, hosts: Sequence[NodeRecord]) -> str:
    """Id of the node among ``hosts`` (not empty) that gets the actor."""
    return assign_key(actor_id, [record.node for record in hosts])
