"""Perplexity of whole models: the original, and every initialiser before and after PV-tuning.

A row an initialiser and search, hollow before tuning and filled after it. Perplexities carry the
standard error over windows, which is mostly how texts differ; `pairs` is where models are told
apart.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from aqviz import evaluations, theme
from aqviz.evaluations import Model

ROW = 62


@dataclass(frozen=True)
class Dot:
    """One model: its row, its perplexity and the standard error, unknown for a single window."""

    model: Model
    row: int
    value: float
    error: float | None


@dataclass(frozen=True)
class ModelsView:
    """Every model, and the rows' names from top to bottom."""

    dots: tuple[Dot, ...]
    rows: tuple[str, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a model."""
        columns = ("model", "perplexity", "standard error")
        return theme.Table(columns, tuple((d.model.label, d.value, d.error) for d in self.dots))


def view_models(document: dict[str, Any] | None) -> ModelsView:
    """The perplexities of an evaluation document."""
    found = list(evaluations.models(document).values())
    rows = list(dict.fromkeys(model.style.label for model in found))
    dots = []
    for model in found:
        facts = model.entry["perplexity"]
        row = rows.index(model.style.label)
        dots.append(Dot(model, row, facts["value"], facts["standard_error"]))
    told = ", ".join(f"{dot.model.label} {_words(dot)}" for dot in dots)
    return ModelsView(tuple(dots), tuple(rows), f"Perplexity of the whole model: {told}.")


def draw_models(view: ModelsView) -> go.Figure:
    """A row an initialiser, a line from before tuning to after it."""
    if not view.dots:
        return theme.message("No evaluation of whole models is recorded.")
    drawing = theme.figure(view.alt, 110 + ROW * len(view.rows), view.table)
    for row in range(len(view.rows)):
        for one, other in pairwise(dot for dot in view.dots if dot.row == row):
            _draw_step(drawing, one, other)
    for dot in view.dots:
        _draw_dot(drawing, dot)
    drawing.update_xaxes(title_text="perplexity ± standard error", nticks=6)
    drawing.update_yaxes(
        tickvals=list(range(len(view.rows))),
        ticktext=list(view.rows),
        range=[len(view.rows) - 0.5, -0.5],
        showgrid=False,
        ticks="",
    )
    return drawing


def _words(dot: Dot) -> str:
    return f"{dot.value:.2f}" + ("" if dot.error is None else f" ± {dot.error:.2f}")


def _draw_step(drawing: go.Figure, one: Dot, other: Dot) -> None:
    drawing.add_scatter(
        x=[one.value, other.value],
        y=[_height(one), _height(other)],
        mode="lines",
        line={"color": one.model.style.colour, "width": 1.5, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )


def _draw_dot(drawing: go.Figure, dot: Dot) -> None:
    style, hollow = dot.model.style, dot.model.init in theme.STYLES and not dot.model.tuned
    drawing.add_scatter(
        x=[dot.value],
        y=[_height(dot)],
        mode="markers",
        marker={
            "color": style.colour,
            "symbol": style.symbol + ("-open" if hollow else ""),
            "size": 11,
            "line": {"width": 2, "color": style.colour},
        },
        error_x={"array": [dot.error], "thickness": 1.6, "width": 4, "color": style.colour},
        showlegend=False,
        hovertemplate=f"{dot.model.label}<br><b>{_words(dot)}</b><extra></extra>",
    )


def _height(dot: Dot) -> float:
    """Before tuning above the row's middle, after it below."""
    if dot.model.init not in theme.STYLES:
        return float(dot.row)
    return dot.row + (0.16 if dot.model.tuned else -0.16)
