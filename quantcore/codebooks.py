r"""Best codebooks and scales for given codes: exact least squares.

With the codes fixed, Q is linear in the codewords c (all M books together), so the layer error is a
quadratic in c and its minimum solves the normal equations

    A c = b,   (A c)_mk = sum s_o (Q(c) H)_oj,   b_mk = sum s_o (W H)_oj   over codes[o, j, m] = k.

A is never formed: one product decodes, multiplies by H and sums by code. Conjugate gradients solve
it, preconditioned by A's own g x g diagonal blocks (the sums A_k of the clustering), in float64:
plain float32 conjugate gradients diverge on layers whose inputs have enormous outliers. This takes
the place of AQLM's 100 Adam steps (arXiv:2401.06118, section 3.3), which head for the same minimum.

With the codewords fixed, each row's best scale is s_o = (w H q^T) / (q H q^T), q the unscaled row.

Both refits return what they were given where they would not lower the error.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore.clustering import EMProblem, codeword_sums
from quantcore.errors import InputError
from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight

SOLVED = 1e-20  # share of the first slope, which is a square: ten digits of the residual
RIDGE = 1e-9  # keeps the preconditioner's blocks definite, as a share of their mean diagonal


@dataclass(frozen=True)
class RefitConfig:
    """How far the conjugate gradients go.

    Attributes:
        steps: Most steps.
        rtol: Stop once a step lowers the error by no more than this share of it.
    """

    steps: int = 30
    rtol: float = 1e-4

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise InputError(f"steps must be at least 0, got {self.steps}")


class RefitState(NamedTuple):
    """Conjugate gradients on the normal equations."""

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
    """The operator A, its preconditioner and the layer's codes, in float64."""

    hessian: Float[Tensor, "columns columns"]
    weight: AdditiveWeight
    inverse_blocks: Float[Tensor, "books size group group"]
    floor: float  # slopes below this are rounding: the equations are solved

    def apply(self, words: Float[Tensor, "books size group"]) -> Float[Tensor, "books size group"]:
        """A c."""
        return self.gather(replace(self.weight, codebooks=words).dense() @ self.hessian)

    def gather(self, pulls: Float[Tensor, "out columns"]) -> Float[Tensor, "books size group"]:
        """Sum the scaled groups of `pulls` by code, the adjoint of decoding."""
        weight = self.weight
        books, size, group = weight.codebooks.shape
        scaled = (pulls * weight.scales[:, None]).view(-1, group)
        sums = scaled.new_zeros(books, size, group)
        for book in range(books):
            sums[book].index_add_(0, weight.codes[..., book].flatten().long(), scaled)
        return sums

    def precondition(
        self, residual: Float[Tensor, "books size group"]
    ) -> Float[Tensor, "books size group"]:
        """Solve each codeword's own block."""
        return (self.inverse_blocks @ residual[..., None])[..., 0]


def start(problem: LayerProblem, weight: AdditiveWeight) -> tuple[NormalEquations, RefitState]:
    """The normal equations of the present codes, and conjugate gradients at the present words."""
    exact = AdditiveWeight(weight.codes, weight.codebooks.double(), weight.scales.double())
    hessian = problem.hessian.double()
    equations = NormalEquations(hessian, exact, _inverse_blocks(problem, weight), 0.0)
    residual = equations.gather((problem.weight.double() - exact.dense()) @ hessian)
    direction = equations.precondition(residual)
    slope = (residual * direction).sum()
    equations = replace(equations, floor=SOLVED * float(slope))
    return equations, RefitState(exact.codebooks, residual, direction, slope, 0.0)


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
    error = float(problem.row_errors(weight.dense()).sum())
    for done in range(config.steps):
        after = step(equations, state)
        observe(RefitInfo(done + 1, after.drop))
        gain = after.drop - state.drop
        state = after
        if gain <= config.rtol * (error - state.drop):
            break
    fitted = replace(weight, codebooks=state.words.to(weight.codebooks.dtype))
    fitted = refit_scales(problem, fitted)
    better = float(problem.row_errors(fitted.dense()).sum()) < error
    return fitted if better else refit_scales(problem, weight)


def refit_scales(problem: LayerProblem, weight: AdditiveWeight) -> AdditiveWeight:
    """The best scale of each row; a row whose decoded weights have no output keeps its own."""
    unscaled = weight.unscaled().double()
    pulls = unscaled @ problem.hessian.double()
    energy = (pulls * unscaled).sum(1)
    best = (pulls * problem.weight).sum(1) / energy
    scales = torch.where((energy > 0) & (best > 0), best.to(weight.scales.dtype), weight.scales)
    new = replace(weight, scales=scales)
    better = problem.row_errors(new.dense()) < problem.row_errors(weight.dense())
    return replace(weight, scales=torch.where(better, scales, weight.scales))


def _inverse_blocks(
    problem: LayerProblem, weight: AdditiveWeight
) -> Float[Tensor, "books size group group"]:
    """Inverses of A's g x g diagonal blocks; zero for words that no group uses."""
    _, size, group = weight.codebooks.shape
    vectors = problem.weight.unflatten(1, (-1, group))
    metric = EMProblem(vectors, problem.blocks(group), weight.scales.square())
    inverses = []
    for book in range(len(weight.codebooks)):
        block, _ = codeword_sums(metric, weight.codes[..., book], size)
        mean = block.diagonal(dim1=1, dim2=2).mean(1)
        used = mean > 0
        eye = torch.eye(group, dtype=block.dtype, device=block.device)
        inverse = torch.zeros_like(block)
        inverse[used] = torch.linalg.inv(block[used] + RIDGE * mean[used, None, None] * eye)
        inverses.append(inverse)
    return torch.stack(inverses)
