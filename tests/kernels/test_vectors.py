"""Vectors in compiled code against the same in numpy."""

from typing import no_type_check

import numpy as np
from numba import njit

from quantcore.kernels import vectors
from quantcore.kernels.vectors import LANES


@njit
@no_type_check
def use(x, y, bound, out):
    a, b = vectors.load(x, 1), vectors.spread(bound)
    vectors.store(out, 0, vectors.muladd(a, b, vectors.load(y, 0)))
    vectors.store(out, 1, vectors.add(a, b))
    vectors.store(out, 2, vectors.minimum(a, b))
    hits = vectors.within(a, b)
    return vectors.least(a), vectors.greatest(a), vectors.ones(hits), vectors.first_one(hits)


def test_vectors_do_what_numpy_does():
    rng = np.random.default_rng(0)
    x = rng.integers(-20, 20, (2, LANES)).astype(np.float32)
    y = rng.integers(-20, 20, LANES).astype(np.float32)
    x[1, :3], bound = 9, np.float32(-3)
    x[1, 7] = bound  # the bound is within itself
    out = np.zeros((3, LANES), np.float32)
    least, greatest, ones, first = use(x, y, bound, out)
    np.testing.assert_array_equal(out, [x[1] * bound + y, x[1] + bound, np.minimum(x[1], bound)])
    hits = x[1] <= bound
    assert (least, greatest) == (x[1].min(), x[1].max())
    assert (ones, first) == (hits.sum(), hits.argmax())
