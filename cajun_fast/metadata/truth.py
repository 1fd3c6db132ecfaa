"""The data of one ``memory://`` name: entries, leases, log, as a machine without loop, task or clock.

Laws: time is an argument. One change of state is one revision, applied whole or not at all. The log keeps the
last events, whole revisions, up to a bound; ``floor`` is the last revision that it no longer has.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cajun_fast.metadata.checks import Operation
from cajun_fast.metadata.store import Compare, Delete, Entry, Event, EventKind, Outcome, Page, Put
from cajun_fast.metadata.watching import Changes, Difference, Opening, compacted, deletion, lease_over

#: Told of each change: the revision and the keys it wrote.
Listener = Callable[[int, Sequence[str]], None]
#: Whole revisions are read until this many events are together.
READ_AT_ONCE = 1000


@dataclass(slots=True)
class LeaseState:
    expires_ns: int
    keys: set[str]


class Truth:
    """See the module's laws."""

    def __init__(self, history: int) -> None:
        self.revision = 0
        self.floor = 0
        self.listeners: set[Listener] = set()
        self._history = history
        self._entries: dict[str, Entry] = {}
        self._sorted: list[str] = []  # may hold deleted keys, lacks those in _fresh
        self._fresh: set[str] = set()
        self._leases: dict[int, LeaseState] = {}
        self._log: deque[tuple[int, list[Event]]] = deque()
        self._logged = 0

    # ---- reading

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def page(self, prefix: str, limit: int, after: str | None) -> Page:
        found: list[Entry] = []
        for key in self._keys_from(prefix, after):
            if len(found) == limit:
                return Page(tuple(found), self.revision, found[-1].key)
            found.append(self._entries[key])
        return Page(tuple(found), self.revision, None)

    def _keys_from(self, prefix: str, after: str | None) -> Iterable[str]:
        keys = self._merged()
        start = bisect_left(keys, prefix if after is None else max(prefix, after + "\0"))
        for index in range(start, len(keys)):
            key = keys[index]
            if not key.startswith(prefix):
                return
            if key in self._entries:
                yield key

    def _merged(self) -> list[str]:
        if self._fresh or len(self._sorted) > 2 * len(self._entries) + 100:
            live = [key for key in self._sorted if key in self._entries and key not in self._fresh]
            live.extend(key for key in self._fresh if key in self._entries)
            live.sort()  # two runs: almost linear
            self._sorted, self._fresh = live, set()
        return self._sorted

    # ---- writing

    def transact(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> Outcome:
        current = {compare.key: self._entries.get(compare.key) for compare in compares}
        if any((entry.revision if (entry := current[c.key]) else 0) != c.revision for c in compares):
            return Outcome(False, self.revision, {key: entry for key, entry in current.items() if entry})
        for operation in operations:
            if isinstance(operation, Put) and operation.lease and operation.lease not in self._leases:
                raise lease_over(operation.lease)
        self._apply(operations)
        return Outcome(True, self.revision, {})

    def _apply(self, operations: Sequence[Operation]) -> None:
        revision = self.revision + 1
        events = [
            self._put(change, revision) if isinstance(change, Put) else self._delete(change.key, revision)
            for change in operations
            if isinstance(change, Put) or change.key in self._entries
        ]
        if not events:
            return
        self.revision = revision
        self._log.append((revision, events))
        self._logged += len(events)
        while self._logged > self._history and len(self._log) > 1:
            self.floor, dropped = self._log.popleft()
            self._logged -= len(dropped)
        keys = [event.entry.key for event in events]
        for listener in tuple(self.listeners):
            listener(revision, keys)

    def _put(self, put: Put, revision: int) -> Event:
        old = self._entries.get(put.key)
        entry = Entry(put.key, put.value, revision, old.created if old else revision, put.lease)
        if old is None:
            self._fresh.add(put.key)
        elif old.lease and old.lease != put.lease:
            self._leases[old.lease].keys.discard(put.key)
        if put.lease:
            self._leases[put.lease].keys.add(put.key)
        self._entries[put.key] = entry
        return Event(EventKind.PUT, entry)

    def _delete(self, key: str, revision: int) -> Event:
        old = self._entries.pop(key)
        if old.lease in self._leases:
            self._leases[old.lease].keys.discard(key)
        return deletion(key, revision)

    # ---- leases

    def grant(self, lease_id: int, expires_ns: int) -> None:
        self._leases[lease_id] = LeaseState(expires_ns, set())

    def refresh(self, lease_id: int, expires_ns: int) -> None:
        if lease_id not in self._leases:
            raise lease_over(lease_id)
        self._leases[lease_id].expires_ns = expires_ns

    def revoke(self, lease_id: int) -> None:
        lease = self._leases.pop(lease_id, None)
        if lease is not None:
            self._apply([Delete(key) for key in sorted(lease.keys)])

    def next_expiry(self) -> int | None:
        return min((lease.expires_ns for lease in self._leases.values()), default=None)

    def sweep(self, now_ns: int) -> None:
        """End the leases whose time is over."""
        for lease_id in [n for n, lease in self._leases.items() if lease.expires_ns <= now_ns]:
            self.revoke(lease_id)

    # ---- watching

    def opening(self, prefix: str, revision: int | None) -> Opening:
        cursor = self.revision if revision is None else revision
        if cursor < self.floor:
            raise compacted(cursor, self.floor)
        known = set(self._keys_from(prefix, None))
        events = (event for number, events in self._log if number > cursor for event in events)
        known.update(event.entry.key for event in events if event.entry.key.startswith(prefix))
        return Opening(cursor, known)

    def changes(self, prefix: str, cursor: int) -> Changes | None:
        if cursor < self.floor:
            return None
        found: list[Event] = []
        for number, events in self._log_after(cursor):
            if len(found) >= READ_AT_ONCE:
                return Changes(found, number - 1)
            found += [event for event in events if event.entry.key.startswith(prefix)]
        return Changes(found, max(cursor, self.revision))

    def _log_after(self, cursor: int) -> Iterable[tuple[int, list[Event]]]:
        first = self._log[0][0] if self._log else 0  # revisions in the log have no gap
        return (self._log[index] for index in range(max(0, cursor + 1 - first), len(self._log)))

    def difference(self, prefix: str, cursor: int) -> Difference:
        entries = [self._entries[key] for key in self._keys_from(prefix, None)]
        written = [entry for entry in entries if entry.revision > cursor]
        return Difference({entry.key for entry in entries}, written, self.revision)
