"""Small layer problems of odd shapes, with a quantized weight to start from."""

from typing import NamedTuple

import torch

from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight, Scheme


class Case(NamedTuple):
    problem: LayerProblem
    weight: AdditiveWeight


DEFAULT = Scheme(2, 3, 4)
SHAPES = [
    # out, groups, scheme
    (3, 2, Scheme(2, 2, 2)),
    (5, 4, Scheme(1, 3, 3)),
    (7, 3, Scheme(3, 2, 4)),
    (1, 5, Scheme(2, 1, 1)),
    (9, 6, Scheme(4, 1, 2)),
]


def make(rng, out=6, groups=5, scheme=DEFAULT, outliers=False):
    """A random weight, the Hessian of random correlated inputs, random codes and codebooks."""
    columns = groups * scheme.group
    mix = torch.randn(columns, columns, generator=rng)
    inputs = torch.randn(4 * columns, columns, generator=rng) @ mix
    if outliers:
        inputs[:, 0] *= 1000
    half = len(inputs) // 2
    weight = torch.randn(out, columns, generator=rng) * (0.2 + torch.rand(out, 1, generator=rng))
    problem = LayerProblem(weight, _moment(inputs[:half]), _moment(inputs[half:]))
    codes = torch.randint(
        scheme.size, (out, groups, scheme.codebooks), generator=rng, dtype=torch.int32
    )
    books = torch.randn(scheme.codebooks, scheme.size, scheme.group, generator=rng)
    scales = 0.3 + torch.rand(out, generator=rng)
    return Case(problem, AdditiveWeight(codes, books, scales))


def _moment(inputs):
    return inputs.T @ inputs / len(inputs)
