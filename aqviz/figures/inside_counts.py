r"""When tables pay: what one token costs with them and without, by the number of rows.

With d inputs in groups of g, M codebooks of K words and R rows,

    dense        R d multiplications                R (d - 1) additions
    the tables   M K d multiplications              M K (d / g) (g - 1) additions, once
    the rows     R multiplications, by the scale    R M d / g look-ups, R (M d / g - 1) additions

so tables take fewer multiplications where R > M K d / (d - 1): hardly more than the M K words.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go

from aqviz import theme
from aqviz.figures.inside_group import BOOKS
from quantcore.weight import Scheme

HEIGHT = 380
POINTS = 40
REACH = 8  # times the larger of the layer's rows and those where tables pay


class Counts(NamedTuple):
    """Operations for one token."""

    multiplications: int
    lookups: int
    additions: int

    @property
    def all(self) -> int:
        """Every operation counted once."""
        return sum(self)


def dense_counts(rows: int, columns: int) -> Counts:
    """Of y = W x."""
    return Counts(rows * columns, 0, rows * (columns - 1))


def made_counts(scheme: Scheme, columns: int) -> Counts:
    """Of the tables, whatever the number of rows."""
    entries = scheme.codebooks * scheme.size * (columns // scheme.group)
    return Counts(entries * scheme.group, 0, entries * (scheme.group - 1))


def row_counts(scheme: Scheme, columns: int) -> Counts:
    """Of one row, once the tables are made."""
    lookups = scheme.codebooks * (columns // scheme.group)
    return Counts(1, lookups, lookups - 1)


def tabled_counts(scheme: Scheme, rows: int, columns: int) -> Counts:
    """Of the tables and all rows."""
    made, one = made_counts(scheme, columns), row_counts(scheme, columns)
    return Counts(*(first + rows * each for first, each in zip(made, one, strict=True)))


def pays_from(scheme: Scheme, columns: int) -> int | None:
    """The fewest rows for which tables take fewer multiplications; None where none do."""
    if columns < 2:
        return None
    return scheme.codebooks * scheme.size * columns // (columns - 1) + 1


@dataclass(frozen=True)
class CountsView:
    """Counts over numbers of rows, those of this layer, and where the lines cross."""

    scheme: Scheme
    columns: int
    rows: int
    crossing: int
    numbers: tuple[int, ...]

    @property
    def alt(self) -> str:
        """The figure in a sentence."""
        dense = dense_counts(self.rows, self.columns)
        tabled = tabled_counts(self.scheme, self.rows, self.columns)
        return (
            f"One token through {self.rows:,} rows of {self.columns:,} inputs at {self.scheme}: "
            f"dense {dense.multiplications:,} multiplications and {dense.additions:,} additions; "
            f"with tables {tabled.multiplications:,} multiplications, {tabled.lookups:,} look-ups "
            f"and {tabled.additions:,} additions; tables take fewer multiplications from "
            f"{self.crossing:,} rows on."
        )

    @property
    def table(self) -> theme.Table:
        """The counts of this layer, part by part."""
        scheme, rows, columns = self.scheme, self.rows, self.columns
        parts = (
            ("one row, dense", dense_counts(1, columns)),
            ("one row, tables made", row_counts(scheme, columns)),
            ("making the tables", made_counts(scheme, columns)),
            ("the layer, dense", dense_counts(rows, columns)),
            ("the layer, tables and rows", tabled_counts(scheme, rows, columns)),
        )
        heads = ("one token", "multiplications", "look-ups", "additions", "all")
        return theme.Table(heads, tuple((name, *counts, counts.all) for name, counts in parts))


def view_counts(scheme: Scheme, rows: int, columns: int) -> CountsView:
    """The counts of a layer of this shape, at least two inputs wide.

    Raises:
        SchemeError: the scheme does not fit the layer.
    """
    scheme.check(rows, columns)
    crossing = pays_from(scheme, columns)
    assert crossing is not None, columns
    last = REACH * max(rows, crossing)
    numbers = {round(last ** (i / (POINTS - 1))) for i in range(POINTS)} | {rows, crossing}
    return CountsView(scheme, columns, rows, crossing, tuple(sorted(numbers)))


def draw_counts(view: CountsView) -> go.Figure:
    """Multiplications as full lines, all operations as dashed ones, both axes logarithmic."""
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    ways = (
        ("dense", theme.GREY, [dense_counts(n, view.columns) for n in view.numbers]),
        ("tables", BOOKS[2], [tabled_counts(view.scheme, n, view.columns) for n in view.numbers]),
    )
    for name, colour, counts in ways:
        for kind, dash, values in (
            ("multiplications", "solid", [one.multiplications for one in counts]),
            ("all operations", "dash", [one.all for one in counts]),
        ):
            drawing.add_scatter(
                x=view.numbers,
                y=values,
                mode="lines",
                name=f"{name}, {kind}",
                line={"color": colour, "dash": dash, "width": 2.5},
                hovertemplate=f"{name}: <b>%{{y:,}}</b> {kind}<br>%{{x:,}} rows<extra></extra>",
            )
    for rows, words, other in (
        (view.rows, "this layer", view.crossing),
        (view.crossing, "tables pay", view.rows),
    ):
        drawing.add_vline(x=rows, line={"color": theme.GREY, "width": 1.5, "dash": "dot"})
        drawing.add_annotation(
            x=math.log10(rows),
            y=0.02,
            yref="paper",
            text=f" {words} ",
            xanchor="left" if rows > other else "right",
            showarrow=False,
            font={"size": 12},
        )
    drawing.update_xaxes(
        theme.log_axis([float(n) for n in view.numbers]), title_text="rows (outputs)", dtick=1
    )
    drawing.update_yaxes(type="log", dtick=1, title_text="for one token")
    return drawing
