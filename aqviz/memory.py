"""Memory that the system gets back.

glibc keeps what threads have freed in an arena for each of many threads, and a server has dozens:
after an hour of visitors it would hold several hundred MiB that nobody uses.
"""

import ctypes
import gc
import sys
from functools import cache

M_ARENA_MAX = -8  # of malloc.h
ARENAS = 2


def few_arenas() -> None:
    """Let all threads share a few arenas; to be called before there are threads."""
    if sys.platform == "linux":
        getattr(_libc(), "mallopt", _nothing)(M_ARENA_MAX, ARENAS)


@cache
def settle() -> None:
    """Have the collector pass over what is there now, which stays; once, and again is nothing.

    A full pass holds every thread up, and with all libraries and the page it took half a second.
    """
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """Give what is free back to the system."""
    gc.collect()
    if sys.platform == "linux":
        getattr(_libc(), "malloc_trim", _nothing)(0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _nothing(*_given: int) -> None:
    """Another C library does not have it."""
