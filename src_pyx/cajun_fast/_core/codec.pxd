# msgpack (https://github.com/msgpack/msgpack/blob/master/spec.md), written straight into an OutBuf and read in place.
#
#   Serializer  the port a link encodes and decodes through
#   Codec       this one: plain values, Pids and registered types. Same bytes as the msgpack package.
#   Foreign     any Python object with encode(message) -> bytes and decode(bytes) -> message

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cajun_fast._core.lane cimport Exchange
from cajun_fast._core.outbuf cimport OutBuf
from cajun_fast._core.scalars cimport Cursor, TextCache

cdef class Serializer:
    cdef OutBuf _scratch                # for `encode`; None while in use
    # Append the encoded message; on error nothing that was appended counts (the caller resets `used`).
    cdef int encode_into(self, OutBuf out, object message) except -1
    # The message; may not keep `data`. Raises SerializationError for anything that is not one whole message.
    cdef object decode_from(self, const unsigned char *data, Py_ssize_t size)
    # Of a message of `total` bytes the first `size` are at `data`: the size of a bytes object in it that deserves memory
    # of its own before it has come, and at *at where its bytes begin; 0 for none.
    cdef Py_ssize_t large_in(self, const unsigned char *data, Py_ssize_t size, Py_ssize_t total, Py_ssize_t *at) noexcept
    # As `decode_from` where the bytes of `large` (None: all are there) are not in `data` but would stand at `at`.
    cdef object decode_around(self, const unsigned char *data, Py_ssize_t size, bytes large, Py_ssize_t at)

@cython.final
cdef class Codec(Serializer):
    cdef public Exchange exchange       # whose Pids come out of messages; None: Pids are refused
    cdef readonly int max_depth
    cdef object _plain                  # hook: object -> (code, payload) for registered types, or None
    cdef object _typed                  # hook: bytes -> object
    cdef TextCache _texts
    cdef int _base                      # depth at which the message, or the fields of a registered type, begins

    cdef int write(self, OutBuf out, object value, int depth) except -1
    cdef int write_dict(self, OutBuf out, dict value, int depth) except -1
    cdef int write_entry(self, OutBuf out, object key, object item, int depth) except -1
    cdef int write_list(self, OutBuf out, list value, int depth) except -1
    cdef int write_items(self, OutBuf out, object value, int depth) except -1
    cdef int write_other(self, OutBuf out, object value, int depth) except -1
    cdef int deeper(self, int depth) except -1
    cdef object read(self, Cursor *c)
    cdef object read_long(self, Cursor *c, uint8_t head)
    cdef object read_map(self, Cursor *c, uint32_t size)
    cdef object read_array(self, Cursor *c, uint32_t size)
    cdef int enter(self, Cursor *c, uint64_t items) except -1
    cdef object read_text(self, Cursor *c, uint32_t size)
    cdef object read_ext(self, Cursor *c, uint32_t size)
    cdef object read_typed(self, Cursor *c, bytes payload)

cdef class Foreign(Serializer):
    cdef object _encode
    cdef object _decode

    cdef object decode_bytes(self, bytes data)
