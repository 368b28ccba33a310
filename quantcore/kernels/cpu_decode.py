# ruff: noqa: ANN001, ANN201 - numba types what it compiles
r"""The dense weight on the CPU, and what the product shares with it: codewords in registers.

    word[o, j] = sum_m C_m[codes[o, j, m]]          `group` floats
    W[o, j]    = s_o word[o, j]

A code is read where it lies: [out, groups, books], int8, int16 or int32, wrapped or not, since only
its low bits name the codeword (and so no code can point outside its codebook). Numba has no vector
values, so the inner steps are written in LLVM's: the scheme is constant there and the loops over
books are unrolled while the code is made. That is one compilation a scheme, a fraction of a second,
kept on disk.

The work is a range of rows. Threads claim one piece after another from a counter in the job until
none is left, so that it matters little which of them the system holds up. They are the team that
torch's own operations use (`GOMP_parallel`, about a microsecond from start to end), because it
waits for work spinning and others would compete with it for the cores. Where torch brings another
library than GNU's, they are those of `threads.over`.
"""

import ctypes
import threading
from functools import cache
from struct import Struct
from typing import Any, NamedTuple, no_type_check

import torch
from jaxtyping import Float, Int
from llvmlite import ir  # type: ignore[import-untyped]
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from quantcore.kernels import naive, threads

CODE_BYTES = {torch.int8: 1, torch.int16: 2, torch.int32: 4, torch.int64: 8}
WIDEST = 64  # floats of a group that are held in registers
SMALL = 1 << 14  # codewords that one thread reads before two have begun
PIECES = 2  # a thread's share of the rows comes in as many
STEP = 8  # a piece's rows are a multiple of it

# a job is nine 64-bit integers, most of them addresses
NEXT, X, CODES, BOOKS, SCALES, Y, OUT, GROUPS, PIECE = range(9)
FIELDS = Struct("9q")
WORK = types.void(types.CPointer(types.int64))  # type: ignore[no-untyped-call]
Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
INT, FLOAT = ir.IntType(64), ir.FloatType()


class Layout(NamedTuple):
    """What a kernel is compiled for."""

    books: int
    bits: int
    group: int
    code_bytes: int

    @property
    def vector(self) -> ir.Type:
        """A group of floats in registers."""
        return ir.VectorType(FLOAT, self.group)


def layout(books: int, size: int, group: int, codes: torch.dtype) -> Layout | None:
    """The layout of a float32 weight as the compiled kernels read it; None if they do not."""
    if codes not in CODE_BYTES or group > WIDEST or size & (size - 1):
        return None
    return Layout(books, size.bit_length() - 1, group, CODE_BYTES[codes])


def decode(
    codes: Int[Tensor, "out groups books"],
    codebooks: Float[Tensor, "books size group"],
    scales: Float[Tensor, " out"],
) -> Float[Tensor, "out columns"]:
    """The dense weight: each group's codewords summed, times the row's scale."""
    out, groups, _ = codes.shape
    dense = codebooks.new_empty(out, groups * codebooks.shape[2])
    decode_into(dense, codes, codebooks, scales)
    return dense


def decode_into(dense: Tensor, codes: Tensor, codebooks: Tensor, scales: Tensor) -> None:
    """Write the dense weight to a contiguous tensor."""
    work = _decoder(*codebooks.shape, codes.dtype)
    if work is None or not codebooks.dtype is scales.dtype is torch.float32:
        dense.copy_(naive.decode(codes, codebooks, scales))
    else:
        run(work, scales, codes, codebooks, scales, dense)


def run(work: Any, x: Tensor, codes: Tensor, codebooks: Tensor, scales: Tensor, y: Tensor) -> None:
    """Let the threads do compiled `work` on these tensors; y is its result."""
    out, groups, books = codes.shape
    if codebooks.shape[0] != books or scales.shape[0] != out:
        raise ValueError(
            f"codes of shape {tuple(codes.shape)} need {books} codebooks and {out} scales, "
            f"got {codebooks.shape[0]} and {scales.shape[0]}"
        )
    if not (x.is_cpu and codes.is_cpu and codebooks.is_cpu and scales.is_cpu):
        raise ValueError("x, codes, codebooks and scales must all be on the CPU")
    x, codes = x.contiguous(), codes.contiguous()  # names hold the copies until the end
    codebooks, scales = codebooks.contiguous(), scales.contiguous()
    count = torch.get_num_threads() if out * groups * books > SMALL else 1
    piece = -(-out // (count * PIECES * STEP)) * STEP
    places = x.data_ptr(), codes.data_ptr(), codebooks.data_ptr(), scales.data_ptr(), y.data_ptr()
    job = _own.job
    FIELDS.pack_into(job, 0, 0, *places, out, groups, piece)
    if count == 1:
        work(job)
    elif _TEAM is None:
        threads.over(count, lambda first, last: work(job))  # each claims what is left
    else:
        _TEAM(work, job, count, 0)


def load(b: ir.IRBuilder, address: ir.Value, kind: ir.Type, align: int) -> ir.Value:
    """The value at an address that is an integer."""
    return b.load(b.inttoptr(address, kind.as_pointer()), align=align)


def store(b: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    """Write floats to an address that is an integer."""
    b.store(value, b.inttoptr(address, value.type.as_pointer()), align=4)


def fields(b: ir.IRBuilder, job: ir.Value) -> list[ir.Value]:
    """The integers of a job."""
    return [b.load(b.gep(job, [INT(field)])) for field in range(FIELDS.size // 8)]


def read(b: ir.IRBuilder, kind: Layout, place: ir.Value, groups: int) -> list[list[ir.Value]]:
    """The codes of some groups that lie side by side; eight bytes of them with one load."""
    bits, count = 8 * kind.code_bytes, groups * kind.books
    stored = ir.IntType(bits)
    if bits * count == 64:
        packed = load(b, place, INT, 1)
        codes = [b.trunc(b.lshr(packed, INT(bits * i)), stored) for i in range(count)]
    else:
        places = [b.add(place, INT(kind.code_bytes * i)) for i in range(count)]
        codes = [load(b, here, stored, 1) for here in places]
    return [
        [b.sext(code, INT) for code in codes[i : i + kind.books]]
        for i in range(0, count, kind.books)
    ]


def word(b: ir.IRBuilder, kind: Layout, codes: list[ir.Value], codebooks: ir.Value) -> ir.Value:
    """The sum of the codewords that one group's codes name."""
    total = None
    for m, code in enumerate(codes):
        index = b.and_(code, INT((1 << kind.bits) - 1))
        book = b.add(codebooks, INT(4 * m * kind.group << kind.bits))
        codeword = load(b, b.add(book, b.mul(index, INT(4 * kind.group))), kind.vector, 4)
        total = codeword if total is None else b.fadd(total, codeword)
    return total


def entry(work: Any) -> Any:
    """A compiled function for ctypes, which must not outlive it."""
    found: Any = Work(work.address)
    found.compiled = work
    return found


@intrinsic
@no_type_check
def claim(typingctx, job):
    """The first row of a piece that no other thread has."""

    def codegen(context, b, signature, args):
        (job,) = args
        piece = b.load(b.gep(job, [INT(PIECE)]))
        return b.atomic_rmw("add", b.gep(job, [INT(NEXT)]), piece, "monotonic")

    return types.int64(job), codegen


@intrinsic(prefer_literal=True)
@no_type_check
def _decode_row(typingctx, job, row, books, bits, group, code_bytes):
    """Write W[row]."""
    kind = Layout(*[number.literal_value for number in (books, bits, group, code_bytes)])

    def codegen(context, b, signature, args):
        job, row, *_ = args
        _, _, codes, codebooks, scales, y, _, groups, _ = fields(b, job)
        scale = _spread(b, kind, load(b, b.add(scales, b.mul(row, INT(4))), FLOAT, 4))
        start = b.mul(row, groups)
        with cgutils.for_range(b, groups) as loop:
            cell = b.add(start, loop.index)
            place = b.add(codes, b.mul(cell, INT(kind.books * kind.code_bytes)))
            (own,) = read(b, kind, place, 1)
            value = b.fmul(word(b, kind, own, codebooks), scale)
            store(b, value, b.add(y, b.mul(cell, INT(4 * kind.group))))
        return context.get_dummy_value()

    return types.void(job, row, books, bits, group, code_bytes), codegen


def _spread(b: ir.IRBuilder, kind: Layout, value: ir.Value) -> ir.Value:
    """A float in all entries of a vector."""
    none, index = ir.Constant(kind.vector, ir.Undefined), ir.IntType(32)
    first = b.insert_element(none, value, index(0))
    return b.shuffle_vector(first, none, ir.Constant(ir.VectorType(index, kind.group), None))


@cache
@no_type_check
def _decoder(books: int, size: int, group: int, codes: torch.dtype) -> Any:
    kind = layout(books, size, group, codes)
    if kind is None:
        return None
    bits, code_bytes = kind.bits, kind.code_bytes  # numba's cache tells plain numbers apart

    @cfunc(WORK, cache=True)
    def work(job):
        first = claim(job)
        while first < job[OUT]:
            for row in range(first, min(first + job[PIECE], job[OUT])):
                _decode_row(job, row, books, bits, group, code_bytes)
            first = claim(job)

    return entry(work)


class _Own(threading.local):
    """Memory for a job, which each Python thread has for itself."""

    def __init__(self) -> None:
        self.job = ctypes.create_string_buffer(FIELDS.size)


def _team() -> Any:
    """GNU OpenMP's entry in the library that torch has loaded: (work, job, threads, flags)."""
    try:
        team = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    team.argtypes = [Work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    team.restype = None
    return team


_own = _Own()
_TEAM = _team()
