"""Frames and records on the wire. See frame.pxd, and docs/wire-protocol.md for the words."""

from cajun_fast._core.wire cimport load_le16, load_le32, load_le64

from cajun_fast.errors import ProtocolError

MAGIC_BYTE = MAGIC
FRAME_VERSION = VERSION
HEADER_SIZE = FRAME_HEADER
TYPES = {
    "HELLO": HELLO, "REFUSE": REFUSE, "RESUME": RESUME, "START": START, "AUTH": AUTH, "DATA": DATA, "BULK": BULK,
    "ACK": ACK, "ROOM": ROOM, "PING": PING, "BYE": BYE,
}


cdef bint get_record(const unsigned char *at, Py_ssize_t size, Record *record) noexcept nogil:
    cdef Py_ssize_t options
    cdef const unsigned char *option
    record.target = load_le32(at)
    record.kind = at[4]
    record.flags = at[5]
    options = load_le16(at + 6)
    if 8 + options > size or options < options_size(record.flags):
        return False
    option = at + 8
    record.sender = 0
    record.tag = 0
    record.deadline = 0
    record.origin = 0
    record.trace = NULL
    if record.flags & WITH_SENDER:
        record.sender = load_le32(option)
        option += 4
    if record.flags & WITH_TAG:
        record.tag = load_le64(option)
        option += 8
    if record.flags & WITH_DEADLINE:
        record.deadline = load_le32(option)
        option += 4
    if record.flags & WITH_ORIGIN:
        record.origin = load_le32(option)
    if options != options_size(record.flags):
        find_trace(at + 8 + options_size(record.flags), options - options_size(record.flags), record)
    record.payload = at + 8 + options
    record.size = size - 8 - options
    return True


cdef void find_trace(const unsigned char *at, Py_ssize_t left, Record *record) noexcept nogil:
    """Look through the options that no flag names; what does not fit is passed over, like what is not known."""
    cdef Py_ssize_t size
    while left >= EXTRA_HEADER:
        size = load_le16(at + 1)
        if EXTRA_HEADER + size > left:
            return
        if at[0] == TRACE and TRACE_LEAST <= size <= TRACE_MOST:
            record.trace = at + EXTRA_HEADER
            record.trace_size = size
            return
        at += EXTRA_HEADER + size
        left -= EXTRA_HEADER + size


def encode_frame(int type, bytes body=b"", uint64_t sequence=0):
    """A whole frame; for everything that is not on the hot path."""
    cdef unsigned char header[FRAME_HEADER]
    put_header(header, type, len(body), sequence)
    return header[:FRAME_HEADER] + body


def decode_header(bytes data):
    """(type, flags, length, sequence) of a frame's first 16 bytes. Raises ProtocolError for what is no frame."""
    if len(data) < FRAME_HEADER:
        raise ProtocolError(f"a frame's header has {FRAME_HEADER} bytes, got {len(data)}")
    cdef const unsigned char *at = data
    cdef Header header = get_header(at)
    if header.magic != MAGIC:
        raise ProtocolError(f"a frame begins with 0x{MAGIC:02x}, got 0x{header.magic:02x}: this is not our protocol")
    if header.version != VERSION:
        raise ProtocolError(f"frame version {header.version} is not spoken here, only {VERSION}")
    return header.type, header.flags, header.length, header.sequence
