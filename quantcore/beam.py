r"""Better codes for given codebooks: beam search through the layer's full Hessian.

Every row w of W is searched on its own. With e = w - q the row's error is e H e^T, cross terms
between groups included, so the best code of one group depends on what the others left over. A sweep
visits the groups in order and, inside a group, the codebooks; at each visit every hypothesis tries
all K words in place of its present one and the `width` best results over all hypotheses go on
(AQLM, arXiv:2401.06118, section 3.2). A sweep starts from the row's present codes, and keeping the
present word is always among the choices, so no row gets worse. Width 1 is greedy coordinate
descent.

What makes it cheap: a hypothesis carries its pull t = e H instead of its decoded weight. Taking
word c_old out of group j and putting c_k in changes the row's error to

    rest - 2 s c_k . a + s^2 c_k^T H_jj c_k,      a = t_j + s H_jj c_old,
    rest = error + 2 s c_old . t_j + s^2 c_old^T H_jj c_old,

so one product with the codebook scores all K words; t is brought up to date once a group, by the
group's g rows of H, and only for the columns still to be visited. Columns are permuted into
visiting order first, so these are always the trailing ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore.errors import InputError
from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight, decode

CHUNK = 1 << 22  # pulls or scores held at once; more rows than that are searched in turn


@dataclass(frozen=True)
class BeamConfig:
    """How wide the search is and in which order it visits the groups.

    Attributes:
        width: Hypotheses kept for each row; 1 is greedy coordinate descent.
        shuffle: Visit the groups in a random order, another one each sweep, instead of in turn.
    """

    width: int = 8
    shuffle: bool = False

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"beam width must be at least 1, got {self.width}")


@dataclass(frozen=True)
class RowsProblem:
    """Some rows of a layer, the columns in visiting order."""

    hessian: Float[Tensor, "columns columns"]
    codebooks: Float[Tensor, "books size group"]
    scales: Float[Tensor, " rows"]


class BeamState(NamedTuple):
    """The hypotheses of every row, best first."""

    codes: Int[Tensor, "rows beam groups books"]
    errors: Float[Tensor, "rows beam"]  # e H e^T
    pulls: Float[Tensor, "rows beam left"]  # e H on the columns not visited yet
    visited: int  # groups done


class BeamInfo(NamedTuple):
    """How far a sweep is, for progress."""

    done: int  # group visits so far, over all rows
    total: int


def start(
    problem: RowsProblem,
    weight: Float[Tensor, "rows columns"],
    codes: Int[Tensor, "rows groups books"],
) -> BeamState:
    """One hypothesis a row: its present codes."""
    present = AdditiveWeight(codes, problem.codebooks, problem.scales)
    delta = weight - present.dense()
    pulls = delta @ problem.hessian
    errors = (pulls * delta).sum(1, keepdim=True)
    return BeamState(codes[:, None], errors, pulls[:, None], 0)


def step(problem: RowsProblem, state: BeamState, width: int) -> BeamState:
    """Visit one group: search its codebooks in turn, then carry the change to the columns left."""
    books, _, group = problem.codebooks.shape
    here = state.visited
    metric = problem.hessian[here * group : (here + 1) * group]  # [group, columns]
    own = metric[:, here * group : (here + 1) * group]  # H_jj
    old = state.codes[:, :, here]  # the same for all hypotheses of a row
    words, pull, errors = old, state.pulls[:, :, :group], state.errors
    parents = torch.arange(words.shape[1], device=words.device).expand(words.shape[:2])
    for book in range(books):
        words, pull, errors, chosen = _replace(problem, own, (words, pull, errors), (book, width))
        parents = parents.gather(1, chosen)
    before = decode(_take(old, parents), problem.codebooks)
    change = problem.scales[:, None, None] * (before - decode(words, problem.codebooks))
    left = state.pulls[:, :, group:]
    pulls = _take(left, parents)
    pulls.flatten(0, 1).addmm_(change.flatten(0, 1), metric[:, (here + 1) * group :])
    codes = _take(state.codes.flatten(2), parents).unflatten(2, state.codes.shape[2:])
    codes[:, :, here] = words
    return BeamState(codes, errors, pulls, here + 1)


def run(
    problem: LayerProblem,
    weight: AdditiveWeight,
    config: BeamConfig,
    rng: torch.Generator,
    observe: Callable[[BeamInfo], None] = lambda info: None,
) -> AdditiveWeight:
    """One sweep over all groups of all rows; a row keeps its codes unless the new ones are better.

    Args:
        problem: The layer; its (regularised) calibration Hessian is the metric.
        weight: Where the search starts; its codebooks and scales stay.
        config: Width and order.
        rng: Draws the order where it is shuffled.
        observe: Called after every visit; may raise to stop the search.
    """
    out, groups, _ = weight.codes.shape
    order = torch.arange(groups, device=weight.codes.device)
    if config.shuffle:
        order = torch.randperm(groups, generator=rng, device=rng.device).to(order.device)
    group = weight.codebooks.shape[2]
    columns = (order[:, None] * group + torch.arange(group, device=order.device)).flatten()
    hessian = problem.hessian[columns][:, columns].contiguous()
    rows = rows_at_once(config.width, len(columns), weight.codebooks.shape[1])
    chunks = torch.arange(out, device=order.device).split(rows)
    found = torch.empty_like(weight.codes)
    for done, chunk in enumerate(chunks):
        part = RowsProblem(hessian, weight.codebooks, weight.scales[chunk])
        state = start(part, problem.weight[chunk][:, columns], weight.codes[chunk][:, order])
        for visit in range(groups):
            state = step(part, state, config.width)
            observe(BeamInfo(done * groups + visit + 1, len(chunks) * groups))
        found[chunk[:, None], order] = state.codes[:, 0]
    return keep_better_rows(problem, weight, replace(weight, codes=found))


def rows_at_once(width: int, columns: int, size: int) -> int:
    """Rows searched together, so that neither pulls nor scores outgrow `CHUNK` numbers."""
    return max(1, CHUNK // (width * max(columns, size)))


def keep_better_rows(
    problem: LayerProblem, old: AdditiveWeight, new: AdditiveWeight
) -> AdditiveWeight:
    """The new codes where they lower a row's error, the old ones elsewhere.

    The search keeps its errors in float32; this compares in float64.
    """
    better = problem.row_errors(new.dense()) < problem.row_errors(old.dense())
    return replace(old, codes=torch.where(better[:, None, None], new.codes, old.codes))


_Local = tuple[Tensor, Tensor, Tensor]  # words [rows, beam, books], pull [.., group], errors


def _replace(
    problem: RowsProblem, own: Tensor, local: _Local, choice: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Try every word of one codebook in every hypothesis; keep the best `width` of each row."""
    words, pull, errors = local
    book, width = choice
    codebook, size = problem.codebooks[book], problem.codebooks.shape[1]
    scales = problem.scales[:, None]
    bent = codebook @ own  # [size, group], H_jj c_k
    norms = (bent * codebook).sum(1)
    present = words[:, :, book].long()
    out_of = scales[..., None] * codebook[present]  # s c_old
    away = pull + scales[..., None] * bent[present]  # a
    rest = errors + 2 * (out_of * pull).sum(-1) + scales.square() * norms[present]
    # error / s^2 of each hypothesis with each word; s^2 does not change the order within a row
    inputs = torch.cat([away / scales[..., None], (rest / scales.square())[..., None]], -1)
    weights = torch.cat([-2 * codebook.T, codebook.new_ones(1, size)])
    scores = torch.addmm(norms, inputs.flatten(0, 1), weights).view(len(words), -1)
    low, flat = scores.topk(min(width, scores.shape[1]), largest=False)
    chosen, word = flat // size, flat % size
    words = _take(words, chosen)
    words[:, :, book] = word.to(words.dtype)
    # put the new word in: t_j = a - s H_jj c_k
    pull = _take(away, chosen) - scales[..., None] * bent[word]
    return words, pull, low * scales.square(), chosen


def _take(values: Tensor, parents: Tensor) -> Tensor:
    """The rows of `values` [rows, beam, n] that `parents` [rows, kept] names, as a copy."""
    rows = torch.arange(len(values), device=values.device)[:, None]
    return values[rows, parents]
