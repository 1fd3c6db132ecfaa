"""Faults for the sanitizers to find; compiled in their build trees only. See cmake/sanitizer_tests.cmake."""

import threading

from libc.stdlib cimport free, malloc


def read_past_the_end(size_t size=8):
    cdef char *block = <char *>malloc(size)
    block[0] = 1
    cdef char stray = block[size]
    free(block)
    return stray


def shift_too_far(int distance=40):
    return (<int>1) << distance


cdef volatile long shared_counter = 0


def race():
    """Two threads count without the GIL and without a lock."""
    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def count():
    global shared_counter
    cdef int i
    with nogil:
        for i in range(1000000):
            shared_counter += 1
