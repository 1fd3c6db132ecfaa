# The wire's layout, in one place. docs/wire-protocol.md says it in words. All integers little-endian.
#
#   frame   magic u8 | version u8 | type u8 | flags u8 | length u32 (of the body) | sequence u64 | body
#   record  size u32 (of what follows) | target u32 | kind u8 | flags u8 | options u16 (their length) | options | payload
#
# Records stand in DATA frames. All kinds but NAME are numbered: the frame's sequence is its first numbered record's.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from cajun_fast._core.wire cimport load_le32, load_le64, store_le32, store_le64

cdef enum:
    MAGIC = 0xCF
    VERSION = 1                     # of this layout; what may be said in it is agreed on in HELLO
    FRAME_HEADER = 16
    RECORD_HEADER = 12
    FRAME_FULL = 64 * 1024          # a DATA frame is closed once its body is this long
    RECORD_MOST = 64 * 1024         # a record with its header; longer payloads travel as bulk
    CONTROL_MOST = 64 * 1024        # the body of any frame but DATA and BULK
    BULK_CHUNK = 32 * 1024          # bytes of a chunk for a peer that has not said that it takes more
    BULK_CHUNK_LARGE = 256 * 1024   # and for one that has
    BULK_CHUNK_MOST = 320 * 1024    # a last one may be longer by a quarter
    BULK_HEADER = 8                 # total u32 | offset u32, in front of a chunk

cdef enum FrameType:
    HELLO = 1
    REFUSE = 2
    RESUME = 3
    START = 4
    AUTH = 5
    DATA = 16
    BULK = 17
    ACK = 32
    ROOM = 33
    PING = 34
    BYE = 35

cdef enum RecordFlag:
    GUARANTEE = 0x03
    WITH_SENDER = 0x04              # option: name u32
    WITH_TAG = 0x08                 # option: u64
    WITH_DEADLINE = 0x10            # option: milliseconds left u32
    WITH_ORIGIN = 0x20              # option: name u32 of the node that asked
    NUMBERED = 0x40                 # for its target: the payload begins with a header of its own, see mail.pxd
    IN_BULK = 0x80                  # the payload is the u32 id of a finished transfer

# Behind the options that the flags name may stand further ones: kind u8 | length u16 | value. Whoever does not know a
# kind passes over it, and whoever knows none of them over all.
cdef enum:
    EXTRA_HEADER = 3
    TRACE = 1                       # kind: trace id 16 bytes | parent span's id 8 | W3C flags u8 | tracestate, ASCII
    TRACE_LEAST = 25
    TRACE_MOST = 25 + 512

cdef struct Header:
    uint8_t magic
    uint8_t version
    uint8_t type
    uint8_t flags
    uint32_t length
    uint64_t sequence

cdef inline void put_header(unsigned char *at, uint8_t type, uint32_t length, uint64_t sequence) noexcept nogil:
    at[0] = MAGIC
    at[1] = VERSION
    at[2] = type
    at[3] = 0
    store_le32(at + 4, length)
    store_le64(at + 8, sequence)

cdef inline Header get_header(const unsigned char *at) noexcept nogil:
    cdef Header header
    header.magic = at[0]
    header.version = at[1]
    header.type = at[2]
    header.flags = at[3]
    header.length = load_le32(at + 4)
    header.sequence = load_le64(at + 8)
    return header

# A record, taken apart in place: pointers into the buffer it was read from.
cdef struct Record:
    uint32_t target
    uint8_t kind
    uint8_t flags
    uint32_t sender
    uint64_t tag
    uint32_t deadline
    uint32_t origin
    const unsigned char *trace      # of a message that is traced, else NULL
    Py_ssize_t trace_size
    const unsigned char *payload
    Py_ssize_t size

# `at` points behind the size field, `size` is its value (at least 8). False: the options do not fit.
cdef bint get_record(const unsigned char *at, Py_ssize_t size, Record *record) noexcept nogil

cdef inline Py_ssize_t options_size(uint8_t flags) noexcept nogil:
    return (4 * ((flags & WITH_SENDER) != 0) + 8 * ((flags & WITH_TAG) != 0)
            + 4 * ((flags & WITH_DEADLINE) != 0) + 4 * ((flags & WITH_ORIGIN) != 0))
