# ruff: noqa: ANN001, PLR0913 - a kernel's arguments are typed by Triton, and there are many
r"""The E-step on a GPU: scores in each group's metric and their minimum in one kernel.

    (v - c)^T H_j (v - c) = v^T H_j v + c^T H_j c - 2 (H_j v)^T c

Bending the vectors and not the codebook leaves one codebook for all groups: only the word's length
c^T H_j c is the group's own, `groups` x `size` numbers, of which `CHUNK` are held at once. A thread
owns some vectors of one group and takes them through the words with a running minimum, so a score
is never more than a register and nothing is left to reduce.

Products are float32 multiply-adds, not tensor cores: a group of 4 to 16 is too short a product to
fill those, and TF32 would mistake near words for nearest.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from quantcore.errors import InputError
from quantcore.kernels import launch, naive
from quantcore.kernels.launch import Device, Launch, blocks

CHUNK = 1 << 24  # lengths, and coordinates of bent vectors, held at once
MOST_GROUPS = 65535  # programs along a grid's second axis


@triton.jit
@no_type_check
def _measure(
    points_ptr,  # [count] points of each group, strided
    metrics_ptr,  # [groups, GROUP, GROUP]
    lengths_ptr,  # [groups, count]
    bent_ptr,  # [groups, GROUP, count], written if BEND
    count,
    row_stride,
    group_stride,
    GROUP: tl.constexpr,
    BEND: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Each point's length p^T H_j p, and -2 H_j p."""
    group = tl.program_id(1)
    at = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    live = at < count
    points = points_ptr + at.to(tl.int64) * row_stride + group.to(tl.int64) * group_stride
    metric = metrics_ptr + group * GROUP * GROUP
    length = tl.zeros([COLUMNS], dtype=tl.float32)
    for a in range(GROUP):
        pulled = tl.zeros([COLUMNS], dtype=tl.float32)
        for b in range(GROUP):
            pulled += tl.load(metric + a * GROUP + b) * tl.load(points + b, mask=live, other=0)
        length += pulled * tl.load(points + a, mask=live, other=0)
        if BEND:
            tl.store(bent_ptr + (group * GROUP + a) * count + at, -2 * pulled, mask=live)
    tl.store(lengths_ptr + group * count + at, length, mask=live)


@triton.jit
@no_type_check
def _nearest(
    bent_ptr,  # [groups, GROUP, out]
    own_ptr,  # [groups, out]: v^T H_j v
    codebook_ptr,  # [size, GROUP]
    lengths_ptr,  # [groups, size]: c^T H_j c
    codes_ptr,  # [out, groups], from the first group of the chunk on
    costs_ptr,
    out,
    groups,
    size,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The nearest word of ROWS vectors of one group, COLUMNS words a turn."""
    group = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = rows < out
    bent = ()
    for a in tl.static_range(GROUP):
        at = bent_ptr + (group * GROUP + a) * out + rows
        bent = bent + (tl.load(at, mask=live, other=0),)  # noqa: RUF005 - Triton unpacks none
    low = tl.full([ROWS], float("inf"), dtype=tl.float32)
    code = tl.zeros([ROWS], dtype=tl.int32)
    for first in range(0, size, COLUMNS):
        for turn in tl.static_range(COLUMNS):
            word = tl.minimum(first + turn, size - 1)  # the last word again changes nothing
            score = tl.load(lengths_ptr + group * size + word)
            for a in tl.static_range(GROUP):
                score += bent[a] * tl.load(codebook_ptr + word * GROUP + a)
            better = score < low  # a tie stays with the lower word
            low = tl.where(better, score, low)
            code = tl.where(better, word, code)
    cells = rows.to(tl.int64) * groups + group
    own = tl.load(own_ptr + group * out + rows, mask=live, other=0)
    tl.store(codes_ptr + cells, code, mask=live)
    tl.store(costs_ptr + cells, tl.maximum(low + own, 0.0), mask=live)


def plan(
    vectors: Tensor, metrics: Tensor, codebook: Tensor, device: Device
) -> tuple[list[Launch], Tensor, Tensor]:
    """The launches that assign, and the codes and costs they write."""
    out, groups, group = vectors.shape
    size = len(codebook)
    vectors, metrics, codebook = (t.contiguous() for t in (vectors, metrics, codebook))
    chunk = max(1, min(groups, MOST_GROUPS, CHUNK // max(size, out * group)))
    bent = vectors.new_empty(chunk, group, out)
    own, lengths = vectors.new_empty(chunk, out), vectors.new_empty(chunk, size)
    codes = torch.empty(out, groups, dtype=torch.int32, device=vectors.device)
    costs = vectors.new_empty(out, groups)
    wide = launch.choose("measure", device.arch)
    tile = launch.choose("assign", device.arch, group)
    launches = []
    for first in range(0, groups, chunk):
        some = min(chunk, groups - first)
        here, start = metrics[first:], vectors[:, first:]
        constants = {"GROUP": group, "COLUMNS": wide.columns}
        grid = (blocks(size, wide.columns), some)
        args = (codebook, here, lengths, bent, size, group, 0)
        launches.append(Launch(_measure, grid, args, {**constants, "BEND": 0}, wide))
        grid = (blocks(out, wide.columns), some)
        args = (start, here, own, bent, out, groups * group, group)
        launches.append(Launch(_measure, grid, args, {**constants, "BEND": 1}, wide))
        grid = (blocks(out, tile.rows), some)
        inputs = (bent, own, codebook, lengths)
        results = (codes[:, first:], costs[:, first:])
        constants = {"GROUP": group, "ROWS": tile.rows, "COLUMNS": tile.columns}
        launches.append(
            Launch(_nearest, grid, (*inputs, *results, out, groups, size), constants, tile)
        )
    return launches, codes, costs


def assign(
    vectors: Float[Tensor, "out groups group"],
    metrics: Float[Tensor, "groups group group"],
    codebook: Float[Tensor, "size group"],
) -> tuple[Int[Tensor, "out groups"], Float[Tensor, "out groups"]]:
    """Each vector's nearest codeword in its group's metric, and the squared distance.

    Ties go to the word with the lowest index. Groups above `launch.WIDEST` go through torch.

    Raises:
        InputError: the numbers are not float32.
    """
    if not vectors.dtype == metrics.dtype == codebook.dtype == torch.float32:
        raise InputError(f"vectors, metrics and codebook must be float32, got {vectors.dtype}")
    if codebook.shape[1] > launch.WIDEST:
        return naive.assign(vectors, metrics, codebook)
    launches, codes, costs = plan(vectors, metrics, codebook, launch.device_of(vectors))
    launch.run(launches, vectors)
    return codes, costs
