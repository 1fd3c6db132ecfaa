# Rendezvous (highest random weight) hashing: every node draws a number for a key, the highest draw owns the key.
# Whoever knows the key and the nodes' ids knows the owner: nothing is stored, nothing is asked, and losing a node moves
# that node's keys only.
#
#   score(key, node) = XXH64(key in UTF-8, seed = XXH64(node in UTF-8, seed 0))
#
# Whole numbers only, bytes put together by hand: the same answer in every process, on every machine, byte order,
# compiler and version. These formulas are part of the wire protocol: nodes of two releases must agree on them.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

cdef struct Draw:
    const char* id              # UTF-8 of `node`, for ties
    Py_ssize_t id_length
    void* node                  # borrowed: a tuple holds it while draws are compared
    uint64_t score
    uint64_t weight
    uint64_t depth              # of the score below the top, see depth_of; 1 for all when nothing is weighted

# The published hash, by its specification (see rendezvous.pyx).
cdef uint64_t xxh64_of(const unsigned char* data, size_t length, uint64_t seed) noexcept nogil

cpdef uint64_t score(str key, str node) except? 0
cpdef str assign_key(str key, object nodes, dict weights=*)
cpdef list get_top_nodes(str key, object nodes, int64_t count, dict weights=*)

# Which of `shard_count` shards an id belongs to: XXH64(id in UTF-8, seed 0) modulo shard_count.
cpdef int64_t shard_of(str actor_id, int64_t shard_count) except -1
