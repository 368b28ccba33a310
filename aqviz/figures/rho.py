"""Greedy's error over OA-EM's against rho: on our layers, and in the paper's models.

Each case of a survey (a layer and a scheme) has two marks: hollow where initialisation ended, full
where the search did, both held-out. They have panels of their own, for the first ratios are large
and the last ones close to 1. The paper's points are ratios of perplexities, another quantity: a
ratio of errors says nothing directly about them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from aqviz.evidence import Gap, signed, with_rho
from quantcore.results import Document

HEIGHT = 760
ROWS = {"start": 1, "end": 2, "paper": 3}
SPLIT = [0.3, 0.42, 0.28]
LABEL = 0.8  # of the lowest ratio: room for its label
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "triangle-down", "cross", "star")
START, END = "after initialisation", "after the search"


class Reference(NamedTuple):
    """A point of the paper: its rho, greedy's perplexity over OA-EM's before tuning, in words."""

    rho: float
    ratio: float
    name: str


class Mark(NamedTuple):
    """One case: the ratios of errors with their standard errors (0 where unknown)."""

    rho: float
    layer: str
    scheme: str
    seeds: int
    start: float
    start_error: float
    end: float
    end_error: float


@dataclass(frozen=True)
class RhoView:
    """Every case, the paper's points, and the figure in a sentence.

    Attributes:
        marks: The cases.
        layers: Their layers, which the marker's shape tells.
        references: The paper's points.
        correlation: Of rho with the ratio at the end (`quantcore.correlation`).
        alt: The figure in a sentence.
        table: Its numbers.
    """

    marks: tuple[Mark, ...]
    layers: tuple[str, ...]
    references: tuple[Reference, ...]
    correlation: Document
    alt: str
    table: theme.Table


def view_rho(gaps: Sequence[Gap], references: Sequence[Reference]) -> RhoView:
    """The cases of one search beside the paper's points."""
    marks = tuple(_mark(gap) for gap in gaps)
    correlation = with_rho(gaps)
    return RhoView(
        marks=marks,
        layers=tuple(dict.fromkeys(mark.layer for mark in marks)),
        references=tuple(references),
        correlation=correlation,
        alt=_alt(marks, correlation),
        table=_table(marks, references),
    )


def draw_rho(view: RhoView) -> go.Figure:
    """The starts, the ends and the paper's points, one above the other over the same rho."""
    if not view.marks:
        return theme.message("There is no recorded survey of this search yet.", HEIGHT // 2)
    drawing = make_subplots(rows=3, shared_xaxes=True, row_heights=SPLIT, vertical_spacing=0.07)
    drawing.update_layout(theme.figure(view.alt, HEIGHT, view.table).layout)
    for number, layer in enumerate(view.layers):
        marks = [mark for mark in view.marks if mark.layer == layer]
        symbol = SYMBOLS[number % len(SYMBOLS)]
        _draw_marks(drawing, layer, marks, symbol, end=False)
        _draw_marks(drawing, layer, marks, symbol, end=True)
    _draw_references(drawing, view.references)
    line = {"color": theme.GREY, "width": 1.2, "dash": "dot"}
    drawing.add_hline(y=1, line=line)
    drawing.add_vline(x=1, line=line)
    every = [mark.rho for mark in view.marks] + [one.rho for one in view.references]
    drawing.update_xaxes(theme.log_axis([*every, 1.0]))
    drawing.update_xaxes(title_text="ρ = N / K^M", row=ROWS["paper"], col=1)
    panels = {
        "start": ("errors, start", [mark.start for mark in view.marks]),
        "end": ("errors, end", [mark.end for mark in view.marks]),
        "paper": ("perplexities", _with_room(view.references)),
    }
    for name, (title, values) in panels.items():
        axis = theme.log_axis([*values, 1.0])
        drawing.update_yaxes(axis, title_text=f"ratio of {title}", row=ROWS[name], col=1)
    return drawing


def _with_room(references: Sequence[Reference]) -> list[float]:
    """The ratios, and one below them for the lowest's label."""
    ratios = [one.ratio for one in references]
    return [*ratios, LABEL * min(ratios)] if ratios else []


def short(layer: str) -> str:
    """A layer's name without what all of a model share."""
    return layer.removeprefix("model.layers.").replace("self_attn.", "").replace("mlp.", "")


def _mark(gap: Gap) -> Mark:
    return Mark(
        gap.case.rho,
        gap.case.layer,
        str(gap.case.scheme),
        gap.seeds,
        gap.start.mean,
        gap.start.error or 0.0,
        gap.end.mean,
        gap.end.error or 0.0,
    )


def _draw_marks(
    drawing: go.Figure, layer: str, marks: list[Mark], symbol: str, *, end: bool
) -> None:
    what = END if end else START
    errors = [mark.end_error if end else mark.start_error for mark in marks]
    drawing.add_scatter(
        x=theme.floats([mark.rho for mark in marks]),
        y=theme.floats([mark.end if end else mark.start for mark in marks]),
        error_y={"array": theme.floats(errors), "thickness": 1.4, "width": 3},
        mode="markers",
        name=short(layer),
        legendgroup=layer,
        showlegend=end,
        customdata=[[mark.layer, mark.scheme, short(mark.layer)] for mark in marks],
        marker={
            "symbol": symbol if end else f"{symbol}-open",
            "size": 10 if end else 8,
            "color": theme.GREY,
            "line": {"width": 1.5},
        },
        text=[f"{mark.seeds} seeds" for mark in marks],
        hovertemplate=(
            f"%{{customdata[2]}}, %{{customdata[1]}}<br>{what}: <b>%{{y:.3f}}</b>"
            "<br>ρ %{x:.3g}, %{text}<extra></extra>"
        ),
        row=ROWS["end" if end else "start"],
        col=1,
    )


def _draw_references(drawing: go.Figure, references: Sequence[Reference]) -> None:
    lowest = min((one.ratio for one in references), default=0)
    drawing.add_scatter(
        x=[one.rho for one in references],
        y=[one.ratio for one in references],
        mode="markers+text",
        text=[one.name for one in references],
        textposition=[f"{'bottom' if one.ratio == lowest else 'top'} center" for one in references],
        textfont={"size": 11},
        cliponaxis=False,
        name="the paper",
        showlegend=False,
        marker={"symbol": "x-thin", "size": 9, "line": {"width": 2.2, "color": theme.GREY}},
        hovertemplate="%{text}<br><b>%{y:.2f}</b> at ρ %{x:.3g}<extra>the paper</extra>",
        row=ROWS["paper"],
        col=1,
    )


def _alt(marks: Sequence[Mark], correlation: Document) -> str:
    if not marks:
        return "No survey of this search has been recorded."
    starts, ends = [mark.start for mark in marks], [mark.end for mark in marks]
    told = (
        f"Over {len(marks)} combinations of layer and scheme greedy starts with {min(starts):.3g} "
        f"to {max(starts):.3g} times OA-EM's held-out error and ends with {min(ends):.3f} to "
        f"{max(ends):.3f} times"
    )
    if correlation["why"] is not None:
        return f"{told}; no correlation with ρ is given: {correlation['why']}."
    return (
        f"{told}; the rank correlation of the end with ρ is "
        f"{signed(correlation['spearman'])}, 95 % interval {signed(correlation['low'])} to "
        f"{signed(correlation['high'])}."
    )


def _table(marks: Sequence[Mark], references: Sequence[Reference]) -> theme.Table:
    columns = (
        *("what", "scheme", "rho", "seeds", "start", "start ±", "end", "end ±"),
        "paper: ratio of perplexities",
    )
    ours = tuple(
        (*(m.layer, m.scheme, m.rho, m.seeds, m.start, m.start_error, m.end, m.end_error), None)
        for m in marks
    )
    theirs = tuple((one.name, None, one.rho, *[None] * 5, one.ratio) for one in references)
    return theme.Table(columns, ours + theirs)
