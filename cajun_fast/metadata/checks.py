"""What may be a key, a value, a transaction: the same limits on every store, and the arithmetic of prefixes.

Laws: pure functions, no I/O. The limits are etcd's defaults and hold on the embedded stores too, so that a
program written on those does not meet them for the first time on the day it outgrows one machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cajun_fast.errors import MetadataStoreError
from cajun_fast.metadata.store import Compare, Delete, Put

#: Operations (and compares) of one transaction; etcd's ``--max-txn-ops``.
MAX_OPERATIONS = 128
#: Bytes of one value: a record of the metadata store is small; data belongs elsewhere.
MAX_VALUE_BYTES = 1 << 20
#: Bytes of all keys and values of one request, below etcd's ``--max-request-bytes`` of 1.5 MiB.
MAX_REQUEST_BYTES = 1536 * 1024 - 16 * 1024
#: What etcd adds around an operation and its compare, rounded up.
OPERATION_OVERHEAD = 128

Operation = Put | Delete


def check_key(key: str) -> bytes:
    """The key's bytes; raises MetadataStoreError for an empty one, with NUL, or not Unicode text."""
    if not key or "\0" in key:
        raise MetadataStoreError(f"a key is non-empty text without NUL, got {key!r:.200}")
    try:
        return key.encode()
    except UnicodeEncodeError as exc:
        raise MetadataStoreError(f"key {key!r:.200} is no UTF-8: remove lone surrogates") from exc


def check_value(key: str, value: object) -> None:
    if not isinstance(value, bytes):
        kind = type(value).__name__
        raise MetadataStoreError(f"the value of {key!r} must be bytes, got {kind}: encode it first")
    if len(value) > MAX_VALUE_BYTES:
        raise MetadataStoreError(
            f"the value of {key!r} takes {len(value)} bytes, the limit is {MAX_VALUE_BYTES}: "
            "keep the data elsewhere and store a reference to it"
        )


def check_lease_ttl(ttl: float) -> float:
    if not (math.isfinite(ttl) and ttl > 0):
        raise MetadataStoreError(f"a lease lasts a positive number of seconds, got {ttl!r}")
    return float(ttl)


def cost_of(operation: Operation) -> int:
    """Bytes that an operation takes of a request: its key stands in it, in a compare and in a reading."""
    size = 3 * len(operation.key.encode()) + OPERATION_OVERHEAD
    return size + len(operation.value) if isinstance(operation, Put) else size


def check_transaction(compares: Sequence[Compare], operations: Sequence[Operation]) -> None:
    """Raises MetadataStoreError for what some store would refuse."""
    count = max(len(compares), len(operations))
    if count > MAX_OPERATIONS:
        raise MetadataStoreError(
            f"a transaction of {count} operations is over the limit of {MAX_OPERATIONS}: "
            "split it, or use put_all() where it need not be atomic"
        )
    for compare in compares:
        check_key(compare.key)
    _check_distinct(operations)
    total = sum(map(cost_of, operations))
    if total > MAX_REQUEST_BYTES:
        raise MetadataStoreError(f"a transaction of {total} bytes is over {MAX_REQUEST_BYTES}: split it")


def _check_distinct(operations: Iterable[Operation]) -> None:
    seen: set[str] = set()
    for operation in operations:
        check_key(operation.key)
        if isinstance(operation, Put):
            check_value(operation.key, operation.value)
        if operation.key in seen:
            raise MetadataStoreError(f"a transaction writes {operation.key!r} twice: merge the writes")
        seen.add(operation.key)


def check_page(limit: int) -> None:
    if limit < 1:
        raise MetadataStoreError(f"a page has at least one entry, got limit={limit!r}")


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest byte string above everything that starts with ``prefix``; None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
