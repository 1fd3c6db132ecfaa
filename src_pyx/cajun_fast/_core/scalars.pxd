# msgpack's scalars, to and from memory: what most of a message consists of, so all of it that is hot is inline here.
#
#   writing   put_* into an OutBuf; write_scalar for a value of any exact plain type
#   reading   a Cursor, and `need`; TextCache for the short texts that come again and again (keys, names of operations)
#
# Laws: nothing here runs a user's code, so borrowed references stay good throughout. What is rare or raises is in
# scalars.pyx, out of the way of the machine code that is always needed.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from cpython.object cimport PyObject

from cajun_fast._core.outbuf cimport OutBuf
from cajun_fast._core.wire cimport store_be16, store_be32, store_be64

cdef extern from *:
    """
    #ifndef CAJUN_SCALARS
    #define CAJUN_SCALARS
    #if PY_VERSION_HEX >= 0x030C0000
    static inline int cajun_compact(PyObject *o, long long *v) {
        if (!PyUnstable_Long_IsCompact((PyLongObject *)o)) return 0;
        *v = (long long)PyUnstable_Long_CompactValue((PyLongObject *)o);
        return 1;
    }
    #else
    static inline int cajun_compact(PyObject *o, long long *v) {
        Py_ssize_t size = Py_SIZE(o);
        if (size < -1 || size > 1) return 0;
        *v = (long long)size * (long long)((PyLongObject *)o)->ob_digit[0];
        return 1;
    }
    #endif
    static inline int cajun_all_ascii(const unsigned char *at, Py_ssize_t size) {
        uint64_t word, seen = 0;
        Py_ssize_t i = 0;
        for (; i + 8 <= size; i += 8) { memcpy(&word, at + i, 8); seen |= word; }
        for (; i < size; i++) seen |= (uint64_t)(at[i] & 0x80);
        return (seen & 0x8080808080808080ULL) == 0;
    }
    static inline PyObject *cajun_new_ascii(const unsigned char *at, Py_ssize_t size) {
        PyObject *text = PyUnicode_New(size, 127);
        if (text != NULL) memcpy(PyUnicode_1BYTE_DATA(text), at, (size_t)size);
        return text;
    }
    #define cajun_is(o, type) (Py_TYPE(o) == &(type))
    #endif
    """
    # The value of an int of one digit; False for a longer one.
    bint compact "cajun_compact"(PyObject *value, long long *number) noexcept
    bint all_ascii "cajun_all_ascii"(const unsigned char *at, Py_ssize_t size) noexcept
    object new_ascii "cajun_new_ascii"(const unsigned char *at, Py_ssize_t size)
    bint is_str "PyUnicode_CheckExact"(PyObject *value) noexcept
    bint is_int "PyLong_CheckExact"(PyObject *value) noexcept
    bint is_float "PyFloat_CheckExact"(PyObject *value) noexcept
    bint is_ascii "PyUnicode_IS_COMPACT_ASCII"(PyObject *text) noexcept
    Py_ssize_t ascii_size "PyUnicode_GET_LENGTH"(PyObject *text) noexcept
    const unsigned char *ascii_data "PyUnicode_1BYTE_DATA"(PyObject *text) noexcept
    double float_value "PyFloat_AS_DOUBLE"(PyObject *value) noexcept
    PyObject *NONE "Py_None"
    PyObject *TRUE "Py_True"
    PyObject *FALSE "Py_False"

cdef enum ExtCode:
    EXT_TIMESTAMP = -1      # msgpack's own
    EXT_PID = 1             # utf-8 actor id
    EXT_TYPED = 2           # str name, then the value's plain form: see messaging/serializer.py
    EXT_BIGINT = 3          # two's complement, big-endian, shortest form
    EXT_SET = 4             # an array

# ---- Rare, or the end: in scalars.pyx --------------------------------------------------------------------------------

cdef enum:
    LARGE = 64 * 1024           # bytes objects from this size on are read to where they stay

# The first bytes object of that size whose head is among the first `size` bytes of a message of `total`; 0: none.
cdef Py_ssize_t find_large(const unsigned char *data, Py_ssize_t size, Py_ssize_t total, Py_ssize_t *at) noexcept nogil

cdef int write_text(OutBuf out, object value) except -1         # not ASCII, or too long
cdef int write_long(OutBuf out, object value) except -1         # more than one digit
cdef int write_bin(OutBuf out, bytes data) except -1
cdef int write_ext(OutBuf out, int code, bytes payload) except -1
cdef int too_many(Py_ssize_t size) except -1
cdef int too_early(Py_ssize_t missing) except -1
cdef object decode_utf8(const unsigned char *at, Py_ssize_t size)
cdef bytes timestamp_bytes(value)
cdef object timestamp_value(bytes data)

# ---- Writing ---------------------------------------------------------------------------------------------------------

cdef inline int put_byte(OutBuf out, uint8_t byte) except -1:
    out.room(1)[0] = byte
    out.used += 1
    return 0

# The text's bytes are utf-8 already; at most 4 GiB of them.
cdef inline int put_text(OutBuf out, const unsigned char *text, Py_ssize_t size) except -1:
    cdef unsigned char *at = out.room(size + 5)
    if size < 32:
        at[0] = <uint8_t>(0xA0 | size)
        at += 1
    elif size < 256:
        at[0] = 0xD9
        at[1] = <uint8_t>size
        at += 2
    elif size < 65536:
        at[0] = 0xDA
        store_be16(at + 1, <uint16_t>size)
        at += 3
    else:
        at[0] = 0xDB
        store_be32(at + 1, <uint32_t>size)
        at += 5
    memcpy(at, text, size)
    out.used = at + size - out.data
    return 0

cdef inline int put_int(OutBuf out, int64_t number) except -1:
    cdef unsigned char *at = out.room(9)
    if -32 <= number < 128:
        at[0] = <uint8_t>number
        out.used += 1
    elif number >= 0:
        if number < 256:
            at[0] = 0xCC
            at[1] = <uint8_t>number
            out.used += 2
        elif number < 65536:
            at[0] = 0xCD
            store_be16(at + 1, <uint16_t>number)
            out.used += 3
        elif number <= <int64_t>0xFFFFFFFF:
            at[0] = 0xCE
            store_be32(at + 1, <uint32_t>number)
            out.used += 5
        else:
            at[0] = 0xCF
            store_be64(at + 1, <uint64_t>number)
            out.used += 9
    elif number >= -128:
        at[0] = 0xD0
        at[1] = <uint8_t>number
        out.used += 2
    elif number >= -32768:
        at[0] = 0xD1
        store_be16(at + 1, <uint16_t>number)
        out.used += 3
    elif number >= -2147483648:
        at[0] = 0xD2
        store_be32(at + 1, <uint32_t>number)
        out.used += 5
    else:
        at[0] = 0xD3
        store_be64(at + 1, <uint64_t>number)
        out.used += 9
    return 0

cdef inline int put_float(OutBuf out, double number) except -1:
    cdef uint64_t bits
    cdef unsigned char *at = out.room(9)
    memcpy(&bits, &number, 8)
    at[0] = 0xCB
    store_be64(at + 1, bits)
    out.used += 9
    return 0

# How many items follow: `small` holds up to 15 of them, `wide` is the code for 16 bits, the next one that for 32.
cdef inline int put_size(OutBuf out, Py_ssize_t size, uint8_t small, uint8_t wide) except -1:
    cdef unsigned char *at = out.room(5)
    if size <= 15:
        at[0] = <uint8_t>(small | size)
        out.used += 1
    elif size < 65536:
        at[0] = wide
        store_be16(at + 1, <uint16_t>size)
        out.used += 3
    elif size <= <Py_ssize_t>0xFFFFFFFF:
        at[0] = wide + 1
        store_be32(at + 1, <uint32_t>size)
        out.used += 5
    else:
        too_many(size)
    return 0

# Write a str, int, float, bool or None of exactly that type: 1. Anything else: 0, and nothing is written.
cdef inline int write_scalar(OutBuf out, PyObject *value) except -1:
    cdef long long number
    if is_str(value):
        if is_ascii(value) and ascii_size(value) <= <Py_ssize_t>0xFFFFFFFF:
            put_text(out, ascii_data(value), ascii_size(value))
        else:
            write_text(out, <object>value)
        return 1
    if is_int(value):
        if compact(value, &number):
            put_int(out, number)
        else:
            write_long(out, <object>value)
        return 1
    if is_float(value):
        put_float(out, float_value(value))
        return 1
    if value is NONE:
        put_byte(out, 0xC0)
        return 1
    if value is TRUE or value is FALSE:
        put_byte(out, 0xC3 if value is TRUE else 0xC2)
        return 1
    return 0

# ---- Reading ---------------------------------------------------------------------------------------------------------

cdef struct Cursor:
    const unsigned char *at
    const unsigned char *end
    int depth
    const unsigned char *large_at   # here the bytes of `large` would stand, which are not in the buffer; NULL: nowhere
    PyObject *large                 # borrowed

# The next `size` bytes, passed over. SerializationError if the message ends before.
cdef inline const unsigned char *need(Cursor *c, Py_ssize_t size) except NULL:
    cdef const unsigned char *at = c.at
    if size > c.end - at:
        too_early(size - (c.end - at))
    c.at = at + size
    return at

cdef enum:
    TEXT_SLOTS = 512            # power of two
    TEXT_BITS = 9
    SHORT_TEXT = 16             # bytes: up to here first and last hold all of it
    CACHED_TEXT = 40

cdef struct KnownText:
    PyObject *text              # owned; NULL: an empty slot
    uint64_t first, last        # its bytes, overlapping in the middle
    uint32_t size
    bint interned               # it came more than once

# Texts as they were decoded before, by their bytes. One that comes again is interned (a handler's look-up then finds it
# by identity), but only so many: a peer chooses them, and from Python 3.12 on an interned text is never freed.
cdef class TextCache:
    cdef KnownText known[TEXT_SLOTS]
    cdef int may_intern

    cdef object learn(self, KnownText *slot, const unsigned char *at, uint32_t size, uint64_t first, uint64_t last)
    cdef void intern(self, KnownText *slot) noexcept

    # 1 to CACHED_TEXT bytes of utf-8.
    cdef inline object text(self, const unsigned char *at, uint32_t size):
        cdef uint64_t first = 0, last = 0, mixed
        cdef KnownText *slot
        if size >= 8:
            memcpy(&first, at, 8)
            memcpy(&last, at + size - 8, 8)
        elif size >= 4:
            memcpy(&first, at, 4)
            memcpy(&last, at + size - 4, 4)
        else:
            first = at[0] | <uint64_t>at[size >> 1] << 8 | <uint64_t>at[size - 1] << 16
        mixed = (first ^ (last << 21 | last >> 43) ^ size) * <uint64_t>0x9E3779B97F4A7C15
        slot = &self.known[mixed >> (64 - TEXT_BITS)]
        if (slot.text is not NULL and slot.first == first and slot.last == last and slot.size == size
                and (size <= SHORT_TEXT or memcmp(ascii_data(slot.text), at, size) == 0)):
            if not slot.interned:
                self.intern(slot)
            return <object>slot.text
        return self.learn(slot, at, size, first, last)
