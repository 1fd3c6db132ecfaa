"""How entries stand in etcd: keys as UTF-8, values with a stamp behind them.

Laws: pure functions. Each write of this store carries a stamp of its own in the last bytes of the value.
Without it, a write whose answer was lost could not be told from an equal one of somebody else's, and
replaying or not would be a guess.
"""

from __future__ import annotations

from typing import Any

from cajun_fast.metadata.checks import prefix_end
from cajun_fast.metadata.store import Entry

#: Ends each stored value, behind 8 bytes that are the write's own: a reading tells whose write it sees.
MAGIC = b"\xc4\x1f\x9bS"
STAMP_BYTES = 8
#: A key's neighbours differ from it in so many letters at its end (numbers), or share so many behind the prefix (ids
#: by chance): each a little wider than the one before.
LAST, FIRST = (4, 5, 6), (3, 2, 1)


def stamped(value: bytes, stamp: bytes) -> bytes:
    return value + stamp + MAGIC


def unstamped(value: bytes) -> bytes:
    """The value; one that was written by other means (etcdctl) has no stamp, and is taken as it is."""
    return value[: -STAMP_BYTES - len(MAGIC)] if value.endswith(MAGIC) else value


def stamp_of(value: bytes) -> bytes | None:
    return value[-STAMP_BYTES - len(MAGIC) : -len(MAGIC)] if value.endswith(MAGIC) else None


def range_of(prefix: str) -> tuple[bytes, bytes]:
    """etcd's way to say a prefix: the key, and the end of the range."""
    start = prefix.encode()
    return (start or b"\0"), (prefix_end(start) or b"\0")


def ends_behind(key: bytes, prefix: bytes) -> list[bytes]:
    """Ends of growing ranges behind a key that stay within the prefix: its neighbours by their first letters."""
    if not key.startswith(prefix):
        return []
    letters = len(key) - len(prefix)
    lengths = {letters - cut for cut in LAST} | {kept for kept in FIRST if kept < letters}
    stems = [key[: len(prefix) + length] for length in sorted(lengths, reverse=True) if length > 0]
    return [end for stem in stems if (end := prefix_end(stem))]


def entry_of(kv: Any) -> Entry:
    return Entry(kv.key.decode(), unstamped(kv.value), kv.mod_revision, kv.create_revision, kv.lease)
