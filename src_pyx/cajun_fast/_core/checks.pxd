# Arguments that come from Python, checked in one place: errors name the argument, its value and the remedy.
# Inline only; there is no module behind it.

from libc.stdint cimport INT64_MAX, int64_t

cdef inline int64_t whole(object value, str name, int64_t least, int64_t most=INT64_MAX) except? -1:
    """An int within bounds. Raises TypeError for anything else (a bool too), ValueError beyond the bounds."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be an int: give a whole number from {least} to {most}")
    if not least <= value <= most:
        raise ValueError(f"{name}={value!r} is out of range: give a whole number from {least} to {most}")
    return value

cdef inline int64_t seconds_ns(object value, str name) except? -1:
    """Seconds as nanoseconds. Raises TypeError or ValueError unless it is a number above 0 and below 1e9 (31 years)."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number of seconds: give an int or a float above 0")
    if not 0 < value < 1e9:
        raise ValueError(f"{name}={value!r} is out of range: give seconds above 0 and below 1e9")
    return max(1, round(value * 1_000_000_000))
