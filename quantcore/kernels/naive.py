"""Every kernel in plain torch: what the fast ones must compute.

Each function here has the signature and the meaning of its compiled twins and runs on any device
and dtype; where there is no faster one, it is the one that runs.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore.kernels.panel import Panel, Rows, Visited

CHUNK = 1 << 22  # scores held at once


def assign(
    vectors: Float[Tensor, "out groups group"],
    metrics: Float[Tensor, "groups group group"],
    codebook: Float[Tensor, "size group"],
) -> tuple[Int[Tensor, "out groups"], Float[Tensor, "out groups"]]:
    """Each vector's nearest codeword in its group's metric, and the squared distance.

    Ties go to the word with the lowest index.
    """
    out, groups, _ = vectors.shape
    codes = torch.empty(out, groups, dtype=torch.int32, device=codebook.device)
    costs = torch.empty(out, groups, dtype=codebook.dtype, device=codebook.device)
    chunk = max(1, CHUNK // (out * len(codebook)))
    for first in range(0, groups, chunk):
        some = slice(first, first + chunk)
        here = vectors[:, some].transpose(0, 1)  # [chunk, out, group]
        bent = codebook @ metrics[some]  # [chunk, size, group]
        norms = (bent * codebook).sum(-1)  # [chunk, size]
        scores = torch.baddbmm(norms[:, None], here, bent.mT, alpha=-2)
        low, word = scores.min(-1)
        own = ((here @ metrics[some]) * here).sum(-1)
        codes[:, some] = word.T.int()
        costs[:, some] = (low + own).T.clamp_min(0)
    return codes, costs


def codeword_sums(
    vectors: Float[Tensor, "out groups group"],
    metrics: Float[Tensor, "groups group group"],
    row_weights: Float[Tensor, " out"],
    codes: Int[Tensor, "out groups"],
    size: int,
) -> tuple[Float[Tensor, "size group group"], Float[Tensor, "size group"]]:
    """A_k = sum a_o H_j and b_k = sum a_o H_j v_oj over the vectors of each code, in float64."""
    groups, group = metrics.shape[:2]
    exact = metrics.double()
    weights = row_weights.double()
    flat = codes.long()
    cells = (flat * groups + torch.arange(groups, device=codes.device)).flatten()
    mass = weights.new_zeros(size * groups)
    mass.index_add_(0, cells, weights[:, None].expand_as(codes).flatten())
    curvature = mass.view(size, groups) @ exact.flatten(1)
    pulled = torch.einsum("ojg,jgh->ojh", vectors.double(), exact)
    pulled *= weights[:, None, None]
    target = weights.new_zeros(size, group)
    target.index_add_(0, flat.flatten(), pulled.flatten(0, 1))
    return curvature.view(size, group, group), target


def solve(
    lhs: Float[Tensor, "size group group"], rhs: Float[Tensor, "size group"]
) -> Float[Tensor, "size group"]:
    """The solution of many small symmetric positive definite systems."""
    found: Tensor = torch.linalg.solve(lhs, rhs)
    return found


def best(
    targets: Float[Tensor, "rows beam group"],
    base: Float[Tensor, "rows beam"],
    codebook: Float[Tensor, "size group"],
    norms: Float[Tensor, " size"],
    width: int,
) -> tuple[Float[Tensor, "rows kept"], Int[Tensor, "rows kept"]]:
    """The lowest base[h] + norms[k] - 2 targets[h] . codebook[k] of each row, ascending.

    The choice is h * size + k; ties go to the lowest choice.
    """
    inputs = torch.cat([targets, base[..., None]], -1)
    weights = torch.cat([-2 * codebook.T, codebook.new_ones(1, len(codebook))])
    scores = torch.addmm(norms, inputs.flatten(0, 1), weights).view(len(base), -1)
    if width == 1:
        low, choice = scores.min(1, keepdim=True)
        return low, choice
    kept = min(width, scores.shape[1])
    low, choice = scores.sort(dim=1, stable=True)
    return low[:, :kept], choice[:, :kept]


def decode(
    codes: Int[Tensor, "out groups books"],
    codebooks: Float[Tensor, "books size group"],
    scales: Float[Tensor, " out"],
) -> Float[Tensor, "out columns"]:
    """The dense weight: each group's codewords summed, times the row's scale.

    Codes may be stored wrapped to a signed type, as AQLM's files have them.
    """
    books, size, _ = codebooks.shape
    words = sum(codebooks[m][codes[..., m].long() % size] for m in range(books))
    return torch.as_tensor(words).flatten(1) * scales[:, None]


def sum_by_code(
    pulls: Float[Tensor, "out columns"],
    codes: Int[Tensor, "out groups books"],
    scales: Float[Tensor, " out"],
    size: int,
) -> Float[Tensor, "books size group"]:
    """The scaled groups of `pulls` summed by code, in float64: the adjoint of `decode`."""
    groups, books = codes.shape[1:]
    scaled = (pulls.double() * scales[:, None]).view(-1, pulls.shape[1] // groups)
    sums = scaled.new_zeros(books, size, scaled.shape[1])
    for book in range(books):
        sums[book].index_add_(0, codes[..., book].flatten().long() % size, scaled)
    return sums


def matmul(
    x: Float[Tensor, "tokens columns"],
    codes: Int[Tensor, "out groups books"],
    codebooks: Float[Tensor, "books size group"],
    scales: Float[Tensor, " out"],
) -> Float[Tensor, "tokens out"]:
    """Inputs times the transposed weight."""
    return x @ decode(codes, codebooks, scales).T


def visit(
    panel: Panel,
    codebooks: Float[Tensor, "books size group"],
    rows: Rows,
    widths: tuple[int, ...],
    best: Callable[..., tuple[Tensor, Tensor]] = best,
) -> Visited:
    """The panel's groups visited in turn, all rows at once; see `panel` for the meaning.

    `best` may be another make of that kernel: on a GPU this loop with the compiled one is the fast
    path.
    """
    visits, group, _ = panel.blocks.shape
    count, beam = rows.errors.shape
    each = torch.arange(count, device=codebooks.device)[:, None]
    errors, pulls = rows.errors, rows.pulls
    parents = torch.arange(beam, device=each.device).expand(count, beam)
    codes = torch.empty(count, beam, 0, len(codebooks), dtype=torch.int32, device=each.device)
    changes = pulls.new_empty(count, beam, 0)
    for j in range(visits):
        fresh = rows.codes is None
        held, pull = rows.held[:, None, j], pulls[..., :group]
        if rows.codes is None:
            words = torch.zeros(count, beam, len(codebooks), dtype=torch.int64, device=each.device)
            local = (held + pull) @ panel.blocks[j]
            errors = errors + (local * (held + pull)).sum(-1)
        else:
            words = rows.codes[:, None, j].long().expand(-1, beam, -1)
            local = pull
        state = _Group(
            words, local, errors, torch.arange(beam, device=each.device).expand(count, -1)
        )
        for step, width in enumerate(widths):
            take_out = not fresh or step >= len(codebooks)
            state = _replace(panel.blocks[j], codebooks, state, (step, width, take_out), best)
        words, _, errors, origin = state
        beam = origin.shape[1]
        chosen = sum(codebooks[m][words[..., m]] for m in range(len(codebooks)))
        change = held - chosen
        later = panel.spread[j * group : (j + 1) * group, (j + 1) * group :]
        pulls = pulls[each, origin, group:] + change @ later
        codes = torch.cat([codes[each, origin], words[:, :, None].int()], 2)
        changes = torch.cat([changes[each, origin], change], 2)
        parents = parents.gather(1, origin)
    return Visited(codes, parents, changes, errors)


class _Group(NamedTuple):
    """The hypotheses inside the group being visited."""

    words: Int[Tensor, "rows beam books"]
    local: Float[Tensor, "rows beam group"]
    errors: Float[Tensor, "rows beam"]
    origin: Int[Tensor, "rows beam"]  # the hypothesis each was before the group


def _replace(
    metric: Tensor,
    codebooks: Tensor,
    state: _Group,
    step: tuple[int, int, bool],
    best: Callable[..., tuple[Tensor, Tensor]],
) -> _Group:
    """Try every word of one codebook in every hypothesis; keep the `width` best of each row."""
    number, width, take_out = step
    book = number % len(codebooks)
    codebook, size = codebooks[book], codebooks.shape[1]
    bent = codebook @ metric  # [size, group]
    away, rest = state.local, state.errors
    if take_out:
        present = state.words[..., book]
        away = state.local + bent[present]
        rest = rest + (codebook[present] * (state.local + away)).sum(-1)
    errors, choice = best(away, rest, codebook, (bent * codebook).sum(1), width)
    chosen, word = choice // size, choice % size
    each = torch.arange(len(errors), device=errors.device)[:, None]
    words = state.words[each, chosen]
    words[..., book] = word
    return _Group(words, away[each, chosen] - bent[word], errors, state.origin.gather(1, chosen))
