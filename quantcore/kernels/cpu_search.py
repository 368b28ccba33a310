"""`visit` compiled for the CPU: each row on its own, everything about it in the first cache.

A row's hypotheses, their pulls on the panel's columns and one score for each word fit into a few
tens of kilobytes. The scores, which are nearly all of the arithmetic, are computed over the
codebook transposed, in vectors of words. Each lane's lowest score is kept on the way: if `width`
lanes have one under a bound, so have that many scores, so a few bisections over the lanes give a
bound that hardly more than the wanted scores keep. Those are found by a comparison's bits and go
into a sorted list, which takes no branch: a score and whose it is are one integer, ordered by
both. Hypotheses are not copied from visit to visit: each remembers where it came from, and the
codes are read back at the end of the panel.

Arrays travel in named tuples and are indexed, not sliced. The compiled code counts no references,
so all memory is given to it: a thread's scratch is allocated before it starts.
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
from quantcore.kernels.vectors import (
    LANES,
    add,
    first_one,
    greatest,
    least,
    load,
    minimum,
    muladd,
    ones,
    spread,
    store,
    within,
)

FAST = {"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}  # infinities stay what they are
HALVINGS = 6  # of the range in which a bound is looked for
ZERO, HALF, TWO = np.float32(0), np.float32(0.5), np.float32(2)
HUGE = np.float32(np.inf)
MAGNITUDE, CHOICE = 0x7FFFFFFF, 0xFFFFFFFF  # a float's bits but the sign; a key's lower half
EMPTY = 0x7F800000 << 32  # the key of an infinite score
BEFORE_ALL = -(1 << 63)  # under every key
# no reference counts: they would be most of the time, and threads would wait for each other's
UNCOUNTED: dict[str, Any] = {"_nrt": False}
inlined = njit(fastmath=FAST, inline="always", **UNCOUNTED)


class _Tables(NamedTuple):
    """The panel and the codebooks in the kernel's layout."""

    words: Any  # [books, vectors, group, lanes] transposed and padded
    norms: Any  # [visits, books, vectors * lanes]; infinite where padded
    books: Any  # [books, size, group]
    bent: Any  # [visits, books, size, group]: words times D
    metrics: Any  # [visits, group, group]
    spread: Any  # [columns, vectors * lanes]


class _Rows(NamedTuple):
    """`Rows` in numpy; codes are empty for free targets."""

    held: Any
    codes: Any
    pulls: Any
    errors: Any


class _Scratch(NamedTuple):
    """One row's hypotheses; index 0 of `pulls`, `local`, `placed`, `origin` is before or after."""

    pulls: Any  # [2, wide, vectors * lanes]
    errors: Any  # [wide]
    local: Any  # [2, wide, group]
    placed: Any  # [2, wide, books] codes of the group being visited
    origin: Any  # [2, wide] the hypothesis each was before the group
    away: Any  # [wide, group] -2 times local with one book taken out
    scores: Any  # [padded size]
    low: Any  # [wide + 1] the best choices so far, worst first
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

    def work(first: int, last: int) -> None:
        _rows((first, last), steps, tables, given, found, _scratch_for(tables, given, steps))

    threads.over(count, work)
    return out


def _kept(widths: tuple[int, ...], beam: int, size: int) -> int:
    """Hypotheses left after all steps: few words can fill a beam only over several groups."""
    for width in widths:
        beam = min(width, beam * size)
    return beam


def _tables(panel: Panel, codebooks: Tensor) -> _Tables:
    """Transposed words, and for each visit their norms and products with the metric."""
    books, size, group = codebooks.shape
    padded = -(-size // LANES) * LANES
    words = codebooks.new_zeros(books, padded, group)
    words[:, :size] = codebooks
    bent = codebooks @ panel.blocks[:, None]  # [visits, books, size, group]
    norms = codebooks.new_full((len(bent), books, padded), torch.inf)
    norms[..., :size] = torch.einsum("jmkg,mkg->jmk", bent, codebooks)
    return _Tables(
        words=array(words.view(books, -1, LANES, group).transpose(2, 3)),
        norms=array(norms),
        books=array(codebooks),
        bent=array(bent),
        metrics=array(panel.blocks),
        spread=array(torch.nn.functional.pad(panel.spread, (0, -len(panel.spread) % LANES))),
    )


def _scratch_for(tables: _Tables, rows: _Rows, widths: Any) -> _Scratch:
    """Memory for one thread."""
    wide, visits = max(rows.pulls.shape[1], widths.max()), rows.held.shape[1]
    group, books = rows.held.shape[2], len(tables.books)
    return _Scratch(
        np.empty((2, wide, tables.spread.shape[1]), np.float32),
        np.empty(wide, np.float32),
        np.empty((2, wide, group), np.float32),
        np.empty((2, wide, books), np.int32),
        np.empty((2, wide), np.int32),
        np.empty((wide, group), np.float32),
        np.empty(tables.norms.shape[2], np.float32),
        np.empty(wide + 1, np.int64),
        np.empty((visits, wide), np.int32),
        np.empty((visits, wide, books), np.int32),
        np.empty((visits, wide, group), np.float32),
    )


@inlined
@no_type_check
def _insert(low: Any, width: int, key: int) -> None:
    """Put a key into the list, worst first; the worst falls out."""
    for i in range(width):
        low[i] = max(low[i + 1], min(low[i], key))


@njit(cache=True, **UNCOUNTED)
@no_type_check
def _key(score: float, choice: int) -> int:
    """An integer that orders by score, then choice."""
    bits = np.int64(np.float32(score).view(np.int32))
    return ((bits ^ ((bits >> 31) & MAGNITUDE)) << 32) + choice


@njit(cache=True, **UNCOUNTED)
@no_type_check
def _score_of(key: int) -> float:
    """The score in a key."""
    bits = key >> 32
    return np.int32(bits ^ ((bits >> 31) & MAGNITUDE)).view(np.float32)


@inlined
@no_type_check
def _score(scratch: _Scratch, tables: _Tables, at: Any, h: int, rest: float) -> Any:
    """scores[k] = rest + norms[k] - 2 away[h] . words[k]; the lowest in each lane."""
    books, vectors, group, _ = tables.words.shape
    j, m = at
    lowest = spread(HUGE)
    for v in range(vectors):
        scores = add(load(tables.norms, (j * books + m) * vectors + v), spread(rest))
        for i in range(group):
            words = load(tables.words, (m * vectors + v) * group + i)
            scores = muladd(spread(scratch.away[h, i]), words, scores)
        store(scratch.scores, v, scores)
        lowest = minimum(lowest, scores)
    return lowest


@inlined
@no_type_check
def _bound(lowest: Any, width: int) -> float:
    """A bound that at least `width` scores keep, and not many more: so many lanes hold one."""
    low, high = least(lowest), greatest(lowest)
    if width == 1:
        return low
    for _ in range(HALVINGS):
        middle = low + HALF * (high - low)
        enough = ones(within(lowest, spread(middle))) >= width
        low, high = (low, middle) if enough else (middle, high)
    return high


@inlined
@no_type_check
def _empty(scratch: _Scratch, tables: _Tables, rows: _Rows, at: Any, h: int) -> None:
    """Enter a group with one hypothesis."""
    books, _, group = tables.books.shape
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


@inlined
@no_type_check
def _take_out(scratch: _Scratch, tables: _Tables, at: Any, h: int) -> float:
    """Take one book's word out of a hypothesis; the error without it."""
    group = tables.books.shape[2]
    j, m, side = at
    word, back = scratch.placed[side, h, m], ZERO
    for i in range(group):
        local, bent = scratch.local[side, h, i], tables.bent[j, m, word, i]
        scratch.away[h, i] = -TWO * (local + bent)
        back += tables.books[m, word, i] * (TWO * local + bent)
    return scratch.errors[h] + back


@inlined
@no_type_check
def _put_in(scratch: _Scratch, tables: _Tables, at: Any, b: int, key: int) -> None:
    """The b-th best choice becomes a hypothesis on the other side."""
    books, _, group = tables.books.shape
    j, m, side = at
    size, choice = tables.books.shape[1], key & CHOICE
    h = choice // size
    word = choice - h * size
    scratch.errors[b] = _score_of(key)
    for i in range(group):
        scratch.local[1 - side, b, i] = -HALF * scratch.away[h, i] - tables.bent[j, m, word, i]
    for n in range(books):
        scratch.placed[1 - side, b, n] = scratch.placed[side, h, n]
    scratch.placed[1 - side, b, m] = word
    scratch.origin[1 - side, b] = scratch.origin[side, h]


@inlined
@no_type_check
def _best(scratch: _Scratch, tables: _Tables, at: Any, h: int, kept: Any) -> float:
    """Try all words of one book in one hypothesis; the bound of the list so far."""
    width, bound, rest = kept
    lowest = _score(scratch, tables, at, h, rest)
    lanes = ones(within(lowest, spread(bound)))
    if lanes > width:
        bound = min(bound, _bound(lowest, width))
    if lanes:
        for v in range(tables.words.shape[1]):
            hits = within(load(scratch.scores, v), spread(bound))
            while hits:
                k = v * LANES + first_one(hits)
                hits &= hits - 1
                _insert(scratch.low, width, _key(scratch.scores[k], h * tables.books.shape[1] + k))
        bound = min(bound, _score_of(scratch.low[0]))
    return bound


@inlined
@no_type_check
def _fill(scratch: _Scratch, tables: _Tables, widths: Any, at: Any, count: int) -> Any:
    """All steps in one group; (hypotheses left, side they are on)."""
    books, _, group = tables.books.shape
    j, fresh = at
    side = 0
    for step in range(len(widths)):
        m, width = step % books, widths[step]
        for b in range(width):
            scratch.low[b] = EMPTY
        scratch.low[width] = BEFORE_ALL
        bound = HUGE
        for h in range(count):
            rest = scratch.errors[h]
            if fresh and step < books:
                for i in range(group):
                    scratch.away[h, i] = -TWO * scratch.local[side, h, i]
            else:
                rest = _take_out(scratch, tables, (j, m, side), h)
            bound = _best(scratch, tables, (j, m), h, (width, bound, rest))
        count = min(width, count * tables.books.shape[1])
        for b in range(count):
            _put_in(scratch, tables, (j, m, side), b, scratch.low[width - 1 - b])
        side = 1 - side
    return count, side


@inlined
@no_type_check
def _leave(scratch: _Scratch, tables: _Tables, rows: _Rows, at: Any, b: int) -> None:
    """Note what a hypothesis chose and pull the later groups."""
    books, _, group = tables.books.shape
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
    wide, vectors = pulls.shape[1], tables.spread.shape[1] // LANES
    for v in range((j + 1) * group // LANES, vectors):
        pull = load(pulls, (now * wide + h) * vectors + v)
        for i in range(group):
            right = load(tables.spread, (j * group + i) * vectors + v)
            pull = muladd(spread(moves[j, b, i]), right, pull)
        store(pulls, ((1 - now) * wide + b) * vectors + v, pull)


@inlined
@no_type_check
def _read_back(scratch: _Scratch, tables: _Tables, found: Visited, row: int, b: int) -> None:
    """Follow a hypothesis back through the panel."""
    books, _, group = tables.books.shape
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


@njit(nogil=True, cache=True, fastmath=FAST, **UNCOUNTED)
@no_type_check
def _rows(
    piece: Any, widths: Any, tables: _Tables, rows: _Rows, found: Visited, scratch: _Scratch
) -> None:
    """Search the rows of a piece."""
    fresh = len(rows.codes) == 0
    for row in range(piece[0], piece[1]):
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
