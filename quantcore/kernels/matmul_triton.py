# ruff: noqa: ANN001, PLR0913 - a kernel's arguments are typed by Triton, and there are many
"""Products with an additive weight on a GPU; the dense weight stays in registers, tile by tile.

One token is bound by reading codes and gathering words, so `_gemv` multiplies in place and sums
across its tile once, at the end. From two tokens on `_gemm` hands each decoded tile to the tensor
cores, for some `TOKENS` a program. Both sum in float32. Where the output's rows are too few
to fill the device, programs share a row's groups and write partial sums, which torch adds up in
their order: no atomics, so the result does not change from run to run.

Above `DENSE` tokens the product is bound by arithmetic and a library does that best: rows are
decoded some at a time, at most `CHUNK` weights, and multiplied by torch.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from quantcore.kernels import launch
from quantcore.kernels.decode_triton import decode, shape_of, words
from quantcore.kernels.launch import Device, Launch, blocks, power_above

TOKENS = {2: 64, 4: 16}  # most of one program, by the bytes of a number
DENSE = 64  # from more tokens on rows are decoded for torch
CHUNK = 1 << 24  # weights decoded at once then
FULL = 4  # programs a processor that fill a device
TILES = 4  # a share of a row's groups is at least so many tiles


@triton.jit
@no_type_check
def _gemv(
    x_ptr,  # [groups * GROUP]
    codes_ptr,  # [out, groups, BOOKS]
    codebooks_ptr,
    scales_ptr,
    y_ptr,  # [shares, out]
    out,
    groups,
    span,  # groups of a share
    BOOKS: tl.constexpr,
    SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """ROWS outputs of one token, from one share of the groups."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    share = tl.program_id(2)
    last = tl.minimum((share + 1) * span, groups)
    lane = tl.arange(0, LANES)
    total = tl.zeros([ROWS, COLUMNS, LANES], dtype=tl.float32)
    for first in range(share * span, last, COLUMNS):
        group = first + tl.arange(0, COLUMNS)
        live = (row < out)[:, None] & (group < last)[None, :]
        cells = row.to(tl.int64)[:, None] * groups + group[None, :]
        weight = words(codes_ptr, codebooks_ptr, cells, live, BOOKS, SIZE, GROUP, LANES)
        at = group[:, None] * GROUP + lane[None, :]
        inside = (group < last)[:, None] & (lane < GROUP)[None, :]
        x = tl.load(x_ptr + at, mask=inside, other=0).to(tl.float32)
        total += weight * x[None, :, :]
    scale = tl.load(scales_ptr + row, mask=row < out, other=0).to(tl.float32)
    y = tl.sum(tl.sum(total, 2), 1) * scale
    tl.store(y_ptr + share * out + row, y, mask=row < out)


@triton.jit
@no_type_check
def _gemm(
    x_ptr,  # [tokens, groups * GROUP]
    codes_ptr,
    codebooks_ptr,
    scales_ptr,
    y_ptr,  # [shares, tokens, out]
    out,
    groups,
    span,
    tokens,
    BOOKS: tl.constexpr,
    SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BATCH: tl.constexpr,
):
    """ROWS outputs of BATCH tokens, from one share of the groups."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * BATCH + tl.arange(0, BATCH)
    share = tl.program_id(2)
    last = tl.minimum((share + 1) * span, groups)
    deep = tl.arange(0, COLUMNS * LANES)  # a place in the tile's groups, side by side
    total = tl.zeros([ROWS, BATCH], dtype=tl.float32)
    for first in range(share * span, last, COLUMNS):
        group = first + tl.arange(0, COLUMNS)
        live = (row < out)[:, None] & (group < last)[None, :]
        cells = row.to(tl.int64)[:, None] * groups + group[None, :]
        weight = words(codes_ptr, codebooks_ptr, cells, live, BOOKS, SIZE, GROUP, LANES)
        weight = tl.reshape(weight, [ROWS, COLUMNS * LANES])
        column = (first + deep // LANES) * GROUP + deep % LANES
        inside = (first + deep // LANES < last) & (deep % LANES < GROUP)
        at = token[None, :] * (groups * GROUP) + column[:, None]
        x = tl.load(x_ptr + at, mask=inside[:, None] & (token < tokens)[None, :], other=0)
        total = tl.dot(weight.to(x.dtype), x, total, input_precision="ieee")
    scale = tl.load(scales_ptr + row, mask=row < out, other=0).to(tl.float32)
    at = (share * tokens + token)[None, :] * out + row[:, None]
    live = (row < out)[:, None] & (token < tokens)[None, :]
    tl.store(y_ptr + at, total * scale[:, None], mask=live)


def plan(
    x: Tensor, codes: Tensor, codebooks: Tensor, scales: Tensor, device: Device
) -> tuple[list[Launch], Tensor]:
    """The launch that multiplies, and the shares' partial sums it writes."""
    (tokens, _), (out, groups, _) = x.shape, codes.shape
    constants = shape_of(codes, codebooks)
    kernel, name, batch = (_gemv, "gemv", 1) if tokens == 1 else (_gemm, "gemm", 16)
    tile = launch.choose(name, device.arch, constants["GROUP"])
    constants |= {"ROWS": tile.rows, "COLUMNS": tile.columns}
    if kernel is _gemm:
        batch = min(TOKENS[x.element_size()], max(batch, power_above(tokens)))
        constants["BATCH"] = batch
    grid = (blocks(out, tile.rows), blocks(tokens, batch))
    wanted = blocks(FULL * device.processors, max(1, grid[0] * grid[1]))
    shares = max(1, min(wanted, groups // (TILES * tile.columns)))
    span = blocks(blocks(groups, shares), tile.columns) * tile.columns
    shares = blocks(groups, span)
    y = x.new_empty(shares, tokens, out, dtype=x.dtype if shares == 1 else torch.float32)
    weight = (codes.contiguous(), codebooks.contiguous(), scales.contiguous())
    args = (x.contiguous(), *weight, y, out, groups, span)
    count = (tokens,) if kernel is _gemm else ()
    return [Launch(kernel, (*grid, shares), (*args, *count), constants, tile)], y


def matmul(
    x: Float[Tensor, "tokens columns"],
    codes: Int[Tensor, "out groups books"],
    codebooks: Float[Tensor, "books size group"],
    scales: Float[Tensor, " out"],
) -> Float[Tensor, "tokens out"]:
    """Multiply x by the transposed weight, in x's type."""
    tokens, out = len(x), len(codes)
    if tokens > DENSE:
        rows = max(1, CHUNK // x.shape[1])
        y = x.new_empty(tokens, out)
        for first in range(0, out, rows):
            some = slice(first, first + rows)
            y[:, some] = x @ decode(codes[some], codebooks, scales[some]).to(x.dtype).T
        return y
    launches, y = plan(x, codes, codebooks, scales, launch.device_of(x))
    launch.run(launches, x)
    return y[0] if len(y) == 1 else y.sum(0).to(x.dtype)
