"""The codec of messages: msgpack written straight into a link's buffer, and read in place.

Owns the mapping between Python values and bytes; knows nothing of frames. Encoding a bad value raises before anything
is sent; decoding runs no code but the constructors of registered types, and is bounded by the bytes that are there: a
length that claims more is refused before memory is asked for.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from cajun_fast._core.lane cimport Exchange, Pid
from cajun_fast._core.outbuf cimport OutBuf
from cajun_fast._core.scalars cimport (
    EXT_BIGINT, EXT_PID, EXT_SET, EXT_TIMESTAMP, EXT_TYPED, SHORT_TEXT, Cursor, TextCache, all_ascii, decode_utf8, find_large, is_str,
    need, new_ascii, put_size, timestamp_bytes, timestamp_value, write_bin, write_ext, write_scalar,
)
from cajun_fast._core.wire cimport load_be16, load_be32, load_be64

import datetime

from cajun_fast.errors import SerializationError

cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(object values, Py_ssize_t i) noexcept     # borrowed
    # The one of cpython.dict raises by itself, which costs every entry the bookkeeping of an exception.
    int dict_set "PyDict_SetItem"(PyObject *target, PyObject *key, PyObject *value) noexcept
    bint error_is_set "PyErr_Occurred"() except *

cdef object datetime_type = datetime.datetime


cdef class Serializer:
    """Port: messages to bytes and back. Made by ``Codec(...)`` or ``Foreign(...)``."""

    cdef int encode_into(self, OutBuf out, object message) except -1:
        raise NotImplementedError

    cdef object decode_from(self, const unsigned char *data, Py_ssize_t size):
        raise NotImplementedError

    cdef Py_ssize_t large_in(self, const unsigned char *data, Py_ssize_t size, Py_ssize_t total, Py_ssize_t *at) noexcept:
        return 0

    cdef object decode_around(self, const unsigned char *data, Py_ssize_t size, bytes large, Py_ssize_t at):
        return self.decode_from(data, size)

    def encode(self, message):
        """The bytes of one message. Raises SerializationError naming the value that cannot travel."""
        cdef OutBuf out = self._scratch if self._scratch is not None else OutBuf()
        self._scratch = None                # a registered type may encode while it is encoded
        out.empty()
        self.encode_into(out, message)
        self._scratch = out
        return out.take()

    def decode(self, data):
        """The message of these bytes. Raises SerializationError unless they are exactly one message."""
        cdef const unsigned char[::1] view
        if type(data) is bytes and data:
            return self.decode_from(<const unsigned char *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        view = data
        if view.shape[0] == 0:
            raise SerializationError("no bytes: a message has at least one")
        return self.decode_from(&view[0], view.shape[0])


cdef class Codec(Serializer):
    """msgpack for None, bool, int, float, str, bytes, list, tuple (comes out as list), dict, set, aware datetime, Pid
    and registered types.

    ``plain(value)`` gives the (code, payload) of a registered type or None; ``typed(payload)`` gives the value back;
    ``max_depth`` bounds nesting on both sides.
    """

    def __init__(self, exchange=None, *, plain=None, typed=None, int max_depth=64):
        self.exchange = exchange
        self.max_depth = max_depth
        self._plain = plain
        self._typed = typed
        self._texts = TextCache()

    def hooks(self, plain, typed):
        """Set what encodes and decodes registered types; they may use this codec themselves."""
        self._plain = plain
        self._typed = typed

    cdef int encode_into(self, OutBuf out, object message) except -1:
        return self.write(out, message, 0)

    cdef object decode_from(self, const unsigned char *data, Py_ssize_t size):
        return self.decode_around(data, size, None, 0)

    cdef Py_ssize_t large_in(self, const unsigned char *data, Py_ssize_t size, Py_ssize_t total, Py_ssize_t *at) noexcept:
        return find_large(data, size, total, at)

    cdef object decode_around(self, const unsigned char *data, Py_ssize_t size, bytes large, Py_ssize_t at):
        cdef Cursor cursor
        cursor.at = data
        cursor.end = data + size
        cursor.depth = self._base           # above 0 within a registered type
        cursor.large = <PyObject *>large
        cursor.large_at = NULL
        if large is not None:
            cursor.large_at = data + at
        value = self.read(&cursor)
        if cursor.at != cursor.end:
            raise SerializationError(f"{cursor.end - cursor.at} bytes left over behind the message")
        return value

    # ---- writing ---------------------------------------------------------------------------------------------

    cdef int write(self, OutBuf out, object value, int depth) except -1:
        if write_scalar(out, <PyObject *>value):
            return 0
        kind = type(value)
        if kind is dict:
            return self.write_dict(out, <dict>value, depth)
        if kind is list:
            return self.write_list(out, <list>value, depth)
        if kind is bytes:
            return write_bin(out, <bytes>value)
        return self.write_other(out, value, depth)

    cdef int write_dict(self, OutBuf out, dict value, int depth) except -1:
        cdef Py_ssize_t position = 0, size = len(value)
        cdef PyObject *key = NULL
        cdef PyObject *item = NULL
        self.deeper(depth)
        put_size(out, size, 0x80, 0xDE)
        while PyDict_Next(value, &position, &key, &item):
            # scalars run nobody's code, so they may stay borrowed; anything else may change the dict underneath
            if is_str(key) and write_scalar(out, key) and write_scalar(out, item):
                continue
            held_key, held_item = <object>key, <object>item
            self.write_entry(out, held_key, held_item, depth + 1)
            if len(value) != size:
                raise SerializationError("a dict changed while it was encoded")
        return 0

    cdef int write_entry(self, OutBuf out, object key, object item, int depth) except -1:
        """An entry of which not both are scalars; a text that is its key stands there already."""
        if not is_str(<PyObject *>key):
            self.write(out, key, depth)
        return self.write(out, item, depth)

    cdef int write_list(self, OutBuf out, list value, int depth) except -1:
        cdef Py_ssize_t i, size = len(value)
        cdef PyObject *item
        self.deeper(depth)
        put_size(out, size, 0x90, 0xDC)
        for i in range(size):
            item = PyList_GET_ITEM(value, i)
            if not write_scalar(out, item):
                held = <object>item
                self.write(out, held, depth + 1)
                if PyList_GET_SIZE(value) != size:
                    raise SerializationError("a list changed while it was encoded")
        return 0

    cdef int write_items(self, OutBuf out, object value, int depth) except -1:
        """A tuple or a set."""
        self.deeper(depth)
        put_size(out, len(value), 0x90, 0xDC)
        for item in value:
            self.write(out, item, depth + 1)
        return 0

    cdef int write_other(self, OutBuf out, object value, int depth) except -1:
        if isinstance(value, Pid):
            text = (<Pid>value).lane.target.encode()
            return write_ext(out, EXT_PID, text)
        if self._plain is not None:
            found = self._plain(value)
            if found is not None:
                return write_ext(out, found[0], found[1])
        if isinstance(value, tuple):
            return self.write_items(out, value, depth)
        if isinstance(value, (bytearray, memoryview)):
            return write_bin(out, bytes(value))
        if isinstance(value, datetime_type):
            return write_ext(out, EXT_TIMESTAMP, timestamp_bytes(value))
        if isinstance(value, (set, frozenset)):
            inner = OutBuf()
            self.write_items(inner, value, depth)
            return write_ext(out, EXT_SET, inner.take())
        for base in (bool, int, float, str, dict, list):
            if isinstance(value, base):     # subclasses (an IntEnum, a defaultdict) travel as what they extend
                return self.write(out, base(value), depth)
        raise SerializationError(
            f"a message cannot hold a {type(value).__module__}.{type(value).__qualname__} ({shortened(value)}): "
            "send plain values (dict, list, str, int, float, bool, None, bytes, datetime, Pid), "
            "or register the type with @cajun_fast.message('name')"
        )

    cdef int deeper(self, int depth) except -1:
        if depth >= self.max_depth:
            raise SerializationError(f"a message is nested deeper than {self.max_depth} (a cycle?)")
        return 0

    # ---- reading ---------------------------------------------------------------------------------------------

    cdef object read(self, Cursor *c):
        cdef uint8_t head = need(c, 1)[0]
        cdef double number
        cdef uint64_t bits
        if head < 0x80:
            return head
        if head < 0x90:
            return self.read_map(c, head & 0x0F)
        if head < 0xA0:
            return self.read_array(c, head & 0x0F)
        if head < 0xC0:
            return self.read_text(c, head & 0x1F)
        if head == 0xCB:
            bits = load_be64(need(c, 8))
            memcpy(&number, &bits, 8)
            return number
        if head >= 0xE0:
            return <int8_t>head
        return self.read_long(c, head)

    cdef object read_long(self, Cursor *c, uint8_t head):
        cdef float single
        cdef uint32_t half
        if head == 0xC0: return None
        elif head == 0xC2: return False
        elif head == 0xC3: return True
        elif head == 0xCC: return need(c, 1)[0]
        elif head == 0xCD: return load_be16(need(c, 2))
        elif head == 0xCE: return load_be32(need(c, 4))
        elif head == 0xCF: return load_be64(need(c, 8))
        elif head == 0xD0: return <int8_t>need(c, 1)[0]
        elif head == 0xD1: return <int16_t>load_be16(need(c, 2))
        elif head == 0xD2: return <int32_t>load_be32(need(c, 4))
        elif head == 0xD3: return <int64_t>load_be64(need(c, 8))
        elif head == 0xD9: return self.read_text(c, need(c, 1)[0])
        elif head == 0xDA: return self.read_text(c, load_be16(need(c, 2)))
        elif head == 0xDB: return self.read_text(c, load_be32(need(c, 4)))
        elif head == 0xC4: return read_bin(c, need(c, 1)[0])
        elif head == 0xC5: return read_bin(c, load_be16(need(c, 2)))
        elif head == 0xC6: return read_bin(c, load_be32(need(c, 4)))
        elif head == 0xDC: return self.read_array(c, load_be16(need(c, 2)))
        elif head == 0xDD: return self.read_array(c, load_be32(need(c, 4)))
        elif head == 0xDE: return self.read_map(c, load_be16(need(c, 2)))
        elif head == 0xDF: return self.read_map(c, load_be32(need(c, 4)))
        elif head == 0xCA:
            half = load_be32(need(c, 4))
            memcpy(&single, &half, 4)
            return <double>single
        elif 0xD4 <= head <= 0xD8: return self.read_ext(c, 1 << (head - 0xD4))
        elif head == 0xC7: return self.read_ext(c, need(c, 1)[0])
        elif head == 0xC8: return self.read_ext(c, load_be16(need(c, 2)))
        elif head == 0xC9: return self.read_ext(c, load_be32(need(c, 4)))
        raise SerializationError(f"byte 0x{head:02x} begins no msgpack value")

    cdef object read_map(self, Cursor *c, uint32_t size):
        cdef dict result = {}
        cdef uint32_t i
        cdef uint8_t head
        self.enter(c, 2 * <uint64_t>size)
        for i in range(size):
            head = need(c, 1)[0]
            if 0xA0 < head < 0xC0:
                key = self._texts.text(need(c, head & 0x1F), head & 0x1F)
            else:
                c.at -= 1
                key = self.read(c)
            value = self.read(c)
            if dict_set(<PyObject *>result, <PyObject *>key, <PyObject *>value) < 0:
                refuse_key(key)
        c.depth -= 1
        return result

    cdef object read_array(self, Cursor *c, uint32_t size):
        cdef uint32_t i
        cdef list result
        self.enter(c, size)
        if size <= 4096:
            result = PyList_New(size)
            for i in range(size):
                value = None                # a list with holes must not be seen if reading fails
                Py_INCREF(value)
                PyList_SET_ITEM(result, i, value)
            for i in range(size):
                result[i] = self.read(c)
        else:
            result = []
            for i in range(size):
                result.append(self.read(c))
        c.depth -= 1
        return result

    cdef int enter(self, Cursor *c, uint64_t items) except -1:
        if items > <uint64_t>(c.end - c.at):
            raise SerializationError(f"a length of {items} items where {c.end - c.at} bytes are left")
        c.depth += 1
        if c.depth > self.max_depth:
            raise SerializationError(f"a message is nested deeper than {self.max_depth}")
        return 0

    cdef inline object read_text(self, Cursor *c, uint32_t size):
        cdef const unsigned char *at = need(c, size)
        if 0 < size <= SHORT_TEXT:
            return self._texts.text(at, size)
        if all_ascii(at, size):
            return new_ascii(at, size)
        return decode_utf8(at, size)

    cdef object read_ext(self, Cursor *c, uint32_t size):
        cdef int8_t code = <int8_t>need(c, 1)[0]
        cdef const unsigned char *at = need(c, size)
        cdef Cursor inner
        if code == EXT_PID:
            if self.exchange is None:
                raise SerializationError("a Pid came where no actor system is")
            if size == 0:
                raise SerializationError("a Pid came that names no actor")
            return self.exchange.pid(decode_utf8(at, size))
        if code == EXT_TIMESTAMP:
            return timestamp_value(PyBytes_FromStringAndSize(<const char *>at, size))
        if code == EXT_BIGINT:
            return int.from_bytes(PyBytes_FromStringAndSize(<const char *>at, size), "big", signed=True)
        if code == EXT_SET:
            inner.at, inner.end, inner.depth, inner.large_at = at, at + size, c.depth + 1, NULL
            items = self.read(&inner)
            try:
                return set(items)
            except TypeError as error:
                raise SerializationError(f"no set can be made of {shortened(items)}") from error
        if code == EXT_TYPED and self._typed is not None:
            return self.read_typed(c, PyBytes_FromStringAndSize(<const char *>at, size))
        raise SerializationError(f"extension type {code} is not known on this node")

    cdef object read_typed(self, Cursor *c, bytes payload):
        """A registered type, whose fields `_typed` reads with this codec: they stand as deep as it does."""
        cdef int base = self._base
        self.enter(c, 0)
        self._base = c.depth
        try:
            value = self._typed(payload)
        finally:
            self._base = base
        c.depth -= 1
        return value


cdef class Foreign(Serializer):
    """Any object with ``encode(message) -> bytes`` and ``decode(bytes) -> message``."""

    cdef Py_ssize_t large_in(self, const unsigned char *data, Py_ssize_t size, Py_ssize_t total, Py_ssize_t *at) noexcept:
        at[0] = 0                           # it is given all of it as bytes
        return total

    cdef object decode_around(self, const unsigned char *data, Py_ssize_t size, bytes large, Py_ssize_t at):
        return self.decode_from(data, size) if large is None else self.decode_bytes(large)

    def __init__(self, serializer):
        self._encode = serializer.encode
        self._decode = serializer.decode

    cdef int encode_into(self, OutBuf out, object message) except -1:
        try:
            data = self._encode(message)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"cannot encode {shortened(message)}: {error}") from error
        if not isinstance(data, bytes):
            raise SerializationError(f"the serializer gave {type(data).__name__} instead of bytes")
        return out.add(<bytes>data)

    cdef object decode_from(self, const unsigned char *data, Py_ssize_t size):
        return self.decode_bytes(PyBytes_FromStringAndSize(<const char *>data, size))

    cdef object decode_bytes(self, bytes data):
        try:
            return self._decode(data)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(f"cannot decode a message of {len(data)} bytes: {error}") from error


cdef str shortened(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


cdef inline object read_bin(Cursor *c, Py_ssize_t size):
    if c.at == c.large_at and size == PyBytes_GET_SIZE(<object>c.large):
        c.large_at = NULL
        return <object>c.large
    return PyBytes_FromStringAndSize(<const char *>need(c, size), size)


cdef int refuse_key(object key) except -1:
    """A map's key was refused by the dict, whose error is set."""
    try:
        error_is_set()
    except TypeError as error:
        raise SerializationError(f"a map has a key that no dict can hold: {shortened(key)}") from error
    return 0
