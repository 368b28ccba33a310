# ruff: noqa: ANN001, ANN201 - numba types what it compiles
"""Vectors of floats as values in compiled code.

Numba turns a loop into vector code where it sees how, at the width that it prefers. Here the width
is a fact: a value of `LANES` float32, LLVM's own vector type, which becomes as many of the CPU's
registers as it takes. Arrays are read and written by the vector: number n is their elements from
n * LANES on, whatever their shape.
"""

from typing import no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 64  # so that one bit for each fits an integer
INT, VECTOR = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)


class _Vector(types.Type):
    """Numba's name for it."""


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    @no_type_check
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, VECTOR)


vector = _Vector("Vector")


@no_type_check
def _place(context, b, kind, array, number):
    """The address of an array's vector."""
    data = context.make_array(kind)(context, b, array).data
    return b.gep(b.bitcast(data, ir.FloatType().as_pointer()), [b.mul(number, INT(LANES))])


@intrinsic
@no_type_check
def load(typingctx, array, number):
    """A vector of a contiguous array."""

    def codegen(context, b, signature, args):
        place = _place(context, b, signature.args[0], *args)
        return b.load(b.bitcast(place, VECTOR.as_pointer()), align=4)

    return vector(array, types.int64), codegen


@intrinsic
@no_type_check
def store(typingctx, array, number, value):
    """Write a vector of a contiguous array."""

    def codegen(context, b, signature, args):
        place = _place(context, b, signature.args[0], *args[:2])
        b.store(args[2], b.bitcast(place, VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
@no_type_check
def spread(typingctx, value):
    """A float in all lanes."""

    def codegen(context, b, signature, args):
        none, index = ir.Constant(VECTOR, ir.Undefined), ir.IntType(32)
        first = b.insert_element(none, args[0], index(0))
        return b.shuffle_vector(first, none, ir.Constant(ir.VectorType(index, LANES), None))

    return vector(types.float32), codegen


@intrinsic
@no_type_check
def muladd(typingctx, x, y, z):
    """Return x * y + z, rounded once where the CPU does that."""

    def codegen(context, b, signature, args):
        x, y, z = args
        return b.fadd(b.fmul(x, y, flags=("contract",)), z, flags=("contract",))

    return vector(vector, vector, vector), codegen


@intrinsic
@no_type_check
def add(typingctx, x, y):
    """Return x + y."""
    return vector(vector, vector), lambda context, b, signature, args: b.fadd(*args)


@intrinsic
@no_type_check
def minimum(typingctx, x, y):
    """The lower of each lane."""

    def codegen(context, b, signature, args):
        return b.select(b.fcmp_ordered("<", *args), *args)

    return vector(vector, vector), codegen


@no_type_check
def _reduced(b, name, value):
    """A vector's lanes reduced to one value by one of LLVM's reductions; none may be NaN."""
    kind = ir.FunctionType(ir.FloatType(), [VECTOR])
    function = cgutils.get_or_insert_function(
        b.module, kind, f"llvm.vector.reduce.{name}.v{LANES}f32"
    )
    return b.call(function, [value], fastmath=("nnan",))


@intrinsic
@no_type_check
def least(typingctx, x):
    """The lowest lane."""
    return types.float32(vector), lambda context, b, signature, args: _reduced(b, "fmin", *args)


@intrinsic
@no_type_check
def greatest(typingctx, x):
    """The highest lane."""
    return types.float32(vector), lambda context, b, signature, args: _reduced(b, "fmax", *args)


@intrinsic
@no_type_check
def within(typingctx, x, y):
    """A bit for each lane, the first lowest: whether x <= y."""

    def codegen(context, b, signature, args):
        return b.bitcast(b.fcmp_ordered("<=", *args), INT)

    return types.int64(vector, vector), codegen


@intrinsic
@no_type_check
def ones(typingctx, mask):
    """How many bits are set."""
    return types.int64(types.int64), lambda context, b, signature, args: b.ctpop(args[0])


@intrinsic
@no_type_check
def first_one(typingctx, mask):
    """Which bit is the first one set; some must be."""

    def codegen(context, b, signature, args):
        return b.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), codegen
