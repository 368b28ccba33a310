r"""Best codebooks and scales for given codes: exact least squares.

With the codes fixed, Q is linear in the codewords c (all M books together), so the layer error is a
quadratic in c and its minimum solves the normal equations

    A c = b,   (A c)_mk = sum s_o (Q(c) H)_oj,   b_mk = sum s_o (W H)_oj   over codes[o, j, m] = k.

A is never formed: one product decodes, multiplies by H and sums by code. Conjugate gradients solve
it, preconditioned by A's own g x g diagonal blocks (the sums A_k of the clustering). The residual
that they start from and all sums are float64; the products with H on the way are float32, which the
blocks make safe even where inputs have enormous outliers (without them, float32 diverges there).
This takes the place of AQLM's 100 Adam steps (arXiv:2401.06118, section 3.3), which head for the
same minimum.

With the codewords fixed, each row's best scale is s_o = (w H q^T) / (q H q^T), q the unscaled row.

Both refits return what they were given where they would not lower the error.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore import kernels
from quantcore.errors import InputError
from quantcore.objective import CHUNK, LayerProblem, pulls_of, row_chunks
from quantcore.weight import AdditiveWeight

SOLVED = 1e-12  # share of the first slope, which is a square: six digits of the residual
RIDGE = 1e-9  # keeps the preconditioner's blocks definite, as a share of their mean diagonal


@dataclass(frozen=True)
class RefitConfig:
    """How far the conjugate gradients go.

    Attributes:
        steps: Most steps.
        rtol: Stop once a step lowers the error by no more than this share of it.
    """

    steps: int = 10
    rtol: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise InputError(f"steps must be at least 0, got {self.steps}")


class RefitState(NamedTuple):
    """Conjugate gradients on the normal equations, in float64."""

    words: Float[Tensor, "books size group"]
    residual: Float[Tensor, "books size group"]  # b - A c
    direction: Float[Tensor, "books size group"]
    slope: Float[Tensor, ""]  # residual . preconditioned residual
    drop: float  # how far the error has fallen since the start, summed over rows


class RefitInfo(NamedTuple):
    """What one step did."""

    step: int
    drop: float  # how far the error has fallen since the start, summed over rows


@dataclass(frozen=True)
class NormalEquations:
    """The operator A and its preconditioner."""

    hessian: Float[Tensor, "columns columns"]
    weight: AdditiveWeight
    inverse_blocks: Float[Tensor, "books size group group"]
    error: float  # of the weight, summed over rows
    floor: float  # slopes below this are rounding: the equations are solved

    def apply(self, words: Float[Tensor, "books size group"]) -> Float[Tensor, "books size group"]:
        """A c, with products in the Hessian's own precision and sums in float64."""
        weight, small = self.weight, words.to(self.hessian.dtype)
        total = torch.zeros_like(words)
        for rows in row_chunks(CHUNK, len(weight.codes), len(self.hessian)):
            codes, scales = weight.codes[rows], weight.scales[rows]
            bent = kernels.decode(codes, small, scales) @ self.hessian
            total += kernels.sum_by_code(bent, codes, scales, words.shape[1])
        return total

    def precondition(
        self, residual: Float[Tensor, "books size group"]
    ) -> Float[Tensor, "books size group"]:
        """Solve each codeword's own block."""
        return (self.inverse_blocks @ residual[..., None])[..., 0]


def start(problem: LayerProblem, weight: AdditiveWeight) -> tuple[NormalEquations, RefitState]:
    """The normal equations of the present codes, and conjugate gradients at the present words."""
    residual, error = weight.codebooks.new_zeros(weight.codebooks.shape, dtype=torch.float64), 0.0
    for rows in row_chunks(CHUNK, *problem.weight.shape):
        some, dense = weight[rows], problem.weight[rows]
        delta, pulls = (dense - some.dense()).double(), torch.empty_like(dense)
        for here, part in pulls_of(delta, problem.hessian):
            error += float((part * delta[:, here]).sum())
            pulls[:, here] = part
        residual += kernels.sum_by_code(pulls, some.codes, some.scales, residual.shape[1])
    blocks = _inverse_blocks(problem, weight)
    equations = NormalEquations(problem.hessian, weight, blocks, error, 0.0)
    direction = equations.precondition(residual)
    slope = (residual * direction).sum()
    equations = replace(equations, floor=SOLVED * float(slope))
    return equations, RefitState(weight.codebooks.double(), residual, direction, slope, 0.0)


def step(equations: NormalEquations, state: RefitState) -> RefitState:
    """One preconditioned conjugate gradient step; none once the equations are solved.

    Two books can trade a constant, so A is singular; going on after the last true digit would run
    off along such a direction.
    """
    if not state.slope > equations.floor:
        return state
    bent = equations.apply(state.direction)
    curvature = (state.direction * bent).sum()
    if not curvature > 0:
        return state
    length = state.slope / curvature
    residual = state.residual - length * bent
    fresh = equations.precondition(residual)
    slope = (residual * fresh).sum()
    return RefitState(
        state.words + length * state.direction,
        residual,
        fresh + (slope / state.slope) * state.direction,
        slope,
        state.drop + float(length * state.slope),
    )


def run(
    problem: LayerProblem,
    weight: AdditiveWeight,
    config: RefitConfig,
    observe: Callable[[RefitInfo], None] = lambda info: None,
) -> AdditiveWeight:
    """Least-squares codebooks, then scales; never worse than `weight` on the problem's Hessian."""
    equations, state = start(problem, weight)
    for done in range(config.steps):
        after = step(equations, state)
        observe(RefitInfo(done + 1, after.drop))
        gain = after.drop - state.drop
        state = after
        if gain <= config.rtol * (equations.error - state.drop):
            break
    fitted = replace(weight, codebooks=state.words.to(weight.codebooks.dtype))
    fitted, error = _scaled(problem, fitted)
    return fitted if error < equations.error else refit_scales(problem, weight)


def refit_scales(problem: LayerProblem, weight: AdditiveWeight) -> AdditiveWeight:
    """The best scale of each row; a row whose decoded weights have no output keeps its own."""
    return _scaled(problem, weight)[0]


def _scaled(problem: LayerProblem, weight: AdditiveWeight) -> tuple[AdditiveWeight, float]:
    """The weight with the best scales, and its error summed over rows."""
    best, error = torch.empty_like(weight.scales), 0.0
    for rows in row_chunks(CHUNK, *problem.weight.shape):
        scales, dense = weight.scales[rows], problem.weight[rows]
        unscaled = weight[rows].unscaled().double()
        energy, shared = unscaled.new_zeros(2, len(scales))
        for here, pulls in pulls_of(unscaled, problem.hessian):
            energy += (pulls * unscaled[:, here]).sum(1)
            shared += (pulls * dense[:, here]).sum(1)
        fitted = (shared / energy).to(scales.dtype)
        old = scales * (scales * energy - 2 * shared)  # the error less that of Q = 0
        new = fitted * (fitted * energy - 2 * shared)
        better = (energy > 0) & (fitted > 0) & (new < old)
        best[rows] = torch.where(better, fitted, scales)
        error += float((problem.row_energies[rows] + torch.where(better, new, old)).sum())
    return replace(weight, scales=best), error


def _inverse_blocks(
    problem: LayerProblem, weight: AdditiveWeight
) -> Float[Tensor, "books size group group"]:
    """Inverses of A's g x g diagonal blocks; zero for words that no group uses."""
    books, size, group = weight.codebooks.shape
    blocks, row_weights = problem.blocks(group), weight.scales.square()
    vectors = problem.weight.unflatten(1, (-1, group))
    inverses = []
    for book in range(books):
        codes = weight.codes[..., book].contiguous()
        block, _ = kernels.codeword_sums(vectors, blocks, row_weights, codes, size)
        mean = block.diagonal(dim1=1, dim2=2).mean(1)
        used = mean > 0
        eye = torch.eye(group, dtype=block.dtype, device=block.device)
        inverse = torch.zeros_like(block)
        inverse[used] = torch.linalg.inv(block[used] + RIDGE * mean[used, None, None] * eye)
        inverses.append(inverse)
    return torch.stack(inverses)
