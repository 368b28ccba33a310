r"""Better codes for given codebooks, from those a weight has: search in the layer's full Hessian.

Every row w of W is searched on its own. With e = w - q the row's error is e H e^T, cross terms
between groups included, so the best code of one group depends on what the others left over. A sweep
visits the groups in order and, inside a group, the codebooks; at each visit every hypothesis tries
all K words in place of its present one and the best results over all hypotheses go on. A sweep
starts from the row's present codes, and keeping the present word is always among the choices, so no
row gets worse.

The search of AQLM (arXiv:2401.06118, section 3.2) keeps `width` hypotheses throughout. Width 1 is
coordinate descent (iterated conditional modes), one codebook at a time; with more `candidates` it
is descent over the codebooks of a group together: that many partial choices are kept from book to
book inside the group, and only the best whole one leaves it.

What makes it cheap: a hypothesis carries its pull t = e H instead of its decoded weight (`sweep`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from quantcore import sweep
from quantcore.kernels.panel import Rows
from quantcore.objective import LayerProblem
from quantcore.sweep import Metric, SweepInfo
from quantcore.weight import AdditiveWeight, decode


@dataclass(frozen=True)
class BeamConfig:
    """How wide the search is and in which order it visits the groups.

    Attributes:
        width: Hypotheses kept for each row; 1 is coordinate descent.
        candidates: Hypotheses kept inside a group, between its codebooks, where that is more.
        shuffle: Visit the groups in a random order, another one each sweep, instead of in turn.
    """

    width: int = 8
    candidates: int = 1
    shuffle: bool = False

    def __post_init__(self) -> None:
        sweep.check_counts("beam", self.width, self.candidates)

    def widths(self, books: int) -> tuple[int, ...]:
        """Hypotheses kept after each book of a group."""
        inside = max(self.width, self.candidates)
        return (inside,) * (books - 1) + (self.width,)


def run(
    problem: LayerProblem,
    weight: AdditiveWeight,
    config: BeamConfig,
    rng: torch.Generator,
    observe: Callable[[SweepInfo], None] = lambda info: None,
) -> AdditiveWeight:
    """One sweep over all groups of all rows; a row keeps its codes unless the new ones are better.

    Args:
        problem: The layer; its (regularised) calibration Hessian is the metric.
        weight: Where the search starts; its codebooks and scales stay.
        config: Width and order.
        rng: Draws the order where it is shuffled.
        observe: Called after every panel of groups; may raise to stop the search.
    """
    out, groups, books = weight.codes.shape
    group = weight.codebooks.shape[2]
    dense, hessian, codes = problem.weight, problem.hessian, weight.codes
    order = torch.arange(groups, device=codes.device)
    if config.shuffle:
        order = torch.randperm(groups, generator=rng, device=rng.device).to(order.device)
        columns = sweep.columns_of(order, group)
        dense, hessian, codes = dense[:, columns], hessian[columns][:, columns], codes[:, order]

    def start(rows: slice) -> Rows:
        """One hypothesis a row: its present codes."""
        held = decode(codes[rows], weight.codebooks)
        delta = dense[rows] / weight.scales[rows, None] - held.flatten(1)
        pulls = delta @ hessian
        return Rows(held, codes[rows], pulls[:, None], (pulls * delta).sum(1, keepdim=True))

    metric = Metric(problem.blocks(group)[order], hessian, order)
    widths = config.widths(books)
    found = sweep.run(metric, weight.codebooks, out, start, widths, observe)
    return keep_better_rows(problem, weight, replace(weight, codes=found))


def keep_better_rows(
    problem: LayerProblem, old: AdditiveWeight, new: AdditiveWeight
) -> AdditiveWeight:
    """The new codes where they lower a row's error, the old ones elsewhere.

    The search keeps its errors in float32; this compares in float64.
    """
    better = problem.row_gains(old, new) > 0
    return replace(old, codes=torch.where(better[:, None, None], new.codes, old.codes))
