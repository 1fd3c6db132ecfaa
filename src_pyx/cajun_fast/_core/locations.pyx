# cython: binding=False
"""The location cache: actor id -> the node it lives on. locations.pxd tells the design.

Laws: bounded, and the least recently used entry goes first. It reads no clock and asks nobody: times are handed in, in
nanoseconds of one monotonic clock, and what a miss costs is its caller's business. What it was told last is not what it
believes: an older epoch never replaces a newer one. A dropped entry says so to whoever still holds it.
"""

cimport cython
from cpython.dict cimport PyDict_GetItemWithError
from cpython.ref cimport PyObject
from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from cajun_fast._core.checks cimport whole


@cython.final
@cython.no_gc
cdef class _Home:
    """A node that entries point to. Not seen by Python."""


@cython.final
@cython.no_gc
cdef class Location:
    """Where an actor lives, as a cache was told. Made by LocationCache alone; one that is made otherwise is never live.

    While ``live`` and before ``expires_ns`` it may be used without asking the cache again. ``missing``: the actor is
    known not to exist, and ``node`` is None.
    """

    def __repr__(self):
        where = "missing" if self.missing else f"on {self.node!r}"
        state = "live" if self.live else "dropped"
        return f"<Location {self.actor_id!r} {where} epoch={self.epoch} generation={self.generation} {state}>"

    cpdef bint claim_refresh(self, int64_t now) noexcept:
        """True once in the last fifth of the entry's life: the one who hears it looks the actor up again."""
        if now < self.refresh_ns or not self.live:
            return False
        self.refresh_ns = INT64_MAX
        return True


cdef int check_id(str value, str name) except -1:
    """Ids are never empty: an empty one is a mistake somewhere before."""
    if not value:
        raise ValueError(f"{name}={value!r} names nothing: give a non-empty str")
    return 0


cdef bint is_newer(Location standing, int64_t epoch, bint missing) noexcept:
    """Whether `standing` is the newer knowledge. In one epoch, "it is gone" comes after "it is there"."""
    if standing.epoch != epoch:
        return standing.epoch > epoch
    return standing.missing and not missing


@cython.final
@cython.no_gc
cdef class LocationCache:
    """At most ``max_entries`` locations, each good for ``ttl_ns``, a known absence for ``missing_ttl_ns``.

    Raises TypeError or ValueError for arguments that are not ints of at least 1.
    """

    def __cinit__(self, max_entries=10_000, ttl_ns=5_000_000_000, missing_ttl_ns=200_000_000):
        link_init(&self._used, NULL)
        self._entries = {}
        self._homes = {}
        self.max_entries = whole(max_entries, "max_entries", 1)
        self.ttl_ns = whole(ttl_ns, "ttl_ns", 1, INT64_MAX // 4)
        self.missing_ttl_ns = whole(missing_ttl_ns, "missing_ttl_ns", 1, INT64_MAX // 4)

    def __dealloc__(self):
        cdef Link* link = self._used.next
        while link != &self._used:
            (<Location> link.owner).live = False
            link = link.next

    def __len__(self):
        return len(self._entries)

    cpdef Location get(self, str actor_id, int64_t now):
        """The entry of an actor, now its most recently used one; None when there is none or it has expired.

        A known absence is an entry too: look at ``missing``.
        """
        cdef PyObject* found = PyDict_GetItemWithError(self._entries, actor_id)
        if found == NULL:
            self.misses += 1
            return None
        cdef Location entry = <Location> found
        if now >= entry.expires_ns and not self._outlives(entry):
            return None
        self.hits += 1
        if self._used.next != &entry.by_use:
            link_remove(&entry.by_use)
            link_insert(&self._used, &entry.by_use)
        return entry

    cpdef Location peek(self, str actor_id):
        """The entry of an actor, expired or not, and nothing is counted or touched; None when there is none."""
        cdef PyObject* found = PyDict_GetItemWithError(self._entries, actor_id)
        return None if found == NULL else <Location> found

    cpdef Location put(self, str actor_id, str node, int64_t epoch, int64_t now, bint durable=False):
        """Take note that an actor lives on a node, by its ownership of ``epoch`` (0 and up). ``durable``: its record says
        so; else it is not known.

        Answers the entry that stands: the older one, renewed, if it said the same; the older one as it was, expired or
        not, if its epoch is newer; else a new one.
        Raises ValueError for an empty id or node or a negative epoch.
        """
        check_id(actor_id, "actor_id")
        check_id(node, "node")
        if epoch < 0:
            raise ValueError(f"epoch={epoch} of actor {actor_id!r} is out of range: ownership epochs count from 0")
        cdef Location standing = self.peek(actor_id)
        if standing is not None:
            if is_newer(standing, epoch, False):
                return standing
            if not standing.missing and standing.epoch == epoch and standing.node == node:
                self._renew(standing, now)
                return standing
            self._drop(standing)
        standing = self._insert(actor_id, self._home(node), epoch, now)
        standing.durable = durable
        return standing

    cpdef Location put_missing(self, str actor_id, int64_t now, int64_t epoch=UNKNOWN_EPOCH):
        """Take note that an actor does not exist, since the ownership of ``epoch`` ended.

        Answers the entry that stands, as put does. Without an epoch it gives way to every location that has not
        expired: the look-up may be older than that. Raises ValueError for an empty id.
        """
        check_id(actor_id, "actor_id")
        cdef Location standing = self.peek(actor_id)
        if standing is None:
            return self._insert(actor_id, None, epoch, now)
        if is_newer(standing, epoch, True) and not (epoch == UNKNOWN_EPOCH and now >= standing.expires_ns):
            return standing
        if standing.missing and standing.epoch == epoch:
            self._renew(standing, now)
            return standing
        self._drop(standing)
        return self._insert(actor_id, None, epoch, now)

    cpdef bint invalidate(self, str actor_id, uint64_t generation=0) except -1:
        """Drop the entry of an actor; with a generation, only if it is still that one. Answers whether it was."""
        cdef Location standing = self.peek(actor_id)
        if standing is None or (generation and standing.generation != generation):
            return False
        self._drop(standing)
        self.invalidations += 1
        return True

    cpdef Py_ssize_t invalidate_node(self, str node) except -1:
        """Drop every entry that points to a node, in time proportional to those. Answers how many."""
        cdef _Home home = self._homes.get(node)
        cdef Py_ssize_t dropped = 0
        while home is not None and home.entries.next != &home.entries:
            self._drop(<Location> home.entries.next.owner)
            dropped += 1
        self.invalidations += dropped
        return dropped

    cpdef Py_ssize_t clear(self) except -1:
        """Drop every entry. Answers how many."""
        cdef Py_ssize_t dropped = 0
        while self._used.next != &self._used:
            self._drop(<Location> self._used.next.owner)
            dropped += 1
        self.invalidations += dropped
        return dropped

    def recent(self):
        """The ids of all entries, the most recently used one first; for inspection, it copies them all."""
        cdef Link* link = self._used.next
        ids = []
        while link != &self._used:
            ids.append((<Location> link.owner).actor_id)
            link = link.next
        return ids

    def nodes(self):
        """The nodes that entries point to; for inspection, it copies them all."""
        return list(self._homes)

    cdef bint _outlives(self, Location entry) except -1:
        """Whether an expired entry is served all the same; if not, it is dropped and counted as a miss."""
        if self.serve_expired and not entry.missing:
            self.stale_hits += 1
            return True
        self._drop(entry)
        self.expirations += 1
        self.misses += 1
        return False

    cdef Location _insert(self, str actor_id, _Home home, int64_t epoch, int64_t now):
        """A new entry for an id that has none; no home: missing."""
        if len(self._entries) >= self.max_entries:
            self._drop(<Location> self._used.prev.owner)
            self.evictions += 1
        cdef Location entry = Location.__new__(Location)
        self._generation += 1
        entry.actor_id, entry.epoch, entry.generation = actor_id, epoch, self._generation
        entry.home, entry.missing = home, home is None
        self._renew(entry, now)
        link_init(&entry.by_use, <void*> entry)
        link_init(&entry.by_node, <void*> entry)
        self._entries[actor_id] = entry
        link_insert(&self._used, &entry.by_use)
        if home is not None:
            entry.node = home.node
            self._homes[home.node] = home       # eviction above may have taken its last entry
            link_insert(&home.entries, &entry.by_node)
        entry.live = True
        return entry

    cdef _Home _home(self, str node):
        """The node's list, a new and empty one if it has none; _insert makes it known."""
        cdef _Home home = self._homes.get(node)
        if home is None:
            home = _Home.__new__(_Home)
            home.node = node
            link_init(&home.entries, NULL)
        return home

    cdef void _renew(self, Location entry, int64_t now) noexcept:
        """A full life from now on."""
        cdef int64_t ttl = self.missing_ttl_ns if entry.missing else self.ttl_ns
        entry.expires_ns = now + ttl
        entry.refresh_ns = INT64_MAX if entry.missing else entry.expires_ns - ttl // 5

    cdef int _drop(self, Location entry) except -1:
        """Out of everything; whoever holds the entry sees it by `live`."""
        cdef _Home home = entry.home
        entry.live = False
        link_remove(&entry.by_use)
        link_remove(&entry.by_node)
        if home is not None and home.entries.next == &home.entries:
            del self._homes[home.node]
        del self._entries[entry.actor_id]
        return 0
