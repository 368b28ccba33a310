import ctypes
import sys

import psutil
import pytest

from aqviz import memory

BLOCK, COUNT = 100_000, 2000  # below the size from which malloc asks the system for each block


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc holds memory back like this")
def test_what_is_free_goes_back_to_the_system():
    held = [ctypes.create_string_buffer(b"x" * BLOCK, BLOCK) for _ in range(COUNT)]
    last = ctypes.create_string_buffer(b"x" * BLOCK, BLOCK)  # keeps the heap's end in use
    full = psutil.Process().memory_info().rss
    del held
    memory.give_back()
    assert full - psutil.Process().memory_info().rss > 0.8 * BLOCK * COUNT
    assert len(last) == BLOCK


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_libc", object)
    memory.few_arenas()
    memory.give_back()
