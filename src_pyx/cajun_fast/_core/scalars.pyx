"""msgpack's scalars: what is rare about them, and what ends in an error. See scalars.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport Py_INCREF, Py_XDECREF

import datetime

from cajun_fast._core.wire cimport load_be16, load_be32

from cajun_fast.errors import SerializationError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object s, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeUTF8(const char *s, Py_ssize_t size, const char *errors)
    long long PyLong_AsLongLongAndOverflow(object o, int *overflow) except? -1
    void PyUnicode_InternInPlace(PyObject **text) noexcept

cdef enum:
    MAY_INTERN = 4096

cdef object EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
cdef object MICROSECOND = datetime.timedelta(microseconds=1)


# ---- writing -------------------------------------------------------------------------------------------------

cdef int write_text(OutBuf out, object value) except -1:
    cdef Py_ssize_t size
    cdef const char *text
    try:
        text = PyUnicode_AsUTF8AndSize(value, &size)
    except UnicodeEncodeError as error:
        raise SerializationError(f"text that has no utf-8 form: {error}") from error
    if size > <Py_ssize_t>0xFFFFFFFF:
        raise SerializationError(f"a text of {size} bytes is over msgpack's limit of 4 GiB")
    return put_text(out, <const unsigned char *>text, size)


cdef int write_long(OutBuf out, object value) except -1:
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef unsigned char *at
    if not overflow:
        return put_int(out, number)
    if 0 < value <= 0xFFFFFFFFFFFFFFFF:
        at = out.room(9)
        at[0] = 0xCF
        store_be64(at + 1, value)
        out.used += 9
        return 0
    return write_ext(out, EXT_BIGINT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


cdef int write_bin(OutBuf out, bytes data) except -1:
    cdef Py_ssize_t size = len(data)
    cdef unsigned char *at = out.room(5)
    if size < 256:
        at[0] = 0xC4
        at[1] = <uint8_t>size
        at += 2
    elif size < 65536:
        at[0] = 0xC5
        store_be16(at + 1, <uint16_t>size)
        at += 3
    elif size <= <Py_ssize_t>0xFFFFFFFF:
        at[0] = 0xC6
        store_be32(at + 1, <uint32_t>size)
        at += 5
    else:
        raise SerializationError(f"{size} bytes are over msgpack's limit of 4 GiB")
    out.used = at - out.data
    return out.add(data)


cdef int write_ext(OutBuf out, int code, bytes payload) except -1:
    cdef Py_ssize_t size = len(payload)
    cdef unsigned char *at = out.room(6)
    if size in (1, 2, 4, 8, 16):
        at[0] = 0xD4 + (size.bit_length() - 1)
        at += 1
    elif size < 256:
        at[0] = 0xC7
        at[1] = <uint8_t>size
        at += 2
    elif size < 65536:
        at[0] = 0xC8
        store_be16(at + 1, <uint16_t>size)
        at += 3
    else:
        at[0] = 0xC9
        store_be32(at + 1, <uint32_t>size)
        at += 5
    at[0] = <uint8_t>code
    out.used = at + 1 - out.data
    return out.add(payload)


cdef int too_many(Py_ssize_t size) except -1:
    raise SerializationError(f"a collection of {size} items is over msgpack's limit")


# ---- reading -------------------------------------------------------------------------------------------------

cdef int too_early(Py_ssize_t missing) except -1:
    raise SerializationError(f"a message ends {missing} bytes too early")


cdef object decode_utf8(const unsigned char *at, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(<const char *>at, size, NULL)
    except UnicodeDecodeError as error:
        raise SerializationError(f"text that is not utf-8: {error}") from error


cdef Py_ssize_t find_large(const unsigned char *data, Py_ssize_t size, Py_ssize_t total, Py_ssize_t *at) noexcept nogil:
    # Heads are walked flat: what stands in a collection follows its head as if it stood alone.
    cdef Py_ssize_t i = 0, head, body
    while i + 5 <= size:
        head = head_size(data[i])
        body = body_size(data + i)
        if data[i] == 0xC6 and body >= LARGE:
            at[0] = i + head
            return body if body <= total - at[0] else 0
        i += head + body
    return 0


cdef Py_ssize_t head_size(uint8_t head) noexcept nogil:
    # Bytes of a value's head.
    if head in (0xC4, 0xC7, 0xD9): return 2
    if head in (0xC5, 0xC8, 0xDA, 0xDC, 0xDE): return 3
    if head in (0xC6, 0xC9, 0xDB, 0xDD, 0xDF): return 5
    return 1


cdef Py_ssize_t body_size(const unsigned char *at) noexcept nogil:
    # Bytes behind it that hold no other values.
    cdef uint8_t head = at[0]
    if 0xA0 <= head < 0xC0: return head & 0x1F
    if head == 0xC4 or head == 0xD9: return at[1]
    if head == 0xC5 or head == 0xDA: return load_be16(at + 1)
    if head == 0xC6 or head == 0xDB: return load_be32(at + 1)
    if head == 0xC7: return 1 + at[1]
    if head == 0xC8: return 1 + load_be16(at + 1)
    if head == 0xC9: return 1 + <Py_ssize_t>load_be32(at + 1)
    if head == 0xCA or 0xCC <= head <= 0xD3: return 4 if head == 0xCA else 1 << (head & 3)
    if head == 0xCB: return 8
    if 0xD4 <= head <= 0xD8: return 1 + (1 << (head - 0xD4))
    return 0


cdef class TextCache:
    """Texts that came before."""

    def __cinit__(self):
        self.may_intern = MAY_INTERN

    def __dealloc__(self):
        for i in range(TEXT_SLOTS):
            Py_XDECREF(self.known[i].text)

    cdef object learn(self, KnownText *slot, const unsigned char *at, uint32_t size, uint64_t first, uint64_t last):
        cdef PyObject *before
        text = new_ascii(at, size) if size > 1 and all_ascii(at, size) else decode_utf8(at, size)
        if size <= SHORT_TEXT or is_ascii(<PyObject *>text):    # longer ones are compared by their data
            before = slot.text
            Py_INCREF(text)
            slot.text = <PyObject *>text
            slot.first = first
            slot.last = last
            slot.size = size
            slot.interned = False
            Py_XDECREF(before)
        return text

    cdef void intern(self, KnownText *slot) noexcept:
        slot.interned = True
        if self.may_intern > 0:
            self.may_intern -= 1
            PyUnicode_InternInPlace(&slot.text)


# ---- instants ------------------------------------------------------------------------------------------------

cdef bytes timestamp_bytes(value):
    """msgpack's timestamp, the shortest of its three forms; the instant travels, the zone does not."""
    if value.tzinfo is None:
        raise SerializationError(
            f"{value!r} has no time zone, so it names no instant: use datetime.now(timezone.utc) or send text")
    micros = (value - EPOCH) // MICROSECOND
    seconds, micro = divmod(micros, 1_000_000)
    if 0 <= seconds < 1 << 34:
        packed = (micro * 1000) << 34 | seconds
        return packed.to_bytes(4 if packed < 1 << 32 else 8, "big")
    return (micro * 1000).to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True)


cdef object timestamp_value(bytes data):
    if len(data) == 4:
        seconds, nanos = int.from_bytes(data, "big"), 0
    elif len(data) == 8:
        packed = int.from_bytes(data, "big")
        seconds, nanos = packed & ((1 << 34) - 1), packed >> 34
    elif len(data) == 12:
        seconds, nanos = int.from_bytes(data[4:], "big", signed=True), int.from_bytes(data[:4], "big")
    else:
        raise SerializationError(f"a timestamp of {len(data)} bytes: 4, 8 or 12 are possible")
    try:
        return EPOCH + datetime.timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError as error:
        raise SerializationError(f"a timestamp outside of datetime's years: {seconds} s") from error
