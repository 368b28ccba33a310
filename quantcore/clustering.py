r"""One codebook for vectors whose errors are measured in a metric: hard EM.

Vector (o, j) is group j of row o. Its error is measured by the metric H_j of its group and weighted
by its row's weight a_o, so the objective is

    F(C, z) = sum_{o,j} a_o (v_oj - C[z_oj])^T H_j (v_oj - C[z_oj])

The M-step fits the codewords to fixed codes, the E-step gives every vector its nearest codeword in
its own metric (a_o cancels there). Neither raises F. With H_j = I and a_o = 1 this is Lloyd's
k-means.

F is quadratic in every codeword, so codes enter the M-step only through two sums a codeword,

    A_k = sum a_o H_j   and   b_k = sum a_o H_j v_oj     over the vectors with z_oj = k,

and nothing of size vectors x g x g is ever made. The exact M-step solves A_k c = b_k. The released
code of arXiv:2604.08118 (section 3.3) instead takes Adam steps on F / vectors; the gradient of that
is 2 (A_k c - b_k) / vectors, so the same iterates follow from the same sums.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import kernels
from quantcore.errors import InputError
from quantcore.objective import SLICE, row_chunks

RIDGE = 1e-6  # pull of the exact M-step towards the old codeword, as a share of the mean curvature


@dataclass(frozen=True)
class Adam:
    """The released M-step: Adam with a cosine from `rate` to `rate * floor`, anew each round."""

    steps: int = 100
    rate: float = 1e-4
    floor: float = 0.1


@dataclass(frozen=True)
class EMConfig:
    """How long EM runs and how it fits codewords.

    Attributes:
        rounds: Most rounds of M- then E-step.
        rtol: Stop once a round lowers F by no more than this share of it.
        adam: Fit codewords by these Adam steps; None solves for them exactly.
        reseed: Move codewords that no vector uses onto the vectors with the largest error.
    """

    rounds: int = 30
    rtol: float = 1e-4
    adam: Adam | None = None
    reseed: bool = True

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise InputError(f"rounds must be at least 0, got {self.rounds}")


@dataclass(frozen=True)
class EMProblem:
    """Vectors, the metric of the group each belongs to, and the weight of the row."""

    vectors: Float[Tensor, "out groups group"]
    metrics: Float[Tensor, "groups group group"]
    row_weights: Float[Tensor, " out"]

    @classmethod
    def euclidean(cls, vectors: Float[Tensor, "out groups group"]) -> "EMProblem":
        """The plain k-means problem: every metric is I, every weight 1."""
        out, groups, group = vectors.shape
        eye = torch.eye(group, dtype=vectors.dtype, device=vectors.device)
        return cls(vectors, eye.expand(groups, -1, -1), vectors.new_ones(out))


class EMState(NamedTuple):
    """Codewords, and the nearest one of each vector with its cost."""

    codebook: Float[Tensor, "size group"]
    codes: Int[Tensor, "out groups"]
    costs: Float[Tensor, "out groups"]  # without the row weight


class EMInfo(NamedTuple):
    """What one round did."""

    objective: float  # F after the round
    moved: int  # vectors whose code changed
    reseeded: int  # codewords no vector used, moved to where the error is largest


def start(problem: EMProblem, size: int, rng: torch.Generator) -> EMState:
    """Begin at `size` different vectors drawn at random, as AQLM's k-means does."""
    vectors = problem.vectors.flatten(0, 1)
    order = torch.randperm(len(vectors), generator=rng, device=rng.device)
    words = vectors[order[:size].to(vectors.device)]
    del order  # as large as the codes and costs to come
    return state_of(problem, words)


def state_of(problem: EMProblem, codebook: Float[Tensor, "size group"]) -> EMState:
    """The state that a codebook determines: every vector at its nearest codeword."""
    codes, costs = kernels.assign(problem.vectors, problem.metrics, codebook)
    return EMState(codebook, codes, costs)


def rescored(problem: EMProblem, state: EMState) -> EMState:
    """The same codewords and codes, their costs in another metric."""
    costs = torch.empty_like(state.costs)
    for rows in row_chunks(SLICE, len(costs), problem.vectors[0].numel()):
        delta = problem.vectors[rows] - state.codebook[state.codes[rows].long()]
        costs[rows] = torch.einsum("ojg,jgh,ojh->oj", delta, problem.metrics, delta)
    return state._replace(costs=costs)


def step(problem: EMProblem, state: EMState, config: EMConfig) -> tuple[EMState, EMInfo]:
    """Fit the codewords to the codes, then the codes to the codewords."""
    codebook, reseeded = state.codebook, 0
    if config.adam is None:
        codebook = refit(problem, state.codes, codebook)
    else:
        codebook = refit_adam(problem, state.codes, codebook, config.adam)
    if config.reseed:
        codebook, reseeded = reseed(problem, codebook, state)
    after = state_of(problem, codebook)
    moved = int(torch.count_nonzero(after.codes != state.codes))
    return after, EMInfo(objective(problem, after), moved, reseeded)


def run(
    problem: EMProblem,
    state: EMState,
    config: EMConfig,
    observe: Callable[[EMInfo], None] = lambda info: None,
) -> EMState:
    """Repeat `step` until F stalls; the state with the smallest F seen is returned."""
    best = objective(problem, state)
    for _ in range(config.rounds):
        after, info = step(problem, state, config)
        observe(info)
        gain = best - info.objective
        if gain > 0:
            state, best = after, info.objective
        if gain <= config.rtol * best and not info.reseeded:
            break
    return state


def objective(problem: EMProblem, state: EMState) -> float:
    """F: the weighted error of every vector at its codeword."""
    chunks = row_chunks(SLICE, *state.costs.shape)  # a sum in float64 copies what it sums
    rows = torch.cat([state.costs[rows].sum(1, dtype=torch.float64) for rows in chunks])
    return float(problem.row_weights.double() @ rows)


def refit(
    problem: EMProblem, codes: Int[Tensor, "out groups"], codebook: Float[Tensor, "size group"]
) -> Float[Tensor, "size group"]:
    """Exact M-step: solve A_k c = b_k for every codeword; unused codewords stay.

    A pull of relative strength `RIDGE` towards the old codeword keeps the solve definite where a
    codeword's inputs leave directions undetermined. It does not break monotonicity: the pulled
    solution is never worse than the old codeword.
    """
    curvature, target = _sums(problem, codes, len(codebook))
    diagonal = curvature.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    pull = torch.where(mean > 0, RIDGE * mean, 1.0)
    lhs = curvature + torch.diag_embed(pull.expand_as(diagonal))
    return kernels.solve(lhs, target + pull * codebook).to(codebook.dtype)


def refit_adam(
    problem: EMProblem,
    codes: Int[Tensor, "out groups"],
    codebook: Float[Tensor, "size group"],
    config: Adam,
) -> Float[Tensor, "size group"]:
    """Released M-step: Adam (betas .9, .999, eps 1e-8) on F / vectors with a cosine schedule."""
    curvature, target = _sums(problem, codes, len(codebook))
    scale = 2 / codes.numel()
    curvature, target = scale * curvature, scale * target
    words = codebook.to(curvature.dtype)
    first, second = torch.zeros_like(words), torch.zeros_like(words)
    low = config.rate * config.floor
    for done in range(config.steps):
        rate = low + (config.rate - low) * (1 + math.cos(math.pi * done / config.steps)) / 2
        gradient = torch.einsum("kij,kj->ki", curvature, words) - target
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient.square()
        mean = first / (1 - 0.9 ** (done + 1))
        spread = (second / (1 - 0.999 ** (done + 1))).sqrt()
        words = words - rate * mean / (spread + 1e-8)
    return words.to(codebook.dtype)


def reseed(
    problem: EMProblem, codebook: Float[Tensor, "size group"], state: EMState
) -> tuple[Float[Tensor, "size group"], int]:
    """Move the words that `state` leaves unused onto the vectors with the largest weighted error.

    F cannot rise: an unused word costs nothing where it is, and one more word to choose from only
    helps.
    """
    dead = (torch.bincount(state.codes.flatten(), minlength=len(codebook)) == 0).nonzero()[:, 0]
    if len(dead) == 0:
        return codebook, 0
    worst = _worst(problem, state, len(dead))
    moved = codebook.clone()
    moved[dead[: len(worst)]] = problem.vectors.flatten(0, 1)[worst]
    return moved, len(worst)


def _worst(problem: EMProblem, state: EMState, count: int) -> Int[Tensor, " found"]:
    """The vectors with the largest weighted error, worst first; `count` or all there are."""
    costs, places = [], []
    for rows in row_chunks(SLICE, *state.costs.shape):
        part = (problem.row_weights[rows, None] * state.costs[rows]).flatten()
        most, where = part.topk(min(count, len(part)))
        costs.append(most)
        places.append(where + rows.start * state.costs.shape[1])
    best = torch.cat(costs).topk(min(count, state.costs.numel())).indices
    return torch.cat(places)[best]


def _sums(
    problem: EMProblem, codes: Int[Tensor, "out groups"], size: int
) -> tuple[Float[Tensor, "size group group"], Float[Tensor, "size group"]]:
    """A_k and b_k of every codeword, in float64."""
    return kernels.codeword_sums(problem.vectors, problem.metrics, problem.row_weights, codes, size)
