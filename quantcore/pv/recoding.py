r"""New codes for a weight that has to follow a moving target: PV-tuning's V step.

The target B is a dense matrix near the weight Q, and only a share of Q's groups may change at once
(arXiv:2405.14852, section 3.2): those that differ most,

    (B - Q)_oj D_j (B - Q)_oj^T      largest first, scales included,

get the codeword sum nearest to B_oj / s_o in the same metric. D_j = I is the released rule; the
diagonal blocks of the layer's Hessian ask instead what a difference does to the output. A group's
codes are searched as everywhere (`kernels.visit`): the books once, in the given order, from the
codes it has, `beam` hypotheses. The layer's own rows would not do, because a sweep visits all their
groups; the selected ones are put in tables of their own, whose columns share a metric and whose
groups do not pull each other.

`trust` bounds how far the weight moves: in the order of the ranking, changes are kept up to and
including the first with which |change of Q| reaches that share of |Q|.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import kernels
from quantcore.errors import InputError
from quantcore.kernels.panel import Panel, Rows
from quantcore.weight import AdditiveWeight

VISITS = 16  # metrics in one table


@dataclass(frozen=True)
class RecodeConfig:
    """How many groups may change, and how they are searched.

    Attributes:
        change: Largest share of the groups, 0 to 1; rounded up to a whole group. 0 changes none.
        beam: Hypotheses kept from book to book.
        trust: Largest |change of Q| / |Q|, where there is a bound.
    """

    change: float = 0.01
    beam: int = 1
    trust: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.change <= 1:
            raise InputError(f"the share of groups to change must be 0 to 1, got {self.change}")
        if self.beam < 1:
            raise InputError(f"beam must be at least 1, got {self.beam}")
        if self.trust is not None and not self.trust > 0:
            raise InputError(f"the trust ratio must be above 0, got {self.trust}")


class Recoding(NamedTuple):
    """What changes; groups are counted row by row."""

    groups: Int[Tensor, " n"]  # those that may change, largest difference first
    codes: Int[Tensor, "n books"]  # what they have now
    dense: Float[Tensor, "n group"]  # decoded, scales included
    changed: int  # how many have other codes than before


class _Table(NamedTuple):
    """Groups as the search takes them: rows and columns, a column's groups sharing a metric."""

    members: Int[Tensor, " n"]  # which of the groups
    rows: Int[Tensor, " n"]
    columns: Int[Tensor, " n"]
    metrics: Int[Tensor, " visits"]  # of the columns


def recode(
    weight: AdditiveWeight,
    dense: Float[Tensor, "out columns"],
    target: Float[Tensor, "out columns"],
    config: RecodeConfig,
    order: Int[Tensor, " books"],
    blocks: Float[Tensor, "groups group group"] | None = None,
) -> Recoding:
    """New codes for the groups that differ most from the target.

    Args:
        weight: The present codes; codebooks and scales stay.
        dense: The weight, decoded.
        target: B.
        config: How many groups, and how they are searched.
        order: The order in which the codebooks are visited.
        blocks: D_j for each group of inputs; plain squared distance where there are none.
    """
    (_, groups, books), group = weight.codes.shape, weight.codebooks.shape[2]
    chosen = _furthest(target - dense, config.change, blocks, group)
    rows = chosen // groups
    scales, codes = weight.scales[rows], weight.codes.view(-1, books)[chosen]
    goal = target.view(-1, group)[chosen] / scales[:, None]
    found = torch.empty_like(codes)
    if blocks is None:
        blocks, metric = torch.eye(group).to(target)[None], torch.zeros_like(chosen)
    else:
        metric = chosen % groups
    for table in _tables(metric, len(blocks)):
        here = table.members
        found[here] = _search(table, (goal[here], codes[here]), weight, blocks, order, config)
    before, after = dense.view(-1, group)[chosen], _decode(found, weight.codebooks, scales)
    if config.trust is not None:
        far = (after - before).square().sum(1).cumsum(0).sqrt()
        kept = 1 + int((far < config.trust * dense.norm()).sum())
        found[kept:], after[kept:] = codes[kept:], before[kept:]
    return Recoding(chosen, found, after, int((found != codes).any(1).sum()))


def _furthest(
    difference: Tensor, change: float, blocks: Tensor | None, group: int
) -> Int[Tensor, " n"]:
    """The groups with the largest differences, largest first."""
    pulls = difference
    if blocks is not None:
        parts = difference.view(len(difference), -1, group)
        pulls = torch.einsum("ojg,jgh->ojh", parts, blocks)
    squares = (pulls.reshape(-1, group) * difference.view(-1, group)).mv(difference.new_ones(group))
    return squares.topk(math.ceil(change * len(squares))).indices


def _tables(metric: Int[Tensor, " n"], metrics: int) -> Iterator[_Table]:
    """All n groups in few tables, of no more than 3 n + `metrics` cells in all.

    A metric may have many groups and another one none. The first tables have as many rows as a
    metric has groups on average; what does not fit goes to tables as long as all before them.
    """
    by_metric = metric.argsort(stable=True)
    counts = metric.bincount(minlength=metrics)
    rank = torch.empty_like(metric)
    numbers = torch.arange(len(metric), device=metric.device)
    rank[by_metric] = numbers - (counts.cumsum(0) - counts)[metric[by_metric]]
    first, last = 0, -(-len(metric) // metrics)
    while first < int(counts.max()):
        inside = (rank >= first) & (rank < last)
        for used in metric[inside].unique().split(VISITS):
            members = (inside & torch.isin(metric, used)).nonzero()[:, 0]
            columns = torch.searchsorted(used, metric[members])
            yield _Table(members, rank[members] - first, columns, used)
        first, last = last, 2 * last


def _search(
    table: _Table,
    given: tuple[Float[Tensor, "n group"], Int[Tensor, "n books"]],
    weight: AdditiveWeight,
    blocks: Float[Tensor, "metrics group group"],
    order: Int[Tensor, " books"],
    config: RecodeConfig,
) -> Int[Tensor, "n books"]:
    """The codes nearest to the goals that the search finds, from the goals and present codes."""
    (goal, codes), books, metrics = given, weight.codebooks[order], blocks[table.metrics]
    ordered, at = codes[:, order], (table.rows, table.columns)
    words = _decode(ordered, books, goal.new_ones(len(goal)))
    shape = int(table.rows.max()) + 1, len(metrics)
    held, pulls = goal.new_zeros(2, *shape, goal.shape[1])
    present = codes.new_zeros(*shape, len(books))
    held[at], present[at] = words, ordered
    pulls[at] = torch.einsum("ng,ngh->nh", goal - words, metrics[table.columns])
    rows = Rows(held, present, pulls.flatten(1)[:, None], goal.new_zeros(shape[0], 1))
    apart = goal.new_zeros(1, 1).expand(2 * (pulls[0].numel(),))  # no group pulls another
    widths = (config.beam,) * (len(books) - 1) + (1,)
    found = torch.empty_like(codes)
    found[:, order] = kernels.visit(Panel(metrics, apart), books, rows, widths).codes[:, 0][at]
    return found


def _decode(codes: Tensor, codebooks: Tensor, scales: Tensor) -> Float[Tensor, "n group"]:
    """Single groups, each with its scale."""
    return kernels.decode(codes[:, None], codebooks, scales)
