r"""New codes for given codebooks: error feedback through the factored Hessian.

Encode a group, then let the groups not yet encoded make up for its error as well as real numbers
could; encode the next one from there. With the block factorization

    H = U D U^T,     U upper triangular with I on its diagonal, D block diagonal,

a row's error splits into one term a group, each depending on the groups up to it only:

    e H e^T = sum_j (e U)_j D_j (e U)_j^T,     (e U)_j = e_j + sum_{i<j} e_i U_ij,     e = w - q,

so the best q_j, given those before, is the word sum nearest to w_j + sum_{i<j} e_i U_ij in the
metric D_j: H_jj less all that the later groups can compensate. This is the order of GPTQ
(arXiv:2210.17323), LDLQ (arXiv:2307.13304) and, for vectors, GPTVQ (arXiv:2402.15319); it is also
the successive cancellation of lattice decoding, and keeping `width` hypotheses a row, each with its
own pulls, is that field's K-best sphere decoder.

Groups with the largest inputs come first: what they leave has the most others to make up for it.

Unlike the beam it does not start from codes, so it can leave any basin, and need not improve.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import sweep
from quantcore.errors import ProblemError
from quantcore.kernels.panel import Rows
from quantcore.objective import LayerProblem
from quantcore.sweep import Metric, SweepInfo
from quantcore.weight import AdditiveWeight

RIDGES = (0.01, 0.1)  # added to H's diagonal, as a share of its mean; the first is GPTQ's
ROUNDING = 0.01  # of the largest diagonal entry, more than 16-bit entries are off by
PANEL = 256  # columns factored at once


@dataclass(frozen=True)
class FeedbackConfig:
    """How many hypotheses are kept.

    Attributes:
        width: Hypotheses kept for each row from group to group.
        candidates: Partial choices of a group's words kept between its codebooks, a hypothesis.
    """

    width: int = 1
    candidates: int = 16

    def __post_init__(self) -> None:
        sweep.check_counts("feedback", self.width, self.candidates)

    def widths(self, books: int) -> tuple[int, ...]:
        """Hypotheses kept after each book of a group."""
        return (self.width * self.candidates,) * (books - 1) + (self.width,)


def check(name: str, hessian: Float[Tensor, "columns columns"]) -> None:
    """Refuse a Hessian that is too far from positive semidefinite for any search.

    What rounding its entries to 16 bits does to it is let through, as `factor` mostly does: it adds
    a ridge.

    Raises:
        ProblemError: it is.
    """
    diagonal = hessian.diagonal().double()
    ridge = max(RIDGES[-1] * float(diagonal.mean()), ROUNDING * float(diagonal.max()))
    if not _root_in_place(hessian.clone(), ridge):
        raise ProblemError(f"{name} is not positive semidefinite; it should be X^T X / tokens")


def factor(problem: LayerProblem, group: int) -> Metric:
    """D (the blocks) and U (the spread) of the problem's Hessian.

    Raises:
        ProblemError: the Hessian is too far from positive semidefinite.
    """
    hessian = problem.hessian
    energies = hessian.diagonal().view(-1, group).sum(1)
    order = energies.argsort(descending=True, stable=True)
    root = _upper_root(hessian, sweep.columns_of(order, group))
    blocks = []
    for first in range(0, len(root), group):
        here = slice(first, first + group)
        own = root[here, here].double()  # R_jj
        blocks.append((own @ own.T).to(root.dtype))
        root[:, here] = (root[:, here].double() @ torch.linalg.inv(own)).to(root.dtype)  # U
    return Metric(torch.stack(blocks), root, order)


def run(
    problem: LayerProblem,
    weight: AdditiveWeight,
    factor: Metric,
    config: FeedbackConfig,
    observe: Callable[[SweepInfo], None] = lambda info: None,
) -> AdditiveWeight:
    """Encode all rows anew.

    Args:
        problem: The layer.
        weight: Its codebooks and scales stay; its codes are not looked at.
        factor: The `factor` of the problem.
        config: How many hypotheses are kept.
        observe: Called after every panel of groups; may raise to stop the search.
    """
    out, groups, books = weight.codes.shape

    def start(rows: slice) -> Rows:
        target = problem.weight[rows] / weight.scales[rows, None]
        target = target.unflatten(1, (groups, -1))[:, factor.order]
        pulls = torch.zeros_like(target).flatten(1)[:, None]
        return Rows(target, None, pulls, pulls[..., 0])

    widths = config.widths(books)
    found = sweep.run(factor, weight.codebooks, out, start, widths, observe)
    return replace(weight, codes=found)


def _upper_root(
    hessian: Float[Tensor, "columns columns"], columns: Int[Tensor, " columns"]
) -> Float[Tensor, "columns columns"]:
    """R upper triangular with H = R R^T in this order of columns.

    H has a ridge added: fewer tokens than inputs leave it singular, and making up for an error
    along a direction that H hardly knows costs more elsewhere than it gains.
    """
    mean = float(hessian.diagonal().double().mean())
    for ridge in RIDGES:
        root = torch.empty_like(hessian)
        for first in range(0, len(root), PANEL):
            rows = slice(first, first + PANEL)
            root[rows] = hessian[columns[rows]][:, columns]
        if _root_in_place(root, ridge * mean):
            return root
    raise ProblemError("the Hessian is not positive semidefinite; it should be X^T X / tokens")


def _root_in_place(matrix: Tensor, ridge: float) -> bool:
    """Replace a matrix by its upper root, last columns first; False where it has none.

    Sums are float64, only what is stored has the matrix's own precision: that moves an entry of
    R R^T by a rounding of the two diagonal entries it belongs to, as storing H did, and no second
    matrix is held.
    """
    for last in range(len(matrix), 0, -PANEL):
        first = max(0, last - PANEL)
        here = slice(first, last)
        part = matrix[:last, here].double()
        for later in range(last, len(matrix), PANEL):
            done = slice(later, later + PANEL)
            part.addmm_(matrix[:last, done].double(), matrix[here, done].double().T, alpha=-1)
        own = part[first:]
        own.diagonal().add_(ridge)
        lower, failed = torch.linalg.cholesky_ex(own.flip(0, 1))
        if failed:
            return False
        upper = lower.flip(0, 1)
        matrix[here, here] = upper.to(matrix.dtype)
        above = torch.linalg.solve_triangular(upper.T, part[:first], upper=False, left=False)
        matrix[:first, here] = above.to(matrix.dtype)
        matrix[here, :first] = 0
    return True
