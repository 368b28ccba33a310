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
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import clustering
from quantcore.clustering import Adam, EMConfig, EMProblem, EMState
from quantcore.errors import InputError, quoted
from quantcore.objective import SLICE, LayerProblem, Regularisation, row_chunks
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
            raise InputError(f"there is no initialiser {quoted(self.name)}; choose one of {known}")


class InitInfo(NamedTuple):
    """One round of EM inside a step, for progress."""

    book: int
    metric: str  # "weights" or "outputs"
    objective: float


Observe = Callable[[InitInfo], None]


def start(problem: LayerProblem, scheme: Scheme) -> AdditiveWeight:
    """No books yet; the scales are the row norms.

    Raises:
        SchemeError: the scheme does not divide the layer.
    """
    out, columns = problem.weight.shape
    scheme.check(out, columns)
    scales = problem.weight.norm(dim=1)
    shape = (out, columns // scheme.group, 0)
    codes = torch.empty(shape, dtype=torch.int32, device=scales.device)
    return AdditiveWeight(codes, scales.new_empty(0, scheme.size, scheme.group), scales)


def step(
    problem: LayerProblem,
    weight: AdditiveWeight,
    config: InitConfig,
    rng: torch.Generator,
    observe: Observe = lambda info: None,
) -> AdditiveWeight:
    """Fit one more codebook to what the books so far leave over."""
    codebook, codes = _fit(problem, weight, config, rng, observe)
    return replace(
        weight,
        codes=torch.cat([weight.codes, codes[..., None]], -1),
        codebooks=torch.cat([weight.codebooks, codebook[None]]),
    )


def run(
    problem: LayerProblem,
    scheme: Scheme,
    config: InitConfig,
    rng: torch.Generator,
    observe: Observe = lambda info: None,
) -> AdditiveWeight:
    """Fit all codebooks of `scheme`, one after another."""
    weight = start(problem, scheme)
    for _ in range(scheme.codebooks):
        weight = step(problem, weight, config, rng, observe)
    return weight


def residual(problem: LayerProblem, weight: AdditiveWeight) -> Float[Tensor, "out groups group"]:
    """What the books leave of the row-normalised weight."""
    left = problem.weight.new_empty(*weight.codes.shape[:2], weight.codebooks.shape[2])
    for rows in row_chunks(SLICE, *problem.weight.shape):
        part = problem.weight[rows] / weight.scales[rows, None]
        left[rows] = part.view_as(left[rows])
        for book, codes in zip(weight.codebooks, weight.codes[rows].unbind(2), strict=True):
            left[rows] -= book[codes.long()]
    return left


def _fit(
    problem: LayerProblem,
    weight: AdditiveWeight,
    config: InitConfig,
    rng: torch.Generator,
    observe: Observe,
) -> tuple[Float[Tensor, "size group"], Int[Tensor, "out groups"]]:
    """The next codebook and its codes."""
    book, size, _ = weight.codebooks.shape
    vectors = residual(problem, weight)

    def seen(metric: str) -> Callable[[clustering.EMInfo], None]:
        return lambda info: observe(InitInfo(book, metric, info.objective))

    def kmeans() -> EMState:
        plain = EMProblem.euclidean(vectors)
        return clustering.run(
            plain, clustering.start(plain, size, rng), config.kmeans, seen("weights")
        )

    if config.name == "greedy":
        fitted = kmeans()
    else:
        bent, rounds = _output_metric(problem, vectors, weight.scales, config)
        # the k-means codes stay for the first M-step, as in the released code; no name holds them
        fitted = clustering.run(bent, clustering.rescored(bent, kmeans()), rounds, seen("outputs"))
    return fitted.codebook, fitted.codes


def _output_metric(
    problem: LayerProblem,
    vectors: Float[Tensor, "out groups group"],
    scales: Float[Tensor, " out"],
    config: InitConfig,
) -> tuple[EMProblem, EMConfig]:
    """The vectors in the metric of the layer's output, and how EM runs there."""
    group = vectors.shape[2]
    if config.name == "oa-em":
        return EMProblem(vectors, problem.blocks(group), scales.square()), config.exact
    blocks = problem.regularised(RELEASED_DAMPING).blocks(group)
    return EMProblem(vectors, blocks, torch.ones_like(scales)), RELEASED
