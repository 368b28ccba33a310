"""Small problems that can be drawn, solved by quantcore's own algorithms.

Points of the plane are the rows of a layer with one group of two weights: scale 1, so that a word
and a point are in the same units, and the layer's Hessian is the 2 x 2 metric in which an error is
measured. All is float64 and deterministic: the same arguments, the same numbers.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import beam, clustering, codebooks, init, kernels
from quantcore.beam import BeamConfig
from quantcore.clustering import EMConfig, EMProblem, EMState
from quantcore.codebooks import RefitConfig
from quantcore.init import InitConfig
from quantcore.kernels.panel import Panel, Rows
from quantcore.objective import LayerProblem
from quantcore.pv import optimizers, recoding
from quantcore.pv.optimizers import Moments, OptimizerConfig
from quantcore.pv.recoding import RecodeConfig
from quantcore.weight import AdditiveWeight, decode

EM = EMConfig(rounds=40)
GREEDY = InitConfig("greedy")
BOOK = OptimizerConfig(lr=3e-3)  # ten times the release's: a lesson has 40 steps


def normal(count: int, size: int, seed: int = 0) -> Float[Tensor, "count size"]:
    """Independent numbers with mean 0 and variance 1."""
    return torch.randn(count, size, generator=_rng(seed), dtype=torch.float64)


def points(count: int, correlation: float = 0.0, seed: int = 0) -> Float[Tensor, "count 2"]:
    """Normal points whose two numbers have variance 1 and this correlation."""
    first, second = normal(count, 2, seed).unbind(1)
    return torch.stack([first, correlation * first + (1 - correlation**2) ** 0.5 * second], 1)


def metric(angle: float, ratio: float) -> Float[Tensor, "2 2"]:
    """A metric of trace 2 in which errors along `angle` degrees cost `ratio` times those across."""
    turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    along = torch.stack([turn.cos(), turn.sin()])
    across = torch.stack([-turn.sin(), turn.cos()])
    share = ratio / (1 + ratio)
    return 2 * (share * torch.outer(along, along) + (1 - share) * torch.outer(across, across))


def em_problem(
    vectors: Float[Tensor, "count size"], bent: Float[Tensor, "size size"] | None = None
) -> EMProblem:
    """The vectors as one column of groups, in the plain metric or in `bent`."""
    plain = EMProblem.euclidean(vectors[:, None])
    return plain if bent is None else replace(plain, metrics=bent[None])


def fitted(
    vectors: Float[Tensor, "count size"], words: Float[Tensor, "words size"]
) -> Float[Tensor, "words size"]:
    """The words that k-means makes of these: never worse than they are."""
    problem = em_problem(vectors)
    return clustering.run(problem, clustering.state_of(problem, words), EM).codebook


def grid(values: Float[Tensor, " count"], bits: int) -> Float[Tensor, " levels"]:
    """2^bits levels: the middles of equal steps from the smallest value to the largest."""
    low, high = values.aminmax()
    count = 1 << bits
    return low + (high - low) * (torch.arange(count, dtype=values.dtype) + 0.5) / count


def clusters(vectors: Float[Tensor, "count size"], words: int, seed: int = 0) -> EMState:
    """K-means from random vectors, as the initialisers run it."""
    problem = em_problem(vectors)
    return clustering.run(problem, clustering.start(problem, words, _rng(seed)), EM)


def no_books(rows: Float[Tensor, "out columns"], words: int, group: int) -> AdditiveWeight:
    """A weight without codebooks yet, every scale 1."""
    out, columns = rows.shape
    codes = torch.empty(out, columns // group, 0, dtype=torch.int32)
    return AdditiveWeight(codes, rows.new_empty(0, words, group), rows.new_ones(out))


def greedy(
    problem: LayerProblem, books: int, words: int, group: int = 2, seed: int = 0
) -> AdditiveWeight:
    """Residual k-means: each book fitted to what those before it leave over."""
    weight, rng = no_books(problem.weight, words, group), _rng(seed)
    for _ in range(books):
        weight = init.step(problem, weight, GREEDY, rng)
    return weight


def without_last(weight: AdditiveWeight) -> AdditiveWeight:
    """The weight before its last book was added."""
    return replace(weight, codes=weight.codes[..., :-1], codebooks=weight.codebooks[:-1])


def jointly(problem: LayerProblem, weight: AdditiveWeight) -> AdditiveWeight:
    """Each point's best sum of words: `beam` with every partial choice kept, so an exhaustive one.

    Exhaustive for weights with one group a row, as the points of the plane have.
    """
    books, words, _ = weight.codebooks.shape
    return beam.run(problem, weight, BeamConfig(1, words ** (books - 1)), _rng(0))


def refit(problem: LayerProblem, weight: AdditiveWeight) -> AdditiveWeight:
    """Least-squares words for the present codes: the points as the groups of a single row."""
    count, _, books = weight.codes.shape
    metrics = torch.kron(torch.eye(count, dtype=torch.float64), problem.hessian)
    codes, scale = weight.codes.view(1, count, books), weight.scales[:1]
    row = AdditiveWeight(codes, weight.codebooks, scale)
    found = codebooks.run(LayerProblem(problem.weight.view(1, -1), metrics), row, RefitConfig())
    return replace(weight, codebooks=found.codebooks * found.scales)


def together(problem: LayerProblem, weight: AdditiveWeight, rounds: int) -> AdditiveWeight:
    """Words and codes fitted in turn, all books at once."""
    for _ in range(rounds):
        weight = jointly(problem, refit(problem, weight))
    return weight


class Level(NamedTuple):
    """What a beam looked at in one group of one row, best first; the first `kept` of it go on."""

    parents: Int[Tensor, " choices"]  # which of the level before
    words: Int[Tensor, " choices"]
    errors: Float[Tensor, " choices"]  # of the whole row, later groups as they were
    kept: int


def beam_levels(problem: LayerProblem, weight: AdditiveWeight, width: int) -> list[Level]:
    """A sweep of `beam` over a layer of one row and one book: the row as it is, then each group.

    The kernel keeps every choice here; what a beam of `width` would have kept are its first ones.
    """
    words, group = weight.codebooks.shape[1:]
    held, hessian = decode(weight.codes, weight.codebooks), problem.hessian
    delta = problem.weight - held.flatten(1)
    pulls = (delta @ hessian)[:, None]
    errors = (pulls[:, 0] * delta).sum(1, keepdim=True)
    levels = [Level(torch.zeros(1, dtype=torch.int64), weight.codes[0, 0], errors[0], 1)]
    for j, block in enumerate(problem.blocks(group)):
        here = slice(j * group, (j + 1) * group)
        rows = Rows(held[:, j, None], weight.codes[:, j, None], pulls[..., :group], errors)
        panel = Panel(block[None], hessian[here, here])
        seen = kernels.visit(panel, weight.codebooks, rows, (words * errors.shape[1],))
        levels.append(Level(seen.parents[0], seen.codes[0, :, 0, 0], seen.errors[0], width))
        errors, parents = seen.errors[:, :width], seen.parents[0, :width]
        pulls = pulls[:, parents, group:] + seen.changes[:, :width] @ hessian[here, here.stop :]
    return levels


def exhaustive(problem: LayerProblem, book: Float[Tensor, "words group"]) -> Float[Tensor, " out"]:
    """The lowest error of each row over all codes that one book allows."""
    words, group = book.shape
    groups = problem.weight.shape[1] // group
    codes = torch.cartesian_prod(*[torch.arange(words)] * groups)
    delta = problem.weight[:, None] - book[codes].flatten(1)
    return torch.einsum("ocg,gh,och->oc", delta, problem.hessian, delta).min(1).values


@lru_cache
def layer(
    correlation: float, words: int, out: int, groups: int
) -> tuple[LayerProblem, AdditiveWeight]:
    """A layer whose neighbouring inputs correlate, and one book of pairs fitted by k-means.

    H_ij = correlation^|i - j|.
    """
    place = torch.arange(2 * groups, dtype=torch.float64)
    hessian = correlation ** (place[:, None] - place).abs()
    problem = LayerProblem(normal(out, 2 * groups, seed=1), hessian)
    return problem, greedy(problem, 1, words)


class Moment(NamedTuple):
    """One moment of a tuning: before the first step, or after one."""

    loss: float  # relative error of the layer's output
    book: Float[Tensor, "words group"]
    codes: Int[Tensor, " groups_of_all_rows"]
    buffers: Float[Tensor, "groups_of_all_rows group"] | None  # none where codes stay


def tuned(
    problem: LayerProblem, weight: AdditiveWeight, steps: int, change: float, pace: float
) -> tuple[Moment, ...]:
    """PV-tuning of one layer with one book towards its own output: `pv.descent` without a model.

    The loss is the layer's error, whose gradient is G = 2 (Q - W) H / out. The book follows its
    share of G, the buffers follow G itself, and then the share `change` of the groups may change
    their codes; none does where it is 0.
    """
    book, codes = weight.codebooks.clone(), weight.codes.clone()  # both change in place
    weight = replace(weight, codebooks=book, codes=codes)
    follows = OptimizerConfig(lr=pace, betas=(0.0, 0.95))
    buffers = weight.dense() if change else None
    of_book = Moments.zeros(book, BOOK)
    of_buffers = Moments.zeros(weight.dense(), follows)
    seen = [_moment(problem, weight, buffers)]
    for step in range(1, steps + 1):
        slope = 2 * (weight.dense() - problem.weight) @ problem.hessian / len(codes)
        of_words = kernels.sum_by_code(slope, codes, weight.scales, book.shape[1])
        optimizers.step_(book, of_words, of_book, step, BOOK)
        if buffers is not None:
            optimizers.step_(buffers, slope, of_buffers, step, follows)
            order = torch.zeros(1, dtype=torch.int64)
            recode = RecodeConfig(change)
            found = recoding.recode(weight, weight.dense(), buffers, recode, order)
            codes.view(-1, 1)[found.groups] = found.codes
        seen.append(_moment(problem, weight, buffers))
    return tuple(seen)


def _moment(problem: LayerProblem, weight: AdditiveWeight, buffers: Tensor | None) -> Moment:
    group = weight.codebooks.shape[2]
    return Moment(
        problem.errors(weight).relative,
        weight.codebooks[0].clone(),
        weight.codes.flatten().clone(),
        None if buffers is None else buffers.view(-1, group).clone(),
    )


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
