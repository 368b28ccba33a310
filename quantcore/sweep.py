r"""One sweep of search over the groups of every row, panel by panel.

Both searches visit the groups in order and carry, for each hypothesis about a row, its pull on the
columns still to come (`kernels.panel` says what happens in a group). A choice in group i changes
the pulls of the later groups by change_i @ spread[i, later]. Inside a panel of `PANEL` columns the
kernel does that at once; everything right of the panel waits and is brought up to date by one
matrix product a panel, at the full speed of the hardware (the lazy batches of GPTQ,
arXiv:2210.17323, here for a beam: each surviving hypothesis knows which one it began as).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from quantcore import kernels
from quantcore.errors import InputError, quoted
from quantcore.kernels.panel import Panel, Rows

WIDEST = 1 << 16  # hypotheses; memory sets a lower bound for all but tiny layers
PANEL = 384  # columns searched between two matrix products
TABLES = 1 << 22  # numbers in the kernel's tables for one panel; large codebooks get small panels
CHUNK = 1 << 22  # pulls held at once; more rows than that are searched in turn


class Metric(NamedTuple):
    """What a search minimizes in, columns in visiting order."""

    blocks: Float[Tensor, "groups group group"]  # of each group when it is visited
    spread: Float[Tensor, "columns columns"]  # how a change pulls the groups right of it
    order: Int[Tensor, " groups"]  # the layer's group visited first, second, ...


class SweepInfo(NamedTuple):
    """How far a sweep is, for progress."""

    done: int  # group visits so far, over all chunks of rows
    total: int


Observe = Callable[[SweepInfo], None]
Start = Callable[[slice], Rows]


def run(
    metric: Metric,
    codebooks: Float[Tensor, "books size group"],
    out: int,
    start: Start,
    widths: tuple[int, ...],
    observe: Observe = lambda info: None,
) -> Int[Tensor, "out groups books"]:
    """Search all rows.

    Args:
        metric: Blocks and spread.
        codebooks: The words to choose from.
        out: How many rows there are.
        start: Gives the rows of a slice as they are before the first group, divided by their
            scale, groups in the metric's order.
        widths: Hypotheses kept after each step in a group; step i fills book i mod M.
        observe: Called after every panel; may raise to stop.

    Returns:
        The best codes found for each row, groups in the layer's order.
    """
    groups = len(metric.blocks)
    step = rows_at_once(widths[-1], len(metric.spread))
    chunks = [slice(first, min(first + step, out)) for first in range(0, out, step)]
    found = torch.empty(out, groups, len(codebooks), dtype=torch.int32, device=metric.spread.device)
    for number, here in enumerate(chunks):
        total, before = len(chunks) * groups, number * groups

        def seen(done: int, before: int = before, total: int = total) -> None:
            observe(SweepInfo(before + done, total))

        found[here, metric.order] = _chunk(metric, codebooks, start(here), widths, seen)
    return found


def check_counts(search: str, width: int, candidates: int) -> None:
    """Refuse a search that keeps no hypotheses."""
    for name, count in (("width", width), ("candidates", candidates)):
        if count < 1:
            raise InputError(f"{search} {name} must be at least 1, got {count}")
        if count > WIDEST:
            raise InputError(f"{search} {name} must be at most {WIDEST}, got {quoted(count)}")


def check_seeds(*seeds: int) -> None:
    """Refuse what `torch.Generator` does not take."""
    for seed in seeds:
        if not -(1 << 63) <= seed < 1 << 63:
            raise InputError(f"a seed must fit into 64 bits, got {quoted(seed)}")


def columns_of(order: Int[Tensor, " groups"], group: int) -> Int[Tensor, " columns"]:
    """The columns of the groups in this order."""
    return (order[:, None] * group + torch.arange(group, device=order.device)).flatten()


def rows_at_once(width: int, columns: int) -> int:
    """Rows searched together, so that the pulls do not outgrow `CHUNK` numbers."""
    return max(1, CHUNK // (width * columns))


def _chunk(
    metric: Metric,
    codebooks: Tensor,
    rows: Rows,
    widths: tuple[int, ...],
    seen: Callable[[int], None],
) -> Tensor:
    """The best codes of some rows."""
    groups, group = metric.blocks.shape[:2]
    visits = max(1, min(PANEL // group, TABLES // codebooks.numel()))
    each = torch.arange(len(rows.held), device=rows.held.device)[:, None]
    errors, left = rows.errors, rows.pulls
    codes = torch.empty(*errors.shape, 0, len(codebooks), dtype=torch.int32, device=each.device)
    for first in range(0, groups, visits):
        last = min(first + visits, groups)
        here, end = slice(first * group, last * group), last * group
        panel = Panel(metric.blocks[first:last], metric.spread[here, here])
        own = None if rows.codes is None else rows.codes[:, first:last]
        width = end - first * group
        given = Rows(rows.held[:, first:last], own, left[..., :width], errors)
        visited = kernels.visit(panel, codebooks, given, widths)
        codes = torch.cat([codes[each, visited.parents], visited.codes], 2)
        errors, far = visited.errors, left[each, visited.parents, width:]
        left = far.flatten(0, 1).addmm_(visited.changes.flatten(0, 1), metric.spread[here, end:])
        left = left.view(*far.shape)
        seen(last)
    return codes[:, 0]
