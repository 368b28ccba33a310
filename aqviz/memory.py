"""Memory that the system gets back.

glibc keeps what threads have freed in an arena for each of many threads, and a server has dozens:
after an hour of visitors it would hold several hundred MiB that nobody uses. It also learns to take
ever larger pieces from these arenas, which they leave in fragments.
"""

import ctypes
import gc
import sys
from functools import cache

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of malloc.h
ARENAS = 2
LARGE = 256 * 1024  # bytes of a piece that the system gives and gets back by itself


def few_arenas() -> None:
    """Let all threads share a few arenas of small pieces; to be called before there are threads."""
    if sys.platform == "linux":
        choose = getattr(_libc(), "mallopt", _nothing)
        choose(M_ARENA_MAX, ARENAS)
        choose(M_MMAP_THRESHOLD, LARGE)


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
