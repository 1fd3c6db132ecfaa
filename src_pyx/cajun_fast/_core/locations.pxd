# The location cache: actor id -> the node it lives on, as far as is known.
#
#                 _entries (dict: the one owner)
#                    │
#    _used ⇄ Location ⇄ Location ⇄ Location ⇄ (back)      every entry, the most recently used one first
#               ⇅          ⇅
#             _Home      _Home                              the entries of one node
#
# Invariants
#   an entry is in _entries, in _used and (unless `missing`) in its _Home's list, or in none of them; `live` says which
#   a _Home is in _homes exactly while its list holds an entry
#   generations rise by one with every new entry and are never given twice; a renewed entry keeps its generation
#   per actor id the order is (epoch, missing): what is older in it never replaces what is newer
#
# Nothing here can be part of a reference cycle (ids are exact strs, links are plain pointers), so no type of this
# file is seen by the garbage collector: a hundred thousand entries cost its passes nothing.

cimport cython
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    UNKNOWN_EPOCH = -1              # of a "not found" that carries no epoch: older than any

cdef struct Link:                   # a place in a circular list; its head is a Link without an owner
    Link* prev
    Link* next
    void* owner                     # Location, borrowed: valid while the link is in a list

# Plain C on links. A link that is in no list points to itself.
cdef inline void link_init(Link* link, void* owner) noexcept nogil:
    link.prev = link.next = link
    link.owner = owner

cdef inline void link_remove(Link* link) noexcept nogil:
    link.prev.next = link.next
    link.next.prev = link.prev
    link.prev = link.next = link

cdef inline void link_insert(Link* head, Link* link) noexcept nogil:
    link.prev = head
    link.next = head.next
    head.next.prev = link
    head.next = link

@cython.final
@cython.no_gc
cdef class _Home:
    cdef str node
    cdef Link entries               # head of the list of this node's entries

# A holder may keep an entry and use it without asking the cache again while location_serves(entry, now).
@cython.final
@cython.no_gc
cdef class Location:
    # What a hit touches comes first: one cache line.
    cdef Link by_use
    cdef readonly int64_t expires_ns
    cdef readonly bint live         # it is the cache's entry for this id; once False, False for ever
    cdef readonly bint missing      # known not to exist anywhere
    cdef readonly int64_t refresh_ns    # from here on a new look-up pays; INT64_MAX once one was claimed
    cdef readonly uint64_t generation   # of this entry; goes into `invalidate`
    cdef readonly int64_t epoch     # of the ownership, as the directory counts it
    cdef readonly str actor_id
    cdef readonly str node          # None: `missing`
    cdef readonly bint durable      # its record says so: what is for it is numbered from the first message on
    cdef _Home home                 # None: `missing`
    cdef Link by_node

    # True once in the last fifth of the entry's life: the one who hears it looks the actor up again.
    cpdef bint claim_refresh(self, int64_t now) noexcept

cdef inline bint location_serves(Location entry, int64_t now) noexcept:
    return entry.live and now < entry.expires_ns and not entry.missing

@cython.final
@cython.no_gc
cdef class LocationCache:
    cdef dict _entries              # actor id -> Location
    cdef dict _homes                # node -> _Home
    cdef Link _used                 # head: next is the most recently used entry, prev the one that is evicted first
    cdef uint64_t _generation       # of the newest entry
    cdef readonly Py_ssize_t max_entries
    cdef readonly int64_t ttl_ns
    cdef readonly int64_t missing_ttl_ns
    cdef public bint serve_expired  # degraded mode: what cannot be looked up again is served as it was
    cdef readonly uint64_t hits     # `missing` ones and stale ones too
    cdef readonly uint64_t stale_hits
    cdef readonly uint64_t misses
    cdef readonly uint64_t evictions
    cdef readonly uint64_t expirations
    cdef readonly uint64_t invalidations

    cpdef Location get(self, str actor_id, int64_t now)
    cpdef Location peek(self, str actor_id)
    cpdef Location put(self, str actor_id, str node, int64_t epoch, int64_t now, bint durable=*)
    cpdef Location put_missing(self, str actor_id, int64_t now, int64_t epoch=*)
    cpdef bint invalidate(self, str actor_id, uint64_t generation=*) except -1
    cpdef Py_ssize_t invalidate_node(self, str node) except -1
    cpdef Py_ssize_t clear(self) except -1

    cdef bint _outlives(self, Location entry) except -1
    cdef Location _insert(self, str actor_id, _Home home, int64_t epoch, int64_t now)
    cdef _Home _home(self, str node)
    cdef void _renew(self, Location entry, int64_t now) noexcept
    cdef int _drop(self, Location entry) except -1
