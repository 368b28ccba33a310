# ruff: noqa: ANN001, PLR0913 - a kernel's arguments are typed by Triton, and there are many
"""A beam's candidates on a GPU: their scores and the lowest of a row in one kernel.

A candidate is one 64-bit key: the score's bits, ordered as integers, above the choice. Keys are all
different and comparing them is comparing (score, choice), so ties need no code of their own. A
program is one warp for one row: its lanes own words, it takes the hypotheses through them one by
one, and keeps the lowest keys seen in no order; a hypothesis whose lowest score among these words
is above the worst kept costs one minimum. Where rows are too few to fill the device, several
programs share a row's words and a second kernel merges what they kept.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from quantcore.errors import InputError
from quantcore.kernels import launch, naive
from quantcore.kernels.launch import Device, Launch, blocks, power_above

MOST = 64  # candidates kept; more go through torch
FULL = 16  # programs a processor that fill a device
TILES = 4  # a share of a row's words is at least so many tiles

NEVER = tl.constexpr(0x7FFFFFFFFFFFFFFF)  # above every key
ALWAYS = tl.constexpr(-0x8000000000000000)  # below every key
EMPTY = tl.constexpr(0x7FFFFFFF00000000)  # plus a place: a score that is no number


@triton.jit
@no_type_check
def _key(scores, choices):
    """(score, choice) as one integer."""
    bits = (scores + 0.0).to(tl.int32, bitcast=True)  # + 0 makes -0 the 0 it is equal to
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.to(tl.int64) << 32) | choices.to(tl.int64)


@triton.jit
@no_type_check
def _score(keys):
    """The score of a key."""
    ordered = (keys >> 32).to(tl.int32)
    return tl.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).to(tl.float32, bitcast=True)


@triton.jit
@no_type_check
def _nothing(WIDTH: tl.constexpr, KEPT: tl.constexpr):
    """KEPT places, WIDTH of them to be filled; the others never are the worst."""
    place = tl.arange(0, KEPT).to(tl.int64)
    return tl.where(place < WIDTH, EMPTY + place, ALWAYS)


@triton.jit
@no_type_check
def _keep(kept, keys):
    """Exchange the worst of the kept for the lowest of the keys until that is no gain."""
    low, worst = tl.min(keys), tl.max(kept)
    while low < worst:
        kept = tl.where(kept == worst, low, kept)
        keys = tl.where(keys == low, NEVER, keys)
        low, worst = tl.min(keys), tl.max(kept)
    return kept


@triton.jit
@no_type_check
def _write(kept, scores_ptr, choices_ptr, WIDTH: tl.constexpr, KEPT: tl.constexpr):
    """Write a row's kept candidates, lowest first: a key's place is how many lie below it."""
    kept = tl.where(tl.arange(0, KEPT) < WIDTH, kept, NEVER)
    place = tl.sum((kept[None, :] < kept[:, None]).to(tl.int32), 1)
    live = tl.arange(0, KEPT) < WIDTH
    tl.store(scores_ptr + place, _score(kept), mask=live)
    tl.store(choices_ptr + place, kept & 0xFFFFFFFF, mask=live)


@triton.jit
@no_type_check
def _lowest(
    targets_ptr,  # [rows, beam, GROUP]
    base_ptr,  # [rows, beam]
    words_ptr,  # [GROUP, size]: the codebook transposed, so that words are read side by side
    norms_ptr,  # [size]
    keys_ptr,  # [rows, shares, WIDTH], written if SHARED
    scores_ptr,  # [rows, WIDTH], written if not
    choices_ptr,
    beam,
    size,
    span,  # words of a share
    GROUP: tl.constexpr,
    WIDTH: tl.constexpr,
    KEPT: tl.constexpr,
    SHARED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The WIDTH lowest candidates among one row's hypotheses and one share of the words."""
    row = tl.program_id(0).to(tl.int64)
    share = tl.program_id(1)
    last = tl.minimum((share + 1) * span, size)
    kept = _nothing(WIDTH, KEPT)
    for first in range(share * span, last, COLUMNS):
        word = first + tl.arange(0, COLUMNS)
        live = word < last
        coordinates = ()
        for a in tl.static_range(GROUP):
            coordinate = tl.load(words_ptr + a * size + word, mask=live, other=0)
            coordinates = coordinates + (coordinate,)  # noqa: RUF005 - Triton unpacks none
        norm = tl.load(norms_ptr + word, mask=live, other=float("inf"))
        for hypothesis in range(beam):
            target = targets_ptr + (row * beam + hypothesis) * GROUP
            product = tl.zeros([COLUMNS], dtype=tl.float32)
            for a in tl.static_range(GROUP):
                product += coordinates[a] * tl.load(target + a)
            scores = tl.load(base_ptr + row * beam + hypothesis) + norm - 2 * product
            # the worst kept is no number while a place is free
            if not (tl.min(scores) > _score(tl.max(kept))):
                keys = _key(scores, hypothesis * size + word)
                kept = _keep(kept, tl.where(live, keys, NEVER))
    if SHARED:
        place = tl.arange(0, KEPT)
        at = keys_ptr + (row * tl.num_programs(1) + share) * WIDTH + place
        tl.store(at, kept, mask=place < WIDTH)
    else:
        _write(kept, scores_ptr + row * WIDTH, choices_ptr + row * WIDTH, WIDTH, KEPT)


@triton.jit
@no_type_check
def _merge(
    keys_ptr,  # [rows, count]
    scores_ptr,  # [rows, WIDTH]
    choices_ptr,
    count,
    WIDTH: tl.constexpr,
    KEPT: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The WIDTH lowest of a row's keys."""
    row = tl.program_id(0).to(tl.int64)
    kept = _nothing(WIDTH, KEPT)
    for first in range(0, count, COLUMNS):
        at = first + tl.arange(0, COLUMNS)
        kept = _keep(kept, tl.load(keys_ptr + row * count + at, mask=at < count, other=NEVER))
    _write(kept, scores_ptr + row * WIDTH, choices_ptr + row * WIDTH, WIDTH, KEPT)


def plan(
    targets: Tensor, base: Tensor, codebook: Tensor, norms: Tensor, width: int, device: Device
) -> tuple[list[Launch], Tensor, Tensor]:
    """The launches that search, and the scores and choices they write."""
    rows, beam, group = targets.shape
    size = len(codebook)
    targets, base, norms = (t.contiguous() for t in (targets, base, norms))
    tile = launch.choose("best", device.arch, group)
    columns = min(tile.columns, max(32, power_above(size)))
    span, shares = share_words(rows, size, columns, device)
    scores = base.new_empty(rows, width)
    choices = torch.empty(rows, width, dtype=torch.int64, device=base.device)
    keys = choices.new_empty(rows if shares > 1 else 0, shares, width)
    kept = {"WIDTH": width, "KEPT": power_above(width)}
    constants = {"GROUP": group, "SHARED": int(shares > 1), "COLUMNS": columns, **kept}
    args = (targets, base, codebook.T.contiguous(), norms, keys, scores, choices)
    launches = [Launch(_lowest, (rows, shares), (*args, beam, size, span), constants, tile)]
    if shares > 1:
        wide = launch.choose("merge", device.arch)
        merged = (keys, scores, choices, shares * width)
        constants = {**kept, "COLUMNS": wide.columns}
        launches.append(Launch(_merge, (rows,), merged, constants, wide))
    return launches, scores, choices


def share_words(rows: int, size: int, tile: int, device: Device) -> tuple[int, int]:
    """Words of a share and the number of shares, enough of them to fill the device.

    >>> share_words(8, 65536, 512, Device(90, 132))
    (2048, 32)
    """
    wanted = blocks(FULL * device.processors, max(1, rows))
    shares = max(1, min(wanted, size // (TILES * tile)))
    span = blocks(blocks(size, shares), tile) * tile
    return span, blocks(size, span)


def best(
    targets: Float[Tensor, "rows beam group"],
    base: Float[Tensor, "rows beam"],
    codebook: Float[Tensor, "size group"],
    norms: Float[Tensor, " size"],
    width: int,
) -> tuple[Float[Tensor, "rows kept"], Int[Tensor, "rows kept"]]:
    """The lowest base[h] + norms[k] - 2 targets[h] . codebook[k] of each row, ascending.

    The choice is h * size + k; ties go to the lowest choice. A width above `MOST` and
    a group above `launch.WIDEST` go through torch.

    Raises:
        InputError: the numbers are not float32.
    """
    if not targets.dtype == base.dtype == codebook.dtype == norms.dtype == torch.float32:
        raise InputError(f"targets, base, codebook and norms must be float32, got {targets.dtype}")
    kept = min(width, base.shape[1] * len(codebook))
    if kept > MOST or codebook.shape[1] > launch.WIDEST:
        return naive.best(targets, base, codebook, norms, width)
    launches, scores, choices = plan(
        targets, base, codebook, norms, kept, launch.device_of(targets)
    )
    launch.run(launches, targets)
    return scores, choices
