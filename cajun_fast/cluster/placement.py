"""Which node gets an actor: the same answer in every process, by rendezvous hashing over ids.

Laws: pure; a node that comes or goes moves only what it gets or had.
"""

from __future__ import annotations

from collections.abc import Sequence

from cajun_fast._core.rendezvous import assign_key, get_top_nodes
from cajun_fast.cluster.records import NodeRecord


def choose(actor_id: str, hosts: Sequence[NodeRecord]) -> str:
    """Id of the node among ``hosts`` (not empty) that gets the actor."""
    return assign_key(actor_id, [record.node for record in hosts])


def able(type_name: str, hosts: Sequence[NodeRecord]) -> list[NodeRecord]:
    """Those that say that they can start the type: it is registered there, and they offer the roles it asks for.

    All of them if none says so: a type may be registered late, and a node that cannot start it says so when asked.
    """
    return [record for record in hosts if type_name in record.types] or list(hosts)


def choose_new(actor_id: str, hosts: Sequence[NodeRecord]) -> str:
    """For an actor that is not anywhere yet: the less loaded of the two best. Loads are as old as the nodes' records,
    so that they choose between two only, and no node gets everything.
    """
    best = get_top_nodes(actor_id, [record.node for record in hosts], min(2, len(hosts)))
    load = {record.node: record.actors for record in hosts}
    return min(best, key=lambda node: load[node])
