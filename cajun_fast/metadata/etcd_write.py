"""Writes to etcd, each of them exactly once: everything is a compare-and-set, and carries a stamp.

Laws: a key is written only if its revision is the expected one: the caller's, or a guess that is corrected by
the reply. So an attempt that a stopped server kept in its buffers cannot come true after a later one did.
When an answer is lost, the stamp of the write is looked for in the key's present value and back through its
versions: found means applied; not found means that the same attempt may be sent again. Where history does not
reach back, or only a deletion could tell, the caller is told that the outcome is not known: nothing is
guessed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from cajun_fast.errors import CompactedError, MetadataStoreUnavailableError
from cajun_fast.metadata.checks import MAX_OPERATIONS
from cajun_fast.metadata.etcd_coding import STAMP_BYTES, entry_of, stamp_of, stamped
from cajun_fast.metadata.etcd_wire import RANGE, TXN, Unclear, Wire
from cajun_fast.metadata.retry import Retry
from cajun_fast.metadata.store import Compare, Delete, Entry, Outcome, Put

#: Keys whose last revision is remembered, as a guess for the next write.
REMEMBERED = 10_000
#: Wrong guesses in a row (somebody else writes the key all the time) until a write is sent without.
GUESSES = 16

Operations = Sequence[Put | Delete]


class Writer:
    """See the module's laws."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._last: OrderedDict[str, int] = OrderedDict()

    async def write(self, compares: Sequence[Compare], operations: Operations) -> Outcome:
        """MetadataStore.transact."""
        given = {compare.key: compare.revision for compare in compares}
        stamp = self._wire.options.random.randbytes(STAMP_BYTES)
        retry = Retry(self._wire.policy, self._wire.now())
        guesses = GUESSES
        while True:
            expected = self._expected(given, operations) if guesses else given
            request = self._request(expected, operations, stamp)
            reply = await self._attempt(request, expected, operations, stamp, retry)
            outcome = reply if isinstance(reply, Outcome) else _outcome(reply)
            if outcome.succeeded:
                self._remember(operations, outcome.revision)
                return outcome
            current = {
                key: outcome.current[key].revision if key in outcome.current else 0 for key in expected
            }
            if any(current[key] != revision for key, revision in given.items()):
                shown = {key: entry for key, entry in outcome.current.items() if key in given}
                return Outcome(False, outcome.revision, shown)
            self._last.update((key, current[key]) for key in expected if key not in given)
            guesses -= 1

    async def delete(self, key: str) -> bool:
        """MetadataStore.delete; a deletion of ours whose answer is lost is one, too."""
        while True:
            expected = self._last.get(key, 0)
            try:
                outcome = await self.write([Compare(key, expected)], [Delete(key)])
            except Unclear:
                return True  # the key is gone, and it existed
            if outcome.succeeded:
                return expected != 0
            self._last[key] = outcome.current[key].revision if key in outcome.current else 0

    def seen(self, entries: Sequence[Entry]) -> None:
        """Revisions that were read: better guesses."""
        for entry in entries:
            self._last[entry.key] = entry.revision
        self._trim()

    def _remember(self, operations: Operations, revision: int) -> None:
        for change in operations:
            if isinstance(change, Put):
                self._last[change.key] = revision
            else:
                self._last.pop(change.key, None)
        self._trim()

    def _trim(self) -> None:
        while len(self._last) > REMEMBERED:
            self._last.popitem(last=False)

    def _expected(self, given: Mapping[str, int], operations: Operations) -> dict[str, int]:
        """The revision each key must have: the caller's, else a guess, as far as there is room."""
        room = MAX_OPERATIONS - len(given)
        others = [change.key for change in operations if change.key not in given]
        return {**given, **{key: self._last.get(key, 0) for key in others[: max(room, 0)]}}

    def _request(self, expected: Mapping[str, int], operations: Operations, stamp: bytes) -> Any:
        types = self._wire.types
        request = types.TxnRequest()
        for key, revision in expected.items():
            raw = key.encode()
            # EQUAL is 0 and left out; the mod revision of an absent key is 0.
            request.compare.add(target=types.Compare.MOD, key=raw, mod_revision=revision)
            request.failure.add().request_range.key = raw
        for change in operations:
            place = request.success.add()
            if isinstance(change, Put):
                put = place.request_put
                put.key, put.lease, put.value = (
                    change.key.encode(),
                    change.lease,
                    stamped(change.value, stamp),
                )
            else:
                place.request_delete_range.key = change.key.encode()
        return request

    # ---- lost answers

    async def _attempt(
        self, request: Any, expected: Mapping[str, int], operations: Operations, stamp: bytes, retry: Retry
    ) -> Any:
        """The reply, or the Outcome of an attempt whose reply was lost."""
        wire, lost = self._wire, False
        while True:
            retry.attempt()
            remaining = retry.remaining(wire.now())
            if remaining <= 0 or retry.attempts > wire.policy.max_retries + GUESSES:
                raise self._unknown("no attempt was answered in time")
            try:
                reply = await wire.call(TXN, request, replay=not operations, budget=remaining)
            except Unclear:
                lost = True
                if found := await self._find(expected, operations, stamp):
                    return Outcome(True, found, {})
                continue
            if lost and not reply.succeeded:
                return await self._late(reply, expected, operations, stamp)
            return reply

    async def _late(
        self, reply: Any, expected: Mapping[str, int], operations: Operations, stamp: bytes
    ) -> Any:
        """A refusal after a lost answer: because the lost attempt was applied?"""
        if found := await self._find(expected, operations, stamp):
            return Outcome(True, found, {})
        if any(isinstance(change, Put) for change in operations):
            key = next(change.key for change in operations if isinstance(change, Put))
            standing = {entry.key for entry in _outcome(reply).current.values()}
            if key in standing or not expected.get(key):
                return reply
            raise self._unknown("the key was deleted since")
        if len(operations) == 1 and not _outcome(reply).current:
            raise Unclear("deleted, by us or by somebody else")
        raise self._unknown("somebody deleted or changed the keys")

    async def _find(self, expected: Mapping[str, int], operations: Operations, stamp: bytes) -> int:
        """The revision of the write with this stamp; 0: it was not applied.

        A compare-and-set comes directly behind the revision that it expected, or begins the key's life: so it
        is found by halving, however often the key was written since.
        """
        key = next((change.key for change in operations if isinstance(change, Put)), None)
        if key is None:
            return 0
        base, now = expected.get(key, 0), await self._version(key)
        if now is None or now.mod_revision <= base:
            return 0
        if stamp_of(now.value) == stamp:
            return int(now.mod_revision)
        if base and now.create_revision > base:
            raise self._unknown("the key was deleted and made again since")
        at = await self._successor(key, base, now.mod_revision) if base else now.create_revision
        then = await self._version(key, at)
        return int(at) if then is not None and stamp_of(then.value) == stamp else 0

    async def _successor(self, key: str, base: int, high: int) -> int:
        """The revision of the write that followed ``base``, not after ``high``."""
        low = base
        while high - low > 1:
            middle = (low + high) // 2
            then = await self._version(key, middle)
            if then is not None and then.mod_revision > base:
                high = then.mod_revision
            else:
                low = middle
        return high

    async def _version(self, key: str, revision: int = 0) -> Any:
        """The key as it stood at a revision; None if absent."""
        request = self._wire.types.RangeRequest(key=key.encode(), revision=revision)
        try:
            reply = await self._wire.call(RANGE, request)
        except CompactedError as exc:
            raise self._unknown("etcd compacted the revisions that would tell") from exc
        return reply.kvs[0] if reply.kvs else None

    def _unknown(self, why: str) -> MetadataStoreUnavailableError:
        return MetadataStoreUnavailableError(
            f"etcd {self._wire.shown}: a write got no answer, and nothing tells if it was applied ({why}): "
            "read what stands there, then decide"
        )


def _outcome(reply: Any) -> Outcome:
    revision = int(reply.header.revision)
    if reply.succeeded:
        return Outcome(True, revision, {})
    found = [entry_of(kv) for part in reply.responses for kv in part.response_range.kvs]
    return Outcome(False, revision, {entry.key: entry for entry in found})
