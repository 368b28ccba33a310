import ctypes
import sys

import psutil
import pytest

from aqviz import memory

BLOCK, COUNT = 100_000, 2000  # below the size from which malloc asks the system for each block

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Counts(ctypes.Structure):
    """Of malloc.h; hblks are the pieces that the system gave by themselves."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in NAMES.split())


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc holds memory back like this")
def test_what_is_free_goes_back_to_the_system():
    held = [ctypes.create_string_buffer(b"x" * BLOCK, BLOCK) for _ in range(COUNT)]
    last = ctypes.create_string_buffer(b"x" * BLOCK, BLOCK)  # keeps the heap's end in use
    full = psutil.Process().memory_info().rss
    del held
    memory.give_back()
    assert full - psutil.Process().memory_info().rss > 0.8 * BLOCK * COUNT
    assert len(last) == BLOCK


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only a later glibc counts them"
)
def test_large_pieces_are_never_taken_from_an_arena():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.mallinfo2.restype = Counts
    memory.few_arenas()
    libc.free(ctypes.c_void_p(libc.malloc(32 * memory.LARGE)))  # from which glibc would learn
    before = libc.mallinfo2().hblks
    piece = ctypes.c_void_p(libc.malloc(16 * memory.LARGE))
    assert libc.mallinfo2().hblks == before + 1
    libc.free(piece)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_libc", object)
    memory.few_arenas()
    memory.give_back()
