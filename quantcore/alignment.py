r"""Where an additive weight lies among others: the same coordinates for the same matrix.

A matrix Q does not determine its codebooks: many of them, with codes and scales to match, decode to
the same Q. Before two solutions are compared, all that changes nothing is taken out:

    scales     C -> t C, s -> s / t. Scales are written relative to the rows' norms, and their
               logarithms average to 0.
    constants  one book gives a constant, another takes it. All books have the same mean.
    order      of the books, and of the words in a book: `align` takes, of all orders of B, the one
               nearest to A.

What is left is a point: the words and the logarithms of the relative scales, stretched so that a
squared distance is about the relative squared change of the decoded matrix (rows divided by their
norm, every word used equally often, books uncorrelated).

Alignment minimizes the distance of the words, sum |a_k - b_pi(k)|^2: for each pair of books by
linear assignment (scipy, the modified Jonker-Volgenant algorithm), then for the books by another
over the pairs' minima, which is exact since these add up. The order that a permuted copy was given
is found again. What no order can do: undo a word that became two, or move the cells that the words
stand for; nor need the nearest order be the one with the lowest way between.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from quantcore.weight import AdditiveWeight

MATCHED = 2048  # words of a book up to which the assignment is exact: its time is cubic
INEXACT = (
    f"books of more than {MATCHED} words are matched by rank along one direction, "
    "which need not be the nearest order"
)


@dataclass(frozen=True)
class Space:
    """The points of all weights of one shape.

    Attributes:
        norms: |w_o| of every row of W.
        groups: Groups of inputs in a row.
    """

    norms: Float[Tensor, " out"]
    groups: int

    def point(
        self, codebooks: Float[Tensor, "books size group"], scales: Float[Tensor, " out"]
    ) -> Float[Tensor, " numbers"]:
        """Where codebooks and scales lie, in float64: words first, then scales."""
        logs = (scales.double() / self.norms.double()).log()
        words = codebooks.double() * logs.mean().exp()
        means = words.mean(1, keepdim=True)
        words = words - means + means.mean(0)
        stretch = (self.groups / words.shape[1]) ** 0.5
        flat = (stretch * words).flatten()
        return torch.cat([flat, (logs - logs.mean()) / len(logs) ** 0.5])

    def split(
        self, point: Float[Tensor, " numbers"], like: AdditiveWeight
    ) -> tuple[Float[Tensor, "books size group"], Float[Tensor, " out"]]:
        """The words, and the logarithms of the relative scales; linear in the point."""
        count, out = like.codebooks.numel(), len(self.norms)
        stretch = (self.groups / like.codebooks.shape[1]) ** 0.5
        return point[:count].view_as(like.codebooks) / stretch, point[count:] * out**0.5


class Alignment(NamedTuple):
    """Which of B's books and words stand where A's do."""

    books: Int[Tensor, " books"]  # A's book m is B's book books[m],
    words: Int[Tensor, "books size"]  # and its word k is word words[m, k] of that
    exact: bool  # whether the order is the nearest one


def align(a: Float[Tensor, "books size group"], b: Float[Tensor, "books size group"]) -> Alignment:
    """The order of B's books and words nearest to A's.

    Books of more than `MATCHED` words are matched by rank along the direction in which the words of
    A's book vary most: that finds a permuted copy, and of other orders only a near one.

    Args:
        a: Words of A's point (`Space.split`).
        b: Words of B's.
    """
    books, size, _ = a.shape
    exact = size <= MATCHED
    match = _assigned if exact else _ranked
    pairs = [[match(a[m], b[n]) for n in range(books)] for m in range(books)]
    # |a - b|^2 summed is a constant less twice this
    shared = [[float((a[m] * b[n][pairs[m][n]]).sum()) for n in range(books)] for m in range(books)]
    order = linear_sum_assignment(shared, maximize=True)[1].tolist()
    words = torch.stack([pairs[m][n] for m, n in enumerate(order)])
    return Alignment(torch.tensor(order, device=a.device), words, exact)


def reordered(
    codebooks: Float[Tensor, "books size group"], order: Alignment
) -> Float[Tensor, "books size group"]:
    """Codebooks in another order."""
    return codebooks[order.books[:, None], order.words]


def relabelled(weight: AdditiveWeight, order: Alignment) -> AdditiveWeight:
    """The same matrix, its books and words in another order."""
    places = order.words.argsort(1).to(weight.codes.dtype)  # from old word to new
    codes = weight.codes[..., order.books].long()
    codes = torch.stack([places[m][codes[..., m]] for m in range(len(places))], -1)
    return replace(weight, codes=codes, codebooks=reordered(weight.codebooks, order))


def differing(
    some: Int[Tensor, "out groups books"], others: Int[Tensor, "out groups books"]
) -> float:
    """The share of codes that are not the same."""
    return int(torch.count_nonzero(some != others)) / some.numel()


def _assigned(
    a: Float[Tensor, "size group"], b: Float[Tensor, "size group"]
) -> Int[Tensor, " size"]:
    """The nearest order of b's words."""
    found = linear_sum_assignment((a @ b.T).cpu().numpy(), maximize=True)[1]
    return torch.as_tensor(found, device=a.device)


def _ranked(a: Float[Tensor, "size group"], b: Float[Tensor, "size group"]) -> Int[Tensor, " size"]:
    """An order of b's words by their rank along a's longest axis."""
    centred = a - a.mean(0)
    axis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    match = torch.empty(len(a), dtype=torch.long, device=a.device)
    match[(a @ axis).argsort()] = (b @ axis).argsort()
    return match
