"""`visit` compiled for the CPU: each row on its own, everything about it in the first cache.

A row's hypotheses, their pulls on the panel's columns and one score for each word fit into a few
tens of kilobytes. The loop over the words, which is nearly all of the arithmetic, runs over the
codebook transposed, [group, size], in vector registers; the words are then passed over in lanes and
only those under the worst kept score are looked at one by one. Hypotheses are not copied from visit
to visit: each remembers where it came from, and the codes are read back at the end of the panel.

The code is compiled twice: for groups of 8, the usual size, as a constant, so that the short loops
over a group unroll, and for any other size. Arrays travel in named tuples and are indexed, not
sliced: a slice costs a reference count, which is more than a short loop.
"""

from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from quantcore.kernels import threads
from quantcore.kernels.arrays import array
from quantcore.kernels.panel import Panel, Rows, Visited

FAST = {"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}  # infinities stay what they are
USUAL = 8  # the group size with code of its own
LANES = 64  # scores compared with the bound at once
BLOCK = 256  # words scored at once
TWO, ZERO, HUGE = np.float32(2), np.float32(0), np.float32(np.inf)


class _Tables(NamedTuple):
    """The panel and the codebooks in the kernel's layout."""

    words: Any  # [books, blocks, group, block] transposed and padded
    norms: Any  # [visits, books, blocks, block]; infinite where padded
    books: Any  # [books, size, group]
    bent: Any  # [visits, books, size, group]: words times D
    metrics: Any  # [visits, group, group]
    spread: Any  # [columns, columns]
    unroll: Any  # a tuple of the group size's length for the usual size, else empty


class _Rows(NamedTuple):
    """`Rows` in numpy; codes are empty for free targets."""

    held: Any
    codes: Any
    pulls: Any
    errors: Any


class _Scratch(NamedTuple):
    """One row's hypotheses; index 0 of `pulls`, `local`, `placed`, `origin` is before or after."""

    pulls: Any  # [2, wide, columns]
    errors: Any  # [wide]
    local: Any  # [2, wide, group]
    placed: Any  # [2, wide, books] codes of the group being visited
    origin: Any  # [2, wide] the hypothesis each was before the group
    away: Any  # [wide, group] local with one book taken out
    scores: Any  # [block]
    low: Any  # [wide] the best scores so far, ascending
    choice: Any  # [wide] and whose they are
    came: Any  # [visits, wide] origin, for each visit
    codes: Any  # [visits, wide, books]
    moves: Any  # [visits, wide, group]


def visit(
    panel: Panel,
    codebooks: Float[Tensor, "books size group"],
    rows: Rows,
    widths: tuple[int, ...],
) -> Visited:
    """The panel's groups visited in turn; see `panel` for the meaning."""
    count, visits, group = rows.held.shape
    books, kept = len(codebooks), _kept(widths * visits, rows.pulls.shape[1], codebooks.shape[1])
    out = Visited(
        torch.empty(count, kept, visits, books, dtype=torch.int32),
        torch.empty(count, kept, dtype=torch.int64),
        torch.empty(count, kept, visits * group),
        torch.empty(count, kept),
    )
    codes = rows.codes
    if codes is None:
        codes = torch.empty(0, visits, books, dtype=torch.int32)
    given = _Rows(*(array(x) for x in (rows.held, codes.int(), rows.pulls, rows.errors)))
    tables, found = _tables(panel, codebooks), Visited(*(array(x) for x in out))
    steps = np.array(widths)
    threads.over(count, lambda first, last: _rows(first, last, steps, tables, given, found))
    return out


def _kept(widths: tuple[int, ...], beam: int, size: int) -> int:
    """Hypotheses left after all steps: few words can fill a beam only over several groups."""
    for width in widths:
        beam = min(width, beam * size)
    return beam


def _tables(panel: Panel, codebooks: Tensor) -> _Tables:
    """Transposed words, and for each visit their norms and products with the metric."""
    books, size, group = codebooks.shape
    visits = len(panel.blocks)
    block = min(BLOCK, -(-size // LANES) * LANES)
    padded = -(-size // block) * block
    words = codebooks.new_zeros(books, padded, group)
    words[:, :size] = codebooks
    bent = codebooks @ panel.blocks[:, None]  # [visits, books, size, group]
    norms = codebooks.new_full((visits, books, padded), torch.inf)
    norms[..., :size] = torch.einsum("jmkg,mkg->jmk", bent, codebooks)
    return _Tables(
        words=array(words.view(books, -1, block, group).transpose(2, 3)),
        norms=array(norms.view(visits, books, -1, block)),
        books=array(codebooks),
        bent=array(bent),
        metrics=array(panel.blocks),
        spread=array(panel.spread),
        unroll=(0,) * USUAL if group == USUAL else (),
    )


@njit(nogil=True, cache=True, fastmath=FAST)
@no_type_check
def _under(scores: Any, first: int, bound: float) -> int:
    """How many of the next LANES scores are under the bound."""
    found = np.int32(0)
    for k in range(first, first + LANES):
        found += np.int32(scores[k] < bound)
    return found


@njit(nogil=True, cache=True, fastmath=FAST)
@no_type_check
def _insert(low: Any, choice: Any, count: int, width: int, score: float, which: int) -> int:
    """Put a score into the ascending list; equal scores keep their order."""
    place = count if count < width else width - 1
    while place > 0 and low[place - 1] > score:
        low[place] = low[place - 1]
        choice[place] = choice[place - 1]
        place -= 1
    low[place] = score
    choice[place] = which
    return min(count + 1, width)


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _group(tables: _Tables) -> int:
    """The group size; a constant where the tables say so by a type."""
    return len(tables.unroll) if len(tables.unroll) else tables.books.shape[2]


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _score(scratch: _Scratch, tables: _Tables, at: Any, h: int, rest: float) -> None:
    """scores[k] = rest + norms[k] - 2 away[h] . words[:, k] for one block of words."""
    group = _group(tables)
    scores, words, norms, away = scratch.scores, tables.words, tables.norms, scratch.away
    j, m, block = at
    if len(tables.unroll):  # groups of 8: one pass, all in registers
        a, b, c, d = TWO * away[h, 0], TWO * away[h, 1], TWO * away[h, 2], TWO * away[h, 3]
        e, f, g, i = TWO * away[h, 4], TWO * away[h, 5], TWO * away[h, 6], TWO * away[h, 7]
        for k in range(len(scores)):
            dot = a * words[m, block, 0, k] + b * words[m, block, 1, k]
            dot += c * words[m, block, 2, k] + d * words[m, block, 3, k]
            dot += e * words[m, block, 4, k] + f * words[m, block, 5, k]
            dot += g * words[m, block, 6, k] + i * words[m, block, 7, k]
            scores[k] = rest + norms[j, m, block, k] - dot
    else:
        for k in range(len(scores)):
            scores[k] = rest + norms[j, m, block, k]
        for i in range(group):
            a = TWO * away[h, i]
            for k in range(len(scores)):
                scores[k] -= a * words[m, block, i, k]


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _empty(scratch: _Scratch, tables: _Tables, rows: _Rows, at: Any, h: int) -> None:
    """Enter a group with one hypothesis."""
    group, books = _group(tables), len(tables.books)
    row, j, now = at
    pulls, local = scratch.pulls, scratch.local
    scratch.origin[0, h] = h
    if len(rows.codes):
        for i in range(group):
            local[0, h, i] = pulls[now, h, j * group + i]
        for m in range(books):
            scratch.placed[0, h, m] = rows.codes[row, j, m]
    else:
        total = ZERO
        for i in range(group):
            pull = ZERO
            for k in range(group):
                free = rows.held[row, j, k] + pulls[now, h, j * group + k]
                pull += free * tables.metrics[j, i, k]
            total += pull * (rows.held[row, j, i] + pulls[now, h, j * group + i])
            local[0, h, i] = pull
        scratch.errors[h] += total


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _take_out(scratch: _Scratch, tables: _Tables, at: Any, h: int) -> float:
    """Take one book's word out of a hypothesis; the error without it."""
    group = _group(tables)
    j, m, side = at
    word, back = scratch.placed[side, h, m], ZERO
    for i in range(group):
        local, bent = scratch.local[side, h, i], tables.bent[j, m, word, i]
        scratch.away[h, i] = local + bent
        back += tables.books[m, word, i] * (TWO * local + bent)
    return scratch.errors[h] + back


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _put_in(scratch: _Scratch, tables: _Tables, at: Any, b: int) -> None:
    """The b-th best choice becomes a hypothesis on the other side."""
    group, books = _group(tables), len(tables.books)
    j, m, side = at
    size = tables.books.shape[1]
    h = scratch.choice[b] // size
    word = scratch.choice[b] - h * size
    for i in range(group):
        scratch.local[1 - side, b, i] = scratch.away[h, i] - tables.bent[j, m, word, i]
    for n in range(books):
        scratch.placed[1 - side, b, n] = scratch.placed[side, h, n]
    scratch.placed[1 - side, b, m] = word
    scratch.origin[1 - side, b] = scratch.origin[side, h]


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _best(scratch: _Scratch, tables: _Tables, at: Any, h: int, kept: Any) -> Any:
    """Try all words of one book in one hypothesis; (found, bound) of the list so far."""
    found, width, bound, rest = kept
    length, size = len(scratch.scores), tables.books.shape[1]
    for block in range(tables.words.shape[1]):
        _score(scratch, tables, (at[0], at[1], block), h, rest)
        for first in range(0, length, LANES):
            if _under(scratch.scores, first, bound):
                for k in range(first, first + LANES):
                    if scratch.scores[k] < bound:
                        which = h * size + block * length + k
                        found = _insert(
                            scratch.low, scratch.choice, found, width, scratch.scores[k], which
                        )
                        if found == width:
                            bound = scratch.low[width - 1]
    return found, bound


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _fill(scratch: _Scratch, tables: _Tables, widths: Any, at: Any, count: int) -> Any:
    """All steps in one group; (hypotheses left, side they are on)."""
    group, books = _group(tables), len(tables.books)
    j, fresh = at
    side = 0
    for step in range(len(widths)):
        m = step % books
        found, bound = 0, HUGE
        for h in range(count):
            rest = scratch.errors[h]
            if fresh and step < books:
                for i in range(group):
                    scratch.away[h, i] = scratch.local[side, h, i]
            else:
                rest = _take_out(scratch, tables, (j, m, side), h)
            kept = (found, widths[step], bound, rest)
            found, bound = _best(scratch, tables, (j, m), h, kept)
        for b in range(found):
            _put_in(scratch, tables, (j, m, side), b)
            scratch.errors[b] = scratch.low[b]
        side, count = 1 - side, found
    return count, side


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _leave(scratch: _Scratch, tables: _Tables, rows: _Rows, at: Any, b: int) -> None:
    """Note what a hypothesis chose and pull the later groups."""
    group, books = _group(tables), len(tables.books)
    row, j, now, side = at
    h, pulls, moves = scratch.origin[side, b], scratch.pulls, scratch.moves
    scratch.came[j, b] = h
    for i in range(group):
        moves[j, b, i] = rows.held[row, j, i]
    for m in range(books):
        word = scratch.placed[side, b, m]
        scratch.codes[j, b, m] = word
        for i in range(group):
            moves[j, b, i] -= tables.books[m, word, i]
    for k in range((j + 1) * group, pulls.shape[2]):
        pull = pulls[now, h, k]
        for i in range(group):
            pull += moves[j, b, i] * tables.spread[j * group + i, k]
        pulls[1 - now, b, k] = pull


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _read_back(scratch: _Scratch, tables: _Tables, found: Visited, row: int, b: int) -> None:
    """Follow a hypothesis back through the panel."""
    group, books = _group(tables), len(tables.books)
    h = b
    found.errors[row, b] = scratch.errors[b]
    for back in range(len(scratch.came)):
        j = len(scratch.came) - 1 - back
        for m in range(books):
            found.codes[row, b, j, m] = scratch.codes[j, h, m]
        for i in range(group):
            found.changes[row, b, j * group + i] = scratch.moves[j, h, i]
        h = scratch.came[j, h]
    found.parents[row, b] = h


@njit(nogil=True, fastmath=FAST, inline="always")
@no_type_check
def _scratch_for(tables: _Tables, rows: _Rows, widths: Any) -> _Scratch:
    wide, visits = max(rows.pulls.shape[1], widths.max()), rows.held.shape[1]
    group, books = rows.held.shape[2], len(tables.books)
    return _Scratch(
        np.empty((2, wide, visits * group), np.float32),
        np.empty(wide, np.float32),
        np.empty((2, wide, group), np.float32),
        np.empty((2, wide, books), np.int32),
        np.empty((2, wide), np.int32),
        np.empty((wide, group), np.float32),
        np.empty(tables.words.shape[3], np.float32),
        np.empty(wide, np.float32),
        np.empty(wide, np.int64),
        np.empty((visits, wide), np.int32),
        np.empty((visits, wide, books), np.int32),
        np.empty((visits, wide, group), np.float32),
    )


@njit(nogil=True, cache=True, fastmath=FAST)
@no_type_check
def _rows(first: int, last: int, widths: Any, tables: _Tables, rows: _Rows, found: Visited) -> None:
    scratch = _scratch_for(tables, rows, widths)
    fresh = len(rows.codes) == 0
    for row in range(first, last):
        count = rows.pulls.shape[1]
        for h in range(count):
            scratch.errors[h] = rows.errors[row, h]
            for i in range(rows.pulls.shape[2]):
                scratch.pulls[0, h, i] = rows.pulls[row, h, i]
        for j in range(rows.held.shape[1]):
            now = j % 2
            for h in range(count):
                _empty(scratch, tables, rows, (row, j, now), h)
            count, side = _fill(scratch, tables, widths, (j, fresh), count)
            for b in range(count):
                _leave(scratch, tables, rows, (row, j, now, side), b)
        for b in range(count):
            _read_back(scratch, tables, found, row, b)
