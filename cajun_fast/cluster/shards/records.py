"""What sharding writes into the metadata store: who owns a shard, and how many shards there are.

Laws: as in ``cluster.records``. The number of shards is written once, by whoever needs it first, and never changed:
two nodes that count differently would send one id to two places.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

from cajun_fast.cluster.records import Owner, decode_count, encode_count
from cajun_fast.errors import ConfigError, ProtocolError
from cajun_fast.metadata.keys import KeySpace
from cajun_fast.metadata.store import MetadataStore

DEFAULT_COUNT = 256
SETTING = "shard_count"


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """``epoch`` counts the owners; ``revision`` is that of the record, 0 where it is not written yet; ``move`` names
    the hand-over by which its owner got it, "" where there was none.
    """

    owner: Owner
    epoch: int
    revision: int = 0
    move: str = ""

    def encode(self) -> bytes:
        packed: bytes = msgpack.packb(
            {"node": self.owner.node, "inc": self.owner.incarnation, "epoch": self.epoch, "move": self.move}
        )
        return packed

    @staticmethod
    def decode(key: str, value: bytes, revision: int) -> ShardRecord:
        try:
            tree = msgpack.unpackb(value)
            owner = Owner(str(tree["node"]), int(tree["inc"]))
            return ShardRecord(owner, int(tree["epoch"]), revision, str(tree.get("move", "")))
        except Exception as exc:  # msgpack raises errors of many kinds, some without a common base
            raise ProtocolError(f"the record of shard {key!r} cannot be read: {exc!r}") from exc


async def agreed_count(
    store: MetadataStore, keys: KeySpace, wanted: int | None, *, needed: bool
) -> int | None:
    """The cluster's number of shards; None while nobody has named one and it is not ``needed`` here.

    Raises ConfigError if this node wants another number than the cluster has.
    """
    key = keys.setting(SETTING)
    entry = await store.get(key)
    if entry is None and (needed or wanted is not None):
        value = encode_count(wanted or DEFAULT_COUNT)
        outcome = await store.compare_and_set(key, 0, value)
        if outcome.succeeded:
            return wanted or DEFAULT_COUNT
        entry = outcome.current.get(key) or await store.get(key)
    if entry is None:
        return None
    count = decode_count(entry.value)
    if wanted is not None and wanted != count:
        raise ConfigError(
            f"setting sharding.shard_count={wanted} is wrong: cluster {keys.cluster!r} has {count} shards, and two "
            f"numbers would send one id to two places: set shard_count={count} (or leave it out), or give this node "
            "another cluster_name; an existing cluster's number cannot be changed while it runs"
        )
    return count
