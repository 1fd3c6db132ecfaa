# cython: binding=False
"""Rendezvous hashing: which node for a key, the same answer everywhere. rendezvous.pxd tells the formulas.

Laws: pure functions. The answer depends on the text of the ids and the weights alone; never on the order of the nodes,
on Python's ``hash()``, on floating point or on the machine. The highest draw wins; on a tie, the smaller id.

The hash is XXH64: published with a specification and test vectors, found in every language (so a dashboard or a script
can compute an owner too), and it takes a seed. Cajun scores the first 8 bytes of SHA-256(key + ":" + node) as a signed
number. We do not agree with it. Nothing would be gained: a Cajun node and ours cannot be in one cluster, their messages
differ. And it costs: 1,300 ns a node and key by hashlib against our 50 (bench/test_rendezvous.py); "a:b" + ":" + "c" is
"a" + ":" + "b:c", so that different pairs share a draw; and on a tie the first of an unordered collection wins. Its
scheme is kept in the tests, as the reference that our spread is compared with.

With weights, a node of weight w draws log2(u) / w for u = score / 2**64, which gives it w of the sum of weights of all
keys, and a change of one weight moves keys to or from that node only. The logarithm is computed with whole numbers.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from cajun_fast._core.checks cimport whole

cdef extern from *:
    """
    #define CAJUN_P1 0x9E3779B185EBCA87ULL
    #define CAJUN_P2 0xC2B2AE3D27D4EB4FULL
    #define CAJUN_P3 0x165667B19E3779F9ULL
    #define CAJUN_P4 0x85EBCA77C2B2AE63ULL
    #define CAJUN_P5 0x27D4EB2F165667C5ULL
    """
    const uint64_t P1 "CAJUN_P1"
    const uint64_t P2 "CAJUN_P2"
    const uint64_t P3 "CAJUN_P3"
    const uint64_t P4 "CAJUN_P4"
    const uint64_t P5 "CAJUN_P5"


# ---- XXH64: steps as in the specification of xxHash ------------------------------------------------------------------

cdef inline uint64_t read_32(const unsigned char* data) noexcept nogil:
    """Four bytes, the lowest first."""
    return (<uint64_t> data[0] | <uint64_t> data[1] << 8 | <uint64_t> data[2] << 16 | <uint64_t> data[3] << 24)


cdef inline uint64_t read_64(const unsigned char* data) noexcept nogil:
    """Eight bytes, the lowest first."""
    return read_32(data) | read_32(data + 4) << 32


cdef inline uint64_t rotated(uint64_t value, int bits) noexcept nogil:
    return value << bits | value >> (64 - bits)


cdef inline uint64_t round_of(uint64_t accumulator, uint64_t lane) noexcept nogil:
    return rotated(accumulator + lane * P2, 31) * P1


cdef inline uint64_t merged(uint64_t accumulator, uint64_t other) noexcept nogil:
    return (accumulator ^ round_of(0, other)) * P1 + P4


cdef uint64_t stripes_of(const unsigned char* data, size_t stripes, uint64_t seed) noexcept nogil:
    """Steps 1 to 3, for stripes of 32 bytes."""
    cdef uint64_t one = seed + P1 + P2, two = seed + P2, three = seed, four = seed - P1
    while stripes:
        one = round_of(one, read_64(data))
        two = round_of(two, read_64(data + 8))
        three = round_of(three, read_64(data + 16))
        four = round_of(four, read_64(data + 24))
        data += 32
        stripes -= 1
    cdef uint64_t total = rotated(one, 1) + rotated(two, 7) + rotated(three, 12) + rotated(four, 18)
    return merged(merged(merged(merged(total, one), two), three), four)


cdef uint64_t rest_of(const unsigned char* data, size_t length, uint64_t total) noexcept nogil:
    """Step 5, for what is left of less than 32 bytes."""
    while length >= 8:
        total = rotated(total ^ round_of(0, read_64(data)), 27) * P1 + P4
        data += 8
        length -= 8
    if length >= 4:
        total = rotated(total ^ read_32(data) * P1, 23) * P2 + P3
        data += 4
        length -= 4
    while length:
        total = rotated(total ^ data[0] * P5, 11) * P1
        data += 1
        length -= 1
    return total


cdef uint64_t xxh64_of(const unsigned char* data, size_t length, uint64_t seed) noexcept nogil:
    cdef size_t stripes = length >> 5
    cdef uint64_t total = stripes_of(data, stripes, seed) if stripes else seed + P5
    total = rest_of(data + (stripes << 5), length & 31, total + length)
    total = (total ^ total >> 33) * P2
    total = (total ^ total >> 29) * P3
    return total ^ total >> 32


def xxh64(bytes data not None, uint64_t seed=0):
    """The published hash XXH64 of some bytes, a whole number below 2**64."""
    return xxh64_of(<const unsigned char*> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), seed)


cdef inline uint64_t text_hash(str text, uint64_t seed) except? 0:
    """XXH64 of a text's UTF-8. Raises UnicodeEncodeError for half a surrogate pair, TypeError for None."""
    cdef Py_ssize_t length = 0
    if text is None:
        raise TypeError("a key or an id is None: give a str")
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &length)
    return xxh64_of(<const unsigned char*> data, length, seed)


# ---- Draws -----------------------------------------------------------------------------------------------------------

cdef enum:
    HEAVIEST = 1_000_000                # times the greatest depth, 2**38, that is below 2**58


cdef uint64_t depth_of(uint64_t score) noexcept nogil:
    """-log2(score / 2**64) with 32 binary places, at least 1; the higher the score, the smaller or equal.

    The binary places come out one at a time: squaring a number in [1, 2) doubles its logarithm.
    """
    cdef uint64_t mantissa = score if score else 1, places = 0
    cdef int whole_part = 63, wanted = 32
    while not mantissa >> 63:
        mantissa <<= 1
        whole_part -= 1
    mantissa >>= 32                     # 1 + 31 bits: its square fits
    while wanted:
        mantissa *= mantissa
        places = places << 1 | mantissa >> 63
        mantissa >>= 31 + (mantissa >> 63)
        wanted -= 1
    return (<uint64_t> 64 << 32) - (<uint64_t> whole_part << 32 | places)


cdef bint beats(const Draw* one, const Draw* other) noexcept nogil:
    """The larger weight / depth; then the larger score; then the smaller id, byte by byte."""
    cdef uint64_t left = one.weight * other.depth, right = other.weight * one.depth
    if left != right:
        return left > right
    if one.score != other.score:
        return one.score > other.score
    cdef Py_ssize_t common = one.id_length if one.id_length < other.id_length else other.id_length
    cdef int order = memcmp(one.id, other.id, common)
    return order < 0 if order else one.id_length < other.id_length


cdef uint64_t weight_of(str node, dict weights) except 0:
    weight = weights.get(node, 1)
    if type(weight) is int and 1 <= weight <= HEAVIEST:
        return weight
    return whole(weight, f"weight of node {node!r}", 1, HEAVIEST)


cdef int draw(Draw* drawn, str key, str node, dict weights) except -1:
    """What a node draws for a key; a node without a weight has 1."""
    drawn.score = score(key, node)
    drawn.id = PyUnicode_AsUTF8AndSize(node, &drawn.id_length)
    drawn.node = <void*> node
    drawn.weight = drawn.depth = 1
    if weights is not None:
        drawn.weight = weight_of(node, weights)
        drawn.depth = depth_of(drawn.score)
    return 0


cdef tuple held_nodes(object nodes):
    """The nodes, held while pointers to them are compared.

    Raises TypeError for a str or what is not iterable, ValueError for no nodes at all.
    """
    if isinstance(nodes, str):
        raise TypeError(f"nodes={nodes!r} is one str: give a collection of node ids")
    cdef tuple held = tuple(nodes)
    if not held:
        raise ValueError("nodes is empty: there is no node to choose, give at least one node id")
    return held


cpdef uint64_t score(str key, str node) except? 0:
    """What a node draws for a key: XXH64(key, seed=XXH64(node)), both in UTF-8."""
    return text_hash(key, text_hash(node, 0))


cpdef str assign_key(str key, object nodes, dict weights=None):
    """The node of a key.

    ``nodes``: ids, in any order, doubles do no harm. ``weights``: node id -> int from 1 to 1,000,000, its share against
    the others; a node that is not named has 1. Raises ValueError for no nodes or a weight out of range, TypeError for
    what is not text.
    """
    cdef Draw best, drawn
    cdef tuple held = held_nodes(nodes)
    draw(&best, key, held[0], weights)
    for place in range(1, len(held)):
        draw(&drawn, key, held[place], weights)
        if beats(&drawn, &best):
            best = drawn
    return <str> best.node


cpdef list get_top_nodes(str key, object nodes, int64_t count, dict weights=None):
    """The ``count`` first nodes of a key, the best first: its owner, then who follows when that one is lost.

    Fewer if there are fewer nodes. Arguments and errors as for assign_key; also ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count={count} is out of range: ask for at least one node")
    cdef tuple held = held_nodes(nodes)
    cdef Py_ssize_t most = min(count, len(held)), kept = 0
    cdef Draw drawn
    cdef Draw* best = <Draw*> PyMem_Malloc(most * sizeof(Draw))
    if best == NULL:
        raise MemoryError
    try:
        for node in held:
            draw(&drawn, key, node, weights)
            kept = insert_draw(best, kept, most, &drawn)
        return [<str> best[place].node for place in range(kept)]
    finally:
        PyMem_Free(best)


cdef Py_ssize_t insert_draw(Draw* best, Py_ssize_t kept, Py_ssize_t most, const Draw* drawn) noexcept nogil:
    """A draw into its place among the best so far, unless it is none of them or stands there already."""
    cdef Py_ssize_t place = kept
    while place and beats(drawn, &best[place - 1]):
        place -= 1
    if place and not beats(&best[place - 1], drawn):
        return kept                     # neither beats the other: the same node once more
    if place == most:
        return kept
    cdef Py_ssize_t last = kept if kept < most else most - 1
    for kept in range(last, place, -1):
        best[kept] = best[kept - 1]
    best[place] = drawn[0]
    return last + 1


cpdef int64_t shard_of(str actor_id, int64_t shard_count) except -1:
    """The shard of an id, from 0 to ``shard_count`` - 1; every node must say the same shard_count.

    Raises ValueError for a shard_count below 1.
    """
    if shard_count < 1:
        raise ValueError(f"shard_count={shard_count} is out of range: give at least one shard")
    return text_hash(actor_id, 0) % <uint64_t> shard_count
