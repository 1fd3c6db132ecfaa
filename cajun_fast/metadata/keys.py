"""The key space of a cluster, written once: every key that this package ever writes is made here.

Laws: everything of one cluster lies below ``/cajun/<cluster>/v1/``, so that two clusters on one store never
meet, a role can be limited to one prefix, and a later layout (v2) can live beside this one. Ids are
percent-encoded, one path component each, so that no id can reach into another's place; an actor's id is the
last part of its key and keeps its own slashes (``parent/child``), so the children of an actor are one prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from cajun_fast.errors import ConfigError

ROOT = "/cajun"
VERSION = "v1"
#: Left readable in keys; everything else, ``/`` and ``%`` above all, is percent-encoded.
_SAFE = "-._~:@!$&'()*+,;="


def component(text: str) -> str:
    """One id as one path component; reversible, injective."""
    return quote(text, safe=_SAFE)


@dataclass(frozen=True, slots=True)
class KeySpace:
    """The keys of one cluster. Plurals end in ``/`` and are prefixes to list and watch."""

    cluster: str
    root: str = field(init=False)
    nodes: str = field(init=False)
    incarnations: str = field(init=False)
    actors: str = field(init=False)
    shards: str = field(init=False)
    locks: str = field(init=False)
    settings: str = field(init=False)
    groups: str = field(init=False)
    #: Name of the leader's lock: pass it to ``MetadataStore.lock``.
    leader_lock: str = field(init=False)
    #: The leader's record (node id, token), written under the lock's lease.
    leader: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.cluster:
            raise ConfigError("the cluster's name is empty: name it, e.g. cluster_name='orders'")
        root = f"{ROOT}/{component(self.cluster)}/{VERSION}/"
        prefixes = ("nodes", "incarnations", "actors", "shards", "locks", "settings", "groups")
        places = {name: f"{root}{name}/" for name in prefixes}
        places |= {"root": root, "leader": f"{root}leader", "leader_lock": f"{root}locks/leader"}
        for name, value in places.items():
            object.__setattr__(self, name, value)

    def node(self, node_id: str) -> str:
        """The leased record of a living node."""
        return self.nodes + component(node_id)

    def incarnation(self, node_id: str) -> str:
        """The counter of a node's starts; never deleted, never leased."""
        return self.incarnations + component(node_id)

    def actor(self, actor_id: str) -> str:
        """Who owns an actor, and since which epoch."""
        return self.actors + quote(actor_id, safe=_SAFE + "/")

    def children(self, actor_id: str) -> str:
        """Prefix of an actor's children."""
        return self.actor(actor_id) + "/"

    def shards_of(self, type_name: str) -> str:
        """Prefix of the shards of an actor type."""
        return f"{self.shards}{component(type_name)}/"

    def shard(self, type_name: str, number: int) -> str:
        """Who owns a shard of an actor type; padded, so that a listing is in order of number."""
        return f"{self.shards_of(type_name)}{number:08d}"

    def lock(self, name: str) -> str:
        """Name of a lock, for ``MetadataStore.lock``."""
        return self.locks + component(name)

    def setting(self, name: str) -> str:
        """What all nodes must agree on (shard count, protocol version…)."""
        return self.settings + component(name)

    def group(self, topic: str, node_id: str) -> str:
        """That a node has subscribers of a topic, under its lease."""
        return f"{self.groups}{component(topic)}/{component(node_id)}"

    def group_of(self, key: str) -> tuple[str, str]:
        """The topic and the node id in a key of ``groups``."""
        topic, _, node = key.removeprefix(self.groups).partition("/")
        return unquote(topic), unquote(node)

    def node_of(self, key: str) -> str:
        """The id in a key of ``nodes`` or ``incarnations``."""
        return unquote(key.rsplit("/", 1)[1])

    def actor_of(self, key: str) -> str:
        """The id in a key of ``actors``."""
        return unquote(key.removeprefix(self.actors))

    def shard_of(self, key: str) -> tuple[str, int]:
        """The type and the number in a key of ``shards``."""
        type_name, number = key.removeprefix(self.shards).rsplit("/", 1)
        return unquote(type_name), int(number)
