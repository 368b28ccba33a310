"""`sum_by_code` compiled for the CPU, threads over rows.

Codes may be stored wrapped to a signed type, as AQLM's files have them: a negative code stands for
the word `size` above it.
"""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor

from quantcore.kernels import threads
from quantcore.kernels.arrays import array

GRAIN = 1 << 14  # groups worth a thread of their own


def sum_by_code(
    pulls: Float[Tensor, "out columns"],
    codes: Int[Tensor, "out groups books"],
    scales: Float[Tensor, " out"],
    size: int,
) -> Float[Tensor, "books size group"]:
    """The scaled groups of `pulls` summed by code, in float64: the adjoint of `decode`."""
    out, groups, books = codes.shape
    group = pulls.shape[1] // groups
    arrays = [array(x) for x in (pulls, codes, scales)]
    parts = []

    def work(first: int, last: int) -> None:
        part = np.zeros((books, size, group))
        _sum(first, last, *arrays, part)
        parts.append((first, part))

    threads.over(out, work, max(1, GRAIN // max(1, groups)))
    # in the order of the rows, so that the same threads give the same bits
    return torch.from_numpy(np.sum([part for _, part in sorted(parts, key=lambda x: x[0])], 0))


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check
def _sum(first: int, last: int, pulls: Any, codes: Any, scales: Any, sums: Any) -> None:
    groups, (books, size, group) = codes.shape[1], sums.shape
    for o in range(first, last):
        scale = np.float64(scales[o])
        for j in range(groups):
            for m in range(books):
                code = codes[o, j, m]
                word = code + size if code < 0 else code
                for i in range(group):
                    sums[m, word, i] += scale * pulls[o, j * group + i]
