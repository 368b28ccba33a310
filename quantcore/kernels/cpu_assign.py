r"""The two steps of EM compiled for the CPU: nearest codewords, and the sums that fit codewords.

In the metric H_j of its group, the word c nearest to a vector v has the lowest

    c^T H_j c / 2 - (H_j c)^T v.

The codebook is bent, H_j c, once a group (once in all where the groups share one metric, as in
k-means); then a word costs g multiply-adds. A group's vectors are taken a tile at a time and
turned, [group, rows]: the innermost loop runs over the rows of the tile and keeps each row's lowest
score and its word, so it is vectors throughout, needs no search for the place of a minimum, and the
first of equal words stays. Nothing of size vectors x words exists. The distance is taken from v - c
afterwards: where it is small beside v, the score has lost its digits.

For the sums, the vectors of one code in one group share a metric, so their weights and weighted
vectors are added up first and H_j is applied once for each code that the group uses. Threads divide
the codes: each reads all codes and adds up its own. Nothing is held twice, and the result does not
depend on the number of threads. `solve` then takes the sums to codewords.

The group size reaches the compiled code as the length of a tuple, `entries`: it is part of that
argument's type, so there is one version for each size and loops over a vector's entries unroll.
"contract" merges products into sums but leaves their order, so that a vector's score does not
depend on where its tile begins.
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from numba import njit
from torch import Tensor

from quantcore.kernels import threads
from quantcore.kernels.arrays import array

TILE = 512  # rows turned at once; with their scores they stay in the first cache
PRODUCTS = 1 << 21  # multiply-adds of scores worth a thread
VECTORS = 1 << 12  # vectors of sums worth a thread
HALF, ZERO = np.float32(0.5), np.float32(0)  # a plain number would make a float64


class _Sums(NamedTuple):
    """The result."""

    curvature: Any  # [size, group * group]
    target: Any  # [size, group]


class _Part(NamedTuple):
    """One thread's codes within a group (within all groups of one metric)."""

    mass: Any  # [size] weights
    moment: Any  # [size, group] weighted vectors
    seen: Any  # [size] whether the code is among
    used: Any  # [size] the codes that occur


def assign(
    vectors: Float[Tensor, "out groups group"],
    metrics: Float[Tensor, "groups group group"],
    codebook: Float[Tensor, "size group"],
) -> tuple[Int[Tensor, "out groups"], Float[Tensor, "out groups"]]:
    """Each vector's nearest codeword in its group's metric, and the squared distance.

    Ties go to the word with the lowest index.
    """
    (out, groups, group), size = vectors.shape, len(codebook)
    codes, costs = torch.empty(out, groups, dtype=torch.int32), torch.empty(out, groups)
    metrics = _distinct(metrics)
    if len(metrics) == 1:  # then all vectors are of one group
        out, groups = out * groups, 1
    paired = torch.arange(size + size % 2).clamp_max(size - 1)  # an odd last word twice
    arrays = [
        array(vectors).reshape(out, groups, group),
        array(metrics),
        array(codebook[paired].T),
        codes.view(out, groups).numpy(),
        costs.view(out, groups).numpy(),
    ]
    entries = (0,) * group

    def work(first: int, last: int) -> None:
        _search((first, last), entries, *arrays)

    threads.over(out * groups, work, max(1, PRODUCTS // (size * group)))
    return codes, costs


def codeword_sums(
    vectors: Float[Tensor, "out groups group"],
    metrics: Float[Tensor, "groups group group"],
    row_weights: Float[Tensor, " out"],
    codes: Int[Tensor, "out groups"],
    size: int,
) -> tuple[Float[Tensor, "size group group"], Float[Tensor, "size group"]]:
    """A_k = sum a_o H_j and b_k = sum a_o H_j v_oj over the vectors of each code, in float64."""
    group = vectors.shape[2]
    curvature = torch.zeros(size, group, group, dtype=torch.float64)
    target = torch.zeros(size, group, dtype=torch.float64)
    arrays = [
        *(array(x) for x in (vectors, _distinct(metrics).flatten(1), row_weights, codes.int())),
        _Sums(curvature.view(size, group**2).numpy(), target.numpy()),
    ]
    entries = (0,) * group

    def work(first: int, last: int) -> None:
        _add((first, last), entries, *arrays)

    threads.over(size, work, -(-size * VECTORS // max(1, codes.numel())))
    return curvature, target


def solve(
    matrices: Float[Tensor, "size group group"], right: Float[Tensor, "size group"]
) -> Float[Tensor, "size group"]:
    """The x of A x = b for symmetric positive definite matrices, in float64.

    `torch.linalg.solve` wakes torch's own threads for each of its calls; where the cores are busy,
    waiting for them takes longer than a round of EM.
    """
    reduced, found = (x.to(torch.float64, copy=True).contiguous() for x in (matrices, right))
    arrays, entries = (array(reduced), array(found)), (0,) * right.shape[1]

    def work(first: int, last: int) -> None:
        _solve((first, last), entries, *arrays)

    threads.over(len(right), work, VECTORS)
    return found


def _distinct(metrics: Tensor) -> Tensor:
    """One metric where all are one, expanded; else all of them."""
    return metrics[:1] if metrics.stride(0) == 0 else metrics


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check
def _search(
    span: Any, entries: Any, vectors: Any, metrics: Any, words: Any, codes: Any, costs: Any
) -> None:
    """Codes and costs of a span of the vectors, counted group by group."""
    (first, last), out, group, held = span, len(vectors), len(entries), -1
    bent, norms = np.empty_like(words), np.empty(words.shape[1], np.float32)
    tile, pulls = np.empty((group, TILE), np.float32), np.empty((group, TILE), np.float32)
    low, word = np.empty(TILE, np.float32), np.empty(TILE, np.int32)
    while first < last:
        j, o = divmod(first, out)
        rows = min(TILE, out - o, last - first)
        if j != held:
            _bend(entries, metrics[j], words, bent, norms)
            held = j
        for r in range(rows):
            for a in range(group):
                tile[a, r] = vectors[o + r, j, a]
        _lowest(entries, tile, bent, norms, low[:rows], word[:rows])
        for a in range(group):
            for r in range(rows):
                tile[a, r] -= words[a, word[r]]
        _bend(entries, metrics[j], tile, pulls, low[:rows])
        for r in range(rows):
            codes[o + r, j] = word[r]
            costs[o + r, j] = max(low[r], ZERO)
        first += rows


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check
def _bend(entries: Any, metric: Any, columns: Any, bent: Any, norms: Any) -> None:
    """H v and v^T H v of every column v."""
    norms[:] = 0
    for a in range(len(entries)):
        for k in range(len(norms)):
            pull = ZERO
            for b in range(len(entries)):
                pull += metric[b, a] * columns[b, k]
            bent[a, k] = pull
            norms[k] += pull * columns[a, k]


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check
def _lowest(entries: Any, tile: Any, bent: Any, norms: Any, low: Any, word: Any) -> None:
    """The lowest score of each row of the tile, and its word; two words a pass."""
    low[:] = np.inf
    word[:] = 0
    for k in range(0, len(norms), 2):
        one, two = np.int32(k), np.int32(k + 1)
        for r in range(len(low)):
            score, other = HALF * norms[k], HALF * norms[k + 1]
            for a in range(len(entries)):
                score -= bent[a, k] * tile[a, r]
                other -= bent[a, k + 1] * tile[a, r]
            best, at = low[r], word[r]
            at = one if score < best else at
            best = min(score, best)
            word[r] = two if other < best else at
            low[r] = min(other, best)


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check
def _add(
    span: Any, entries: Any, vectors: Any, metrics: Any, row_weights: Any, codes: Any, sums: Any
) -> None:
    """The sums of a span of codes."""
    groups, group, size = codes.shape[1], len(entries), span[1] - span[0]
    part = _Part(
        np.zeros(size), np.zeros((size, group)), np.zeros(size, np.bool_), np.empty(size, np.int64)
    )
    count, metric = 0, np.empty(group * group)
    for j in range(groups):
        count = _collect(span[0], entries, vectors[:, j], row_weights, codes[:, j], part, count)
        if len(metrics) == 1 and j < groups - 1:
            continue  # one metric is applied once, at the end
        metric[:] = metrics[min(j, len(metrics) - 1)]
        for k in part.used[:count]:
            for b in range(group * group):
                sums.curvature[span[0] + k, b] += part.mass[k] * metric[b]
            for b in range(group):
                for a in range(group):
                    sums.target[span[0] + k, a] += part.moment[k, b] * metric[b * group + a]
            part.seen[k], part.mass[k], part.moment[k] = False, 0, 0
        count = 0


@njit(nogil=True, cache=True, fastmath={"contract"})
@no_type_check
def _collect(
    first: int, entries: Any, vectors: Any, row_weights: Any, codes: Any, part: Any, count: int
) -> int:
    """Weights and weighted vectors of one group by code; how many codes have been used."""
    for o in range(len(codes)):
        k = codes[o] - first
        if k < 0 or k >= len(part.mass):
            continue
        if not part.seen[k]:
            part.seen[k], part.used[count] = True, k
            count += 1
        weight = np.float64(row_weights[o])
        part.mass[k] += weight
        for a in range(len(entries)):
            part.moment[k, a] += weight * vectors[o, a]
    return count


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
@no_type_check
def _solve(span: Any, entries: Any, matrices: Any, right: Any) -> None:
    """Eliminate in place; a positive definite matrix needs no pivots."""
    for k in range(span[0], span[1]):
        for i in range(len(entries)):
            for r in range(i + 1, len(entries)):
                factor = matrices[k, r, i] / matrices[k, i, i]
                for c in range(i + 1, len(entries)):
                    matrices[k, r, c] -= factor * matrices[k, i, c]
                right[k, r] -= factor * right[k, i]
        for i in range(len(entries) - 1, -1, -1):
            for c in range(i + 1, len(entries)):
                right[k, i] -= matrices[k, i, c] * right[k, c]
            right[k, i] /= matrices[k, i, i]
