# ruff: noqa: ANN001, ANN201, PLR0913 - a kernel's arguments are typed by Triton, and there are many
"""Decoding on a GPU: a tile of rows x groups, each lane gathering a word's coordinates.

`words` is the one place where codes become weights; the products of `matmul_triton` call it too.
A code indexes its codebook by its low bits, which is what the wrapped int8 and int16 codes of
AQLM's files and plain int32 codes have in common. Words are summed in float32.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from quantcore.errors import InputError
from quantcore.kernels import launch
from quantcore.kernels.launch import Device, Launch, blocks, power_above


@triton.jit
@no_type_check
def words(
    codes_ptr,  # [cells, BOOKS]
    codebooks_ptr,  # [BOOKS, SIZE, GROUP]
    cells,  # [rows, groups]: which to decode
    live,
    BOOKS: tl.constexpr,
    SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
):
    """The sums of codewords of some cells, [rows, groups, LANES], without the row scales."""
    lane = tl.arange(0, LANES)
    inside = live[:, :, None]
    if LANES != GROUP:
        inside = inside & (lane < GROUP)[None, None, :]
    for book in tl.static_range(BOOKS):
        code = tl.load(codes_ptr + cells * BOOKS + book, mask=live, other=0).to(tl.int32)
        start = (book * SIZE + (code & (SIZE - 1))) * GROUP
        at = codebooks_ptr + start[:, :, None] + lane[None, None, :]
        word = tl.load(at, mask=inside, other=0).to(tl.float32)
        if book == 0:
            total = word
        else:
            total += word
    return total


@triton.jit
@no_type_check
def _decode(
    codes_ptr,  # [out, groups, BOOKS]
    codebooks_ptr,
    scales_ptr,  # [out]
    dense_ptr,  # [out, groups, GROUP]
    out,
    groups,
    BOOKS: tl.constexpr,
    SIZE: tl.constexpr,
    GROUP: tl.constexpr,
    LANES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The weights of ROWS rows and COLUMNS groups."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    group = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    live = (row < out)[:, None] & (group < groups)[None, :]
    cells = row.to(tl.int64)[:, None] * groups + group[None, :]
    total = words(codes_ptr, codebooks_ptr, cells, live, BOOKS, SIZE, GROUP, LANES)
    scale = tl.load(scales_ptr + row, mask=row < out, other=0).to(tl.float32)
    lane = tl.arange(0, LANES)
    at = cells[:, :, None] * GROUP + lane[None, None, :]
    inside = live[:, :, None] & (lane < GROUP)[None, None, :]
    tl.store(dense_ptr + at, total * scale[:, None, None], mask=inside)


def shape_of(codes: Tensor, codebooks: Tensor) -> dict[str, int]:
    """The constants of a scheme.

    Raises:
        InputError: the codebooks' size is no power of two, so codes have no low bits.
    """
    books, size, group = codebooks.shape
    if size & (size - 1):
        raise InputError(f"a codebook must have a power of two of words, got {size}")
    return {"BOOKS": books, "SIZE": size, "GROUP": group, "LANES": power_above(group)}


def plan(
    codes: Tensor, codebooks: Tensor, scales: Tensor, device: Device
) -> tuple[list[Launch], Tensor]:
    """The launch that decodes, and the dense weight it writes."""
    out, groups, _ = codes.shape
    constants = shape_of(codes, codebooks)
    dtype = torch.promote_types(codebooks.dtype, scales.dtype)
    dense = torch.empty(out, groups * constants["GROUP"], dtype=dtype, device=codes.device)
    tile = launch.choose("decode", device.arch, constants["GROUP"])
    constants |= {"ROWS": tile.rows, "COLUMNS": tile.columns}
    args = (codes.contiguous(), codebooks.contiguous(), scales.contiguous(), dense, out, groups)
    grid = (blocks(out, tile.rows), blocks(groups, tile.columns))
    return [Launch(_decode, grid, args, constants, tile)], dense


def decode(
    codes: Int[Tensor, "out groups books"],
    codebooks: Float[Tensor, "books size group"],
    scales: Float[Tensor, " out"],
) -> Float[Tensor, "out columns"]:
    """The dense weight: each group's codewords summed, times the row's scale.

    Codes may be stored wrapped to a signed type, as AQLM's files have them.
    """
    launches, dense = plan(codes, codebooks, scales, launch.device_of(codes))
    launch.run(launches, codes)
    return dense
