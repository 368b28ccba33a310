# ruff: noqa: ANN001, PLR0913 - numba types what it compiles; a scheme's numbers are many
r"""x times the transposed weight on the CPU, the weight never written out.

    y[t, o] = s_o sum_j x[t, j] . word[o, j]        word: see `cpu_decode`

For one token it is usual to tabulate x[j] . C_m[k] for every k and to add up entries by code. To
read the codewords themselves costs no more: a codeword of 8 floats is one load, as an entry of a
table is, and its product one instruction. So there are no tables to make, which is where a small
layer would spend its time and what codebooks of 65,536 words forbid, and further tokens share the
decoded word. From `MANY` tokens on it is faster to decode rows once and to multiply dense ones.
"""

from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float, Int
from llvmlite import ir  # type: ignore[import-untyped]
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from quantcore.kernels.cpu_decode import (
    FLOAT,
    INT,
    OUT,
    PIECE,
    WORK,
    Layout,
    X,
    Y,
    claim,
    decode_into,
    entry,
    fields,
    layout,
    load,
    read,
    run,
    store,
    word,
)

PASS = 8  # tokens that share a decoded word
MANY = 24  # tokens
FLOAT32 = torch.float32
CHUNK = 1 << 19  # entries of the dense weight at a time
# rows side by side for as many tokens: they share the input, and their sums fill the registers
TALL = (8, 8, 4, 4, 4, 2, 2, 2, 2)


def matmul(
    x: Float[Tensor, "tokens columns"],
    codes: Int[Tensor, "out groups books"],
    codebooks: Float[Tensor, "books size group"],
    scales: Float[Tensor, " out"],
) -> Float[Tensor, "tokens out"]:
    """The inputs times the transposed weight."""
    tokens, columns = x.shape
    out, groups, _ = codes.shape
    books, size, group = codebooks.shape
    if columns != groups * group:
        raise ValueError(f"x must have {groups} groups of {group} columns, got {columns} columns")
    work = _multiplier(books, size, group, codes.dtype, min(tokens, PASS))
    if work is None or tokens >= MANY or not x.dtype is codebooks.dtype is scales.dtype is FLOAT32:
        return _by_chunks(x, codes, codebooks, scales)
    y = torch.empty(tokens, out)
    if tokens <= PASS:
        run(work, x, codes, codebooks, scales, y)
    else:
        for some, result in zip(x.split(PASS), y.split(PASS), strict=True):
            work = _multiplier(books, size, group, codes.dtype, len(some))
            run(work, some, codes, codebooks, scales, result)
    return y


def _by_chunks(x: Tensor, codes: Tensor, codebooks: Tensor, scales: Tensor) -> Tensor:
    """Some rows at a time, decoded and multiplied."""
    out, columns = codes.shape[0], x.shape[1]
    y = x.new_empty(x.shape[0], out)
    chunk = codebooks.new_empty(max(1, min(out, CHUNK // max(1, columns))), columns)
    for first in range(0, out, len(chunk)):
        rows = slice(first, first + len(chunk))
        dense = chunk[: out - first]
        decode_into(dense, codes[rows], codebooks, scales[rows])
        torch.mm(x, dense.T, out=y[:, rows])
    return y


class _Tile:
    """Some rows of y for all tokens, as their code is made; the sums stay in registers."""

    def __init__(self, b: ir.IRBuilder, kind: Layout, job: ir.Value, row: ir.Value):
        self.b, self.kind, self.row = b, kind, row
        given = fields(b, job)
        self.x, self.codes, self.books, self.scales = given[X:Y]
        self.y, self.out, self.groups = given[Y:PIECE]
        self.sums: list[list[ir.Value]] = []  # [rows, tokens]

    def clear(self, tall: int, tokens: int) -> None:
        """Begin with zeros."""
        zero = ir.Constant(self.kind.vector, None)
        for _ in range(tall):
            sums = [cgutils.alloca_once_value(self.b, zero) for _ in range(tokens)]  # type: ignore[no-untyped-call]
            self.sums.append(sums)

    def add(self, j: ir.Value, deep: int) -> None:
        """Add x[t, j] word[o, j] for `deep` groups from j on."""
        b, kind = self.b, self.kind
        stride = INT(kind.books * kind.code_bytes)
        starts = [b.mul(b.add(self.row, INT(r)), self.groups) for r in range(len(self.sums))]
        codes = [
            read(b, kind, b.add(self.codes, b.mul(b.add(start, j), stride)), deep)
            for start in starts
        ]
        for i in range(deep):
            inputs = [self._input(t, b.add(j, INT(i))) for t in range(len(self.sums[0]))]
            for own, sums in zip(codes, self.sums, strict=True):
                value = word(b, kind, own[i], self.books)
                for given, total in zip(inputs, sums, strict=True):
                    product = b.fmul(value, given, flags=("contract",))
                    b.store(b.fadd(b.load(total), product, flags=("contract",)), total)

    def finish(self) -> None:
        """Sum over the entries of a group, scale and write."""
        b = self.b
        for r, sums in enumerate(self.sums):
            o = b.add(self.row, INT(r))
            scale = load(b, b.add(self.scales, b.mul(o, INT(4))), FLOAT, 4)
            for t, total in enumerate(sums):
                place = b.add(self.y, b.mul(b.add(o, b.mul(INT(t), self.out)), INT(4)))
                store(b, b.fmul(self._entries(b.load(total)), scale), place)

    def _input(self, t: int, j: ir.Value) -> ir.Value:
        """x[t, j], a group's columns."""
        b = self.b
        cell = b.add(b.mul(INT(t), self.groups), j)
        return load(b, b.add(self.x, b.mul(cell, INT(4 * self.kind.group))), self.kind.vector, 4)

    def _entries(self, total: ir.Value) -> ir.Value:
        """The sum of a vector's entries, in whatever order is quick."""
        signature = ir.FunctionType(FLOAT, [FLOAT, self.kind.vector])
        name = f"llvm.vector.reduce.fadd.v{self.kind.group}f32"
        add = cgutils.get_or_insert_function(self.b.module, signature, name)  # type: ignore[no-untyped-call]
        return self.b.call(add, [FLOAT(-0.0), total], fastmath=("reassoc",))


@intrinsic(prefer_literal=True)
@no_type_check
def _multiply(typingctx, job, row, books, bits, group, code_bytes, tall, tokens):
    """Write y of `tall` rows and all tokens."""
    kind = Layout(*[number.literal_value for number in (books, bits, group, code_bytes)])

    def codegen(context, b, signature, args):
        tile = _Tile(b, kind, *args[:2])
        tile.clear(tall.literal_value, tokens.literal_value)
        deep = max(1, 8 // (kind.books * kind.code_bytes))
        whole = b.and_(tile.groups, INT(-deep))
        for first, last, step in ((INT(0), whole, deep), (whole, tile.groups, 1)):
            with cgutils.for_range_slice(b, first, last, INT(step), inc=True) as (j, _):
                tile.add(j, step)
        tile.finish()
        return context.get_dummy_value()

    return types.void(job, row, books, bits, group, code_bytes, tall, tokens), codegen


@cache
@no_type_check
def _multiplier(books: int, size: int, group: int, codes: torch.dtype, tokens: int) -> Any:
    kind = layout(books, size, group, codes)
    if kind is None:
        return None
    bits, code_bytes = kind.bits, kind.code_bytes  # numba's cache tells plain numbers apart
    tall = TALL[tokens]

    @cfunc(WORK, cache=True)
    def work(job):
        first = claim(job)
        while first < job[OUT]:
            row, last = first, min(first + job[PIECE], job[OUT])
            while row + tall <= last:
                _multiply(job, row, books, bits, group, code_bytes, tall, tokens)
                row += tall
            while row < last:
                _multiply(job, row, books, bits, group, code_bytes, 1, tokens)
                row += 1
            first = claim(job)

    return entry(work)
