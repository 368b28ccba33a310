"""Work on a range split among threads.

The compiled loops release the interpreter's lock, so plain threads run them side by side. The pool
is Python's own: numba's threading layers differ by platform, and the one that every wheel has stops
the process when two threads call it at once, as the app's jobs and its pages may.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import torch


def over(count: int, work: Callable[[int, int], None], grain: int = 1) -> None:
    """Call `work(first, last)` on consecutive pieces of range(count), one piece a thread.

    As many threads as torch uses; none where a piece would be smaller than `grain`.
    """
    pieces = max(1, min(torch.get_num_threads(), count // max(1, grain)))
    if pieces == 1:
        work(0, count)
        return
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    jobs = [_pool(pieces).submit(work, first, last) for first, last in pairwise(edges[1:])]
    work(edges[0], edges[1])  # the first piece here
    for job in jobs:
        job.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="quantcore")
