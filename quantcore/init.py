r"""First codes and codebooks, book by book.

Rows are divided by their norm s_o = |w_o| (the first scales), and each codebook is fitted to what
the ones before it left over (AQLM, arXiv:2401.06118, section 3.1). The initialisers differ in one
thing, the metric in which a codebook is fitted:

    greedy       Euclidean: k-means on the residuals.
    oa-em        The same k-means, then EM in the metric of the layer's output: H_j, the Hessian's
                 diagonal block of the vector's input group, rows weighted by s_o^2, exact M-step.
    oa-em-adam   The same k-means, then EM as released with arXiv:2604.08118 (section 3.3): 3
                 rounds of 100 Adam steps, blocks damped by 1 % of the layer's mean diagonal, rows
                 unweighted.

All three are `clustering` run on an `EMProblem`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore import clustering
from quantcore.clustering import Adam, EMConfig, EMProblem
from quantcore.errors import InputError
from quantcore.objective import LayerProblem, Regularisation
from quantcore.weight import AdditiveWeight, Scheme

KMEANS = EMConfig(rounds=100)
EXACT = EMConfig(rounds=100)
RELEASED = EMConfig(rounds=3, rtol=float("-inf"), adam=Adam(), reseed=False)
RELEASED_DAMPING = Regularisation(damping=0.01)

INITIALISERS = ("greedy", "oa-em", "oa-em-adam")


@dataclass(frozen=True)
class InitConfig:
    """Which initialiser, and how long its parts run.

    Attributes:
        name: One of `INITIALISERS`.
        kmeans: Rounds of the Euclidean k-means that every initialiser starts with.
        exact: Rounds of `oa-em` in the output metric.
    """

    name: str = "oa-em"
    kmeans: EMConfig = field(default=KMEANS)
    exact: EMConfig = field(default=EXACT)

    def __post_init__(self) -> None:
        if self.name not in INITIALISERS:
            known = ", ".join(INITIALISERS)
            raise InputError(f"there is no initialiser {self.name!r}; choose one of {known}")


class InitState(NamedTuple):
    """The books fitted so far, and what they leave of the row-normalised weight."""

    weight: AdditiveWeight
    residual: Float[Tensor, "out groups group"]


class InitInfo(NamedTuple):
    """One round of EM inside a step, for progress."""

    book: int
    metric: str  # "weights" or "outputs"
    objective: float


Observe = Callable[[InitInfo], None]


def start(problem: LayerProblem, scheme: Scheme) -> InitState:
    """No books yet: the scales are the row norms, the residual the normalised weight.

    Raises:
        SchemeError: the scheme does not divide the layer.
    """
    scheme.check(*problem.weight.shape)
    scales = problem.weight.norm(dim=1)
    residual = (problem.weight / scales[:, None]).unflatten(1, (-1, scheme.group))
    codes = torch.empty(*residual.shape[:2], 0, dtype=torch.int32, device=scales.device)
    books = residual.new_empty(0, scheme.size, scheme.group)
    return InitState(AdditiveWeight(codes, books, scales), residual)


def step(
    problem: LayerProblem,
    state: InitState,
    config: InitConfig,
    rng: torch.Generator,
    observe: Observe = lambda info: None,
) -> InitState:
    """Fit one more codebook to the residual."""
    weight, residual = state
    book, size, _ = weight.codebooks.shape

    def seen(metric: str) -> Callable[[clustering.EMInfo], None]:
        return lambda info: observe(InitInfo(book, metric, info.objective))

    plain = EMProblem.euclidean(residual)
    fitted = clustering.run(
        plain, clustering.start(plain, size, rng), config.kmeans, seen("weights")
    )
    if config.name != "greedy":
        bent, rounds = _output_metric(problem, state, config)
        # the k-means codes stay for the first M-step, as in the released code
        fitted = clustering.run(bent, _rescored(bent, fitted), rounds, seen("outputs"))
    codes = torch.cat([weight.codes, fitted.codes[..., None]], -1)
    books = torch.cat([weight.codebooks, fitted.codebook[None]])
    left = residual - fitted.codebook[fitted.codes.long()]
    return InitState(AdditiveWeight(codes, books, weight.scales), left)


def run(
    problem: LayerProblem,
    scheme: Scheme,
    config: InitConfig,
    rng: torch.Generator,
    observe: Observe = lambda info: None,
) -> AdditiveWeight:
    """Fit all codebooks of `scheme`, one after another."""
    state = start(problem, scheme)
    for _ in range(scheme.codebooks):
        state = step(problem, state, config, rng, observe)
    return state.weight


def _output_metric(
    problem: LayerProblem, state: InitState, config: InitConfig
) -> tuple[EMProblem, EMConfig]:
    """The residual in the metric of the layer's output, and how EM runs there."""
    weight, residual = state
    group = weight.codebooks.shape[2]
    if config.name == "oa-em":
        blocks = problem.blocks(group)
        return EMProblem(residual, blocks, weight.scales.square()), config.exact
    blocks = problem.regularised(RELEASED_DAMPING).blocks(group)
    return EMProblem(residual, blocks, torch.ones_like(weight.scales)), RELEASED


def _rescored(problem: EMProblem, state: clustering.EMState) -> clustering.EMState:
    """The same codewords and codes, their costs in another metric."""
    delta = problem.vectors - state.codebook[state.codes.long()]
    costs = torch.einsum("ojg,jgh,ojh->oj", delta, problem.metrics, delta)
    return state._replace(costs=costs)
