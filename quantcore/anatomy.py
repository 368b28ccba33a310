r"""What a layer is like, and where an approximation's error lies.

Of a layer: how heavy the tails of its weights are, how unequal its rows, and what its Hessian H is
like. OA-EM's EM sees only H's diagonal g x g blocks (arXiv:2604.08118, section 3.2), so

    block_share = |blocks|_F^2 / |H|_F^2

is how much of the output metric reaches the initialisation; the rest is the search's alone. The
blocks' condition numbers say how far that metric is from the Euclidean one that greedy uses.

Of an approximation Q: with delta = W - Q the error tr(delta H delta^T) is a sum over rows, and a
sum over columns of delta * (delta H). The columns of a group of inputs add up to its share. Entries
of H between groups let one cancel what another does, so a share may be negative.
"""

import math
import statistics
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from quantcore.objective import CHUNK, SLICE, LayerProblem, pulls_of, row_chunks
from quantcore.weight import AdditiveWeight

BINS = 81  # odd: one lies around 0
RANGE = 6.0  # of a Gaussian's least error at the code bits; what lies beyond is rare
OUTLIERS = 0.01  # share of the inputs that are called outliers
DIGITS = 6  # significant, of lists in a document


def layer_facts(problem: LayerProblem, groups: Iterable[int]) -> dict[str, Any]:
    """What a layer is like.

    Args:
        problem: The layer; its held-out Hessian is not looked at.
        groups: Group sizes g that H is cut into; one that does not divide the inputs is left out.

    Returns:
        `kurtosis` of all weights (Pearson's, 3 for a normal distribution; None where all are the
        same); `row_norm_cv`, standard deviation of the rows' norms over their mean;
        `outlier_share`, the share of tr H in the 1 % of inputs (at least one) with the largest
        moments; `block_share` and `block_condition` by group size.
    """
    norms = torch.linalg.vector_norm(problem.weight, dim=1, dtype=torch.float64)
    moments = problem.hessian.diagonal().double().sort(descending=True).values
    most = max(1, round(OUTLIERS * len(moments)))
    sizes = [g for g in sorted(set(groups)) if len(moments) % g == 0]
    return {
        "kurtosis": kurtosis(problem.weight),
        "row_norm_cv": float(norms.std(correction=0) / norms.mean()),
        "outlier_share": float(moments[:most].sum() / moments.sum()),
        "block_share": {str(g): block_share(problem, g) for g in sizes},
        "block_condition": {str(g): block_condition(problem, g) for g in sizes},
    }


def kurtosis(weight: Float[Tensor, "out columns"]) -> float | None:
    """Fourth central moment over the second's square; None where all weights are the same."""
    mean = weight.mean(dtype=torch.float64)
    second, fourth = mean.new_zeros(2).unbind()
    for rows in row_chunks(SLICE, *weight.shape):
        squares = (weight[rows].double() - mean).square_()
        second, fourth = second + squares.sum(), fourth + squares.square().sum()
    return float(weight.numel() * fourth / second**2) if second else None


def block_share(problem: LayerProblem, group: int) -> float:
    """|diagonal blocks of H|_F^2 / |H|_F^2, 0 to 1; 1 where no group knows of another."""
    blocks, whole = (
        torch.linalg.vector_norm(some, dtype=torch.float64)
        for some in (problem.blocks(group), problem.hessian)
    )
    return float((blocks / whole) ** 2)


def block_condition(problem: LayerProblem, group: int) -> float | None:
    """Median over the diagonal blocks of H of largest over smallest eigenvalue, in float64.

    A block that is rank-deficient, its smallest eigenvalue no more than what rounding H to its type
    leaves of zero, counts as infinite; None where the median is.
    """
    values = torch.linalg.eigvalsh(problem.blocks(group).double())
    smallest, largest = values[:, 0], values[:, -1]
    rounding = group * torch.finfo(problem.hessian.dtype).eps * largest
    conditions = torch.where(smallest > rounding, largest / smallest, math.inf)
    median = statistics.median(conditions.tolist())
    return median if math.isfinite(median) else None


def error_facts(problem: LayerProblem, approx: AdditiveWeight) -> dict[str, Any]:
    """Where an approximation's error lies, in lists of six significant digits.

    Returns:
        `row_errors`, each row's error over its own energy (None where that is 0); `group_errors`,
        each group's share of the whole error, in sum 1 (0 everywhere where there is no error);
        `residuals`, a histogram of (Q - W) over the row's rms weight: 82 `edges` and 81 `counts`,
        the outermost with what lies beyond.
    """
    energies = problem.row_energies.tolist()
    errors = problem.row_errors(approx).tolist()
    return {
        "row_errors": _rounded(
            e / of if of > 0 else None for e, of in zip(errors, energies, strict=True)
        ),
        "group_errors": _rounded(group_shares(problem, approx).tolist()),
        "residuals": _residuals(problem.weight, approx),
    }


def group_shares(problem: LayerProblem, approx: AdditiveWeight) -> Float[Tensor, " groups"]:
    """Each input group's share of the error: its columns of delta * (delta H), over the total."""
    columns = problem.weight.new_zeros(problem.weight.shape[1], dtype=torch.float64)
    for rows in row_chunks(CHUNK, *problem.weight.shape):
        delta = (problem.weight[rows] - approx[rows].dense()).double()
        for here, pulls in pulls_of(delta, problem.hessian):
            columns[here] += pulls.mul_(delta[:, here]).sum(0)
    total = columns.sum()
    shares = columns.unflatten(0, (-1, approx.scheme.group)).sum(1)
    return shares / total if total > 0 else torch.zeros_like(shares)


def _residuals(
    weight: Float[Tensor, "out columns"], approx: AdditiveWeight
) -> dict[str, list[float | None] | list[int]]:
    """The histogram; its range depends on the scheme alone, so that runs can be laid together."""
    limit = RANGE * 2.0**-approx.scheme.code_bits
    counts = torch.zeros(BINS, dtype=torch.long)
    for rows in row_chunks(SLICE, *weight.shape):
        rms = weight[rows].square().mean(1, keepdim=True).sqrt()
        off = ((approx[rows].dense() - weight[rows]) / rms).clamp(-limit, limit)
        counts += torch.histc(off, BINS, -limit, limit).long().cpu()
    edges = torch.linspace(-limit, limit, BINS + 1, dtype=torch.float64)
    return {"edges": _rounded(edges.tolist()), "counts": counts.tolist()}


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    """As a document holds them."""
    return [None if value is None else float(f"{value:.{DIGITS}g}") for value in values]
