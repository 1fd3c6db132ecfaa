"""``http://host:2379``: etcd, for clusters of many machines.

Laws: reads are linearizable. Writes are exactly once (etcd_write).
Calls that follow a ``watch()`` are sent when its revision is settled. The server's limits are learned when it
refuses. Keys and values pass through etcd_coding only.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cajun_fast.errors import (
    CajunError,
    LeaseLostError,
    MetadataStoreError,
    MetadataStoreUnavailableError,
)
from cajun_fast.metadata.base import BaseStore
from cajun_fast.metadata.checks import MAX_OPERATIONS, check_key, check_page, check_transaction, check_value
from cajun_fast.metadata.etcd_coding import ends_behind, entry_of, range_of
from cajun_fast.metadata.etcd_lease import KeepAlive
from cajun_fast.metadata.etcd_url import Endpoints, endpoints_of
from cajun_fast.metadata.etcd_watch import EtcdWatch
from cajun_fast.metadata.etcd_wire import GRANT, RANGE, REVOKE, STATUS, Call, Unclear, Wire
from cajun_fast.metadata.etcd_write import Writer
from cajun_fast.metadata.options import StoreOptions
from cajun_fast.metadata.store import Compare, Delete, Entry, Outcome, Page, Put, Watch
from cajun_fast.metadata.watching import Difference, Opening

#: Entries of one page when a watch lists for itself.
PAGE = 1000
#: etcd's way to say "behind this key".
AFTER = b"\0"


@dataclass(slots=True)
class Part:
    """Some of the keys below a prefix, as of a revision; ``more``: there are others behind them."""

    kvs: list[Any]
    more: bool
    revision: int


class EtcdMetadataStore(BaseStore):
    """See the module's laws. ``endpoints``: URLs, one or several; other settings: see StoreOptions."""

    def __init__(
        self, endpoints: str | Sequence[str], *, options: StoreOptions | None = None, **settings: Any
    ) -> None:
        found = endpoints_of(endpoints, options or StoreOptions(**settings))
        super().__init__(found.shown, found.options)
        self._endpoints: Endpoints = found
        self._watches: set[EtcdWatch] = set()
        self._settling: set[asyncio.Task[Opening]] = set()
        self._operations = MAX_OPERATIONS
        self._opened: tuple[Wire, KeepAlive, Writer] | None = None

    @classmethod
    def from_url(cls, url: str, options: StoreOptions) -> EtcdMetadataStore:
        return cls(url, options=options)

    # ---- life

    async def _open(self) -> None:
        found = self._endpoints
        wire = Wire(
            found.addresses, secure=found.secure, options=self.options, shown=self.url, owned=self.owned
        )
        wire.pool.open()
        try:
            await wire.log_in()
            await self._probe(wire, self.options.timeout)
        except BaseException:
            await wire.pool.close()
            raise
        self._opened = wire, KeepAlive(wire, self.owned), Writer(wire)

    async def _probe(self, wire: Wire, budget: float) -> None:
        """A linearizable read: answered only by a member that has a majority behind it."""
        request = wire.types.RangeRequest(key=b"/cajun/ping", count_only=True)
        try:
            await wire.call(RANGE, request, budget=budget)
        except MetadataStoreError as exc:
            if "permission denied" not in str(exc):  # said by a member that could have read
                raise

    async def _shut(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened[0].pool.close()

    def _stop_waiting(self) -> None:
        for watch in tuple(self._watches):
            watch.end(self.not_running())
        if self._opened is not None:
            self._opened[1].close()

    def _parts(self) -> tuple[Wire, KeepAlive, Writer]:
        if self._opened is None:
            raise self.not_running()
        return self._opened

    async def _ready(self) -> tuple[Wire, Writer]:
        """What a call needs, once the watches made before it have their revision."""
        self.check_open()
        if self._settling:
            await asyncio.wait(tuple(self._settling))
            self.check_open()
        wire, _, writer = self._parts()
        return wire, writer

    async def _call(self, wire: Wire, call: Call, request: Any, **how: Any) -> Any:
        try:
            return await wire.call(call, request, **how)
        except CajunError:
            self.check_open()  # an error of a store that was closed under its caller
            raise

    # ---- reading

    async def ping(self, timeout: float = 1.0) -> None:
        self.check_open()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await self._probe(self._parts()[0], timeout)
        except TimeoutError as exc:
            raise MetadataStoreUnavailableError(
                f"etcd {self.url} did not serve a linearizable read within {timeout} s: it is down, cut off, "
                "or has no majority: etcdctl endpoint status --cluster"
            ) from exc

    async def server_version(self) -> str | None:
        wire, _ = await self._ready()
        return str((await self._call(wire, STATUS, wire.types.StatusRequest())).version)

    async def get(self, key: str) -> Entry | None:
        raw = check_key(key)
        wire, writer = await self._ready()
        reply = await self._call(wire, RANGE, wire.types.RangeRequest(key=raw))
        entries = [entry_of(kv) for kv in reply.kvs]
        writer.seen(entries)
        return entries[0] if entries else None

    async def list(
        self, prefix: str, *, limit: int = 1000, after: str | None = None, revision: int | None = None
    ) -> Page:
        check_page(limit)
        wire, _ = await self._ready()
        part = await self._part(wire, prefix, limit, after, revision or 0)
        entries = tuple(map(entry_of, part.kvs))
        return Page(entries, part.revision, entries[-1].key if part.more else None)

    async def _part(
        self,
        wire: Wire,
        prefix: str,
        limit: int,
        after: str | None,
        revision: int,
        *,
        keys_only: bool = False,
    ) -> Part:
        """Up to ``limit`` keys behind ``after``. etcd counts all that is left of a range for each page of it, so pages
        of a long listing ask for what is near first, and for the rest only where that is not enough.
        """
        start, end = range_of(prefix)
        ends = [end]
        if after is not None:
            last = check_key(after)
            start, ends = max(start, last + AFTER), [*ends_behind(last, prefix.encode()), end]
        part = Part([], False, revision)
        for end in ends:
            room = limit - len(part.kvs)
            reply = await self._range(wire, start, end, max(1, room), part.revision, keys_only)
            part.revision = part.revision or reply.header.revision
            part.kvs += reply.kvs if room else ()
            part.more = reply.more or bool(reply.kvs and not room)
            if part.more:
                break
            start = end
        return part

    async def _range(
        self, wire: Wire, start: bytes, end: bytes, limit: int, revision: int, keys_only: bool
    ) -> Any:
        while True:
            request = wire.types.RangeRequest(
                key=start, range_end=end, limit=limit, revision=revision, keys_only=keys_only
            )
            try:
                return await self._call(wire, RANGE, request)
            except MetadataStoreError as exc:
                if "larger than max" not in str(exc) or limit == 1:
                    raise
            limit = max(1, limit // 8)  # the entries are large: a shorter page

    # ---- writing

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        check_key(key)
        check_value(key, value)
        return (await self._write((), [Put(key, value, lease)])).revision

    async def delete(self, key: str) -> bool:
        check_key(key)
        _, writer = await self._ready()
        try:
            return await writer.delete(key)
        except CajunError:
            self.check_open()
            raise

    async def transact(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Outcome:
        check_transaction(compares, operations)
        return await self._write(compares, operations)

    async def _write(self, compares: Sequence[Compare], operations: Sequence[Put | Delete]) -> Outcome:
        _, writer = await self._ready()
        try:
            return await writer.write(compares, operations)
        except Unclear as exc:
            raise MetadataStoreUnavailableError(
                f"etcd {self.url}: a deletion got no answer; the key is gone, by it or by somebody else's"
            ) from exc
        except CajunError:
            self.check_open()
            raise

    def _batch_limit(self) -> int:
        return self._operations

    async def _put_batch(self, batch: Sequence[Put]) -> None:
        try:
            await self.transact((), batch)
        except MetadataStoreError as exc:
            if "too many operations" not in str(exc) or len(batch) == 1:
                raise
        else:
            return
        self._operations = max(
            1, min(self._operations, len(batch)) // 2
        )  # the server's --max-txn-ops is lower
        await self._put_batch(batch[: len(batch) // 2])
        await self._put_batch(batch[len(batch) // 2 :])

    # ---- leases

    async def _grant(self, lease_id: int, ttl: float) -> None:
        wire, _ = await self._ready()
        request = wire.types.LeaseGrantRequest(ID=lease_id, TTL=math.ceil(ttl))
        try:
            await self._call(wire, GRANT, request)
        except MetadataStoreError as exc:
            if "lease already exists" not in str(exc):  # the id is ours: an attempt without answer took it
                raise

    async def _refresh(self, lease_id: int, ttl: float) -> None:
        try:
            await self._parts()[1].refresh(lease_id)
        except CajunError:
            self.check_open()
            raise

    async def _revoke(self, lease_id: int) -> None:
        wire = self._parts()[0]
        try:
            await self._call(wire, REVOKE, wire.types.LeaseRevokeRequest(ID=lease_id))
        except LeaseLostError:
            return

    # ---- watches

    def watch(self, prefix: str, *, revision: int | None = None) -> Watch:
        self.check_open()
        opening = self.owned.spawn(self.opening(prefix, revision), f"settle etcd watch {prefix!r}")
        if revision is None:
            self._settling.add(opening)
            opening.add_done_callback(self._settling.discard)
        watch = EtcdWatch(self._parts()[0], self, prefix, opening, self._watches.discard)
        self._watches.add(watch)
        return watch

    async def opening(self, prefix: str, revision: int | None) -> Opening:
        keys, at = await self._keys(prefix, revision or 0)
        return Opening(at, keys)

    async def _keys(self, prefix: str, revision: int) -> tuple[set[str], int]:
        """All keys under a prefix, as of one revision."""
        wire = self._parts()[0]
        keys: set[str] = set()
        after: str | None = None
        while True:
            part = await self._part(wire, prefix, PAGE * 10, after, revision, keys_only=True)
            revision = part.revision
            keys.update(kv.key.decode() for kv in part.kvs)
            if not part.more:
                return keys, revision
            after = part.kvs[-1].key.decode()

    async def difference(self, prefix: str, cursor: int) -> Difference:
        wire = self._parts()[0]
        keys: set[str] = set()
        written: list[Entry] = []
        after, revision = None, 0
        while True:
            part = await self._part(wire, prefix, PAGE, after, revision)
            revision = part.revision
            keys.update(kv.key.decode() for kv in part.kvs)
            written += [entry_of(kv) for kv in part.kvs if kv.mod_revision > cursor]
            if not part.more:
                return Difference(keys, written, revision)
            after = part.kvs[-1].key.decode()
