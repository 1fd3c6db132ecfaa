# Loads and stores of fixed-width integers at any alignment, in a stated byte order. All inline, none touches an object.
# Little-endian is the frame's order, big-endian is msgpack's.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define CF_LE16(x) __builtin_bswap16(x)
    #define CF_LE32(x) __builtin_bswap32(x)
    #define CF_LE64(x) __builtin_bswap64(x)
    #define CF_BE16(x) (x)
    #define CF_BE32(x) (x)
    #define CF_BE64(x) (x)
    #else
    #define CF_LE16(x) (x)
    #define CF_LE32(x) (x)
    #define CF_LE64(x) (x)
    #define CF_BE16(x) __builtin_bswap16(x)
    #define CF_BE32(x) __builtin_bswap32(x)
    #define CF_BE64(x) __builtin_bswap64(x)
    #endif
    #define CF_ACCESS(ORDER, BITS) \\
        static inline uint##BITS##_t cf_load_##ORDER##BITS(const void *p) \\
        { uint##BITS##_t x; memcpy(&x, p, sizeof x); return CF_##ORDER##BITS(x); } \\
        static inline void cf_store_##ORDER##BITS(void *p, uint##BITS##_t v) \\
        { uint##BITS##_t x = CF_##ORDER##BITS(v); memcpy(p, &x, sizeof x); }
    CF_ACCESS(LE, 16) CF_ACCESS(LE, 32) CF_ACCESS(LE, 64)
    CF_ACCESS(BE, 16) CF_ACCESS(BE, 32) CF_ACCESS(BE, 64)
    """
    uint16_t load_le16 "cf_load_LE16"(const void *p) noexcept
    uint32_t load_le32 "cf_load_LE32"(const void *p) noexcept
    uint64_t load_le64 "cf_load_LE64"(const void *p) noexcept
    void store_le16 "cf_store_LE16"(void *p, uint16_t v) noexcept
    void store_le32 "cf_store_LE32"(void *p, uint32_t v) noexcept
    void store_le64 "cf_store_LE64"(void *p, uint64_t v) noexcept
    uint16_t load_be16 "cf_load_BE16"(const void *p) noexcept
    uint32_t load_be32 "cf_load_BE32"(const void *p) noexcept
    uint64_t load_be64 "cf_load_BE64"(const void *p) noexcept
    void store_be16 "cf_store_BE16"(void *p, uint16_t v) noexcept
    void store_be32 "cf_store_BE32"(void *p, uint32_t v) noexcept
    void store_be64 "cf_store_BE64"(void *p, uint64_t v) noexcept
