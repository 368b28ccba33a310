"""Perplexity before and after PV-tuning: in the paper, and of our own recorded models.

A journey goes from the bar, before tuning, to the marker, after it. The two panels share nothing
but the question: other models, other texts, other perplexities, so each has its own axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from aqviz.evidence import ModelPoint
from aqviz.paper import RUNS, Run

ROW = 44
OFFSET = 0.17  # of an initialiser's line from the middle of its row
INITS = ("greedy", "oa-em")


class Tuned(NamedTuple):
    """One model: its row, and its perplexity before and after; None where not recorded."""

    row: str
    init: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class TuningView:
    """The paper's models and ours.

    Attributes:
        paper: The paper's.
        ours: Ours.
        alt: The figure in a sentence.
        table: Its numbers.
    """

    paper: tuple[Tuned, ...]
    ours: tuple[Tuned, ...]
    alt: str
    table: theme.Table


def view_tuning(points: Sequence[ModelPoint], runs: Sequence[Run] = RUNS) -> TuningView:
    """The paper's runs beside our evaluated models."""
    paper = tuple(Tuned(_row(run), run.init, run.before.wiki, run.after) for run in runs)
    ours = tuple(_ours(points))
    rows = [("paper, WikiText-2", *one) for one in paper] + [
        ("ours, own text", *one) for one in ours
    ]
    columns = ("where", "model and search", "initialiser", "before", "after")
    return TuningView(paper, ours, _alt(paper, ours), theme.Table(columns, tuple(rows)))


def draw_tuning(view: TuningView) -> go.Figure:
    """The paper's panel, and ours below it where anything is recorded."""
    panels = [panel for panel in (view.paper, view.ours) if panel]
    if not panels:
        return theme.message("Nothing has been recorded.")
    rows = [list(dict.fromkeys(one.row for one in panel)) for panel in panels]
    drawing = make_subplots(
        rows=len(panels),
        row_heights=[len(names) + 0.6 for names in rows],
        vertical_spacing=0.17 if len(panels) > 1 else 0,
    )
    count = sum(map(len, rows))
    height = 130 + 60 * (len(panels) - 1) + ROW * count
    drawing.update_layout(theme.figure(view.alt, height, view.table).layout)
    for number, (panel, names) in enumerate(zip(panels, rows, strict=True), start=1):
        for one in panel:
            _draw(drawing, one, names.index(one.row), number)
        values = [v for one in panel for v in (one.before, one.after) if v is not None]
        title = "WikiText-2, the paper" if panel is view.paper else "own text, our models"
        drawing.update_xaxes(theme.log_axis(values), title_text=title, row=number, col=1)
        drawing.update_yaxes(
            tickvals=list(range(len(names))),
            ticktext=names,
            range=[len(names) - 0.5, -0.5],
            showgrid=False,
            ticks="",
            row=number,
            col=1,
        )
    for init in INITS:  # a key with both markers, whatever the panels hold
        _key(drawing, init)
    return drawing


def _row(run: Run) -> str:
    return f"{run.family}, {run.bits} bits<br>{run.settings}"


def _ours(points: Sequence[ModelPoint]) -> list[Tuned]:
    found: dict[tuple[str, str], dict[bool, float]] = {}
    for point in points:
        if point.init in INITS:
            found.setdefault((point.scheme, point.init), {})[point.tuned] = point.value
    return [
        Tuned(scheme, init, values.get(False), values.get(True))
        for (scheme, init), values in found.items()
    ]


def _alt(paper: Sequence[Tuned], ours: Sequence[Tuned]) -> str:
    def spread(models: Sequence[Tuned], init: str, after: int) -> str:
        values = [one[2 + after] for one in models if one.init == init]
        known = [value for value in values if value is not None]
        return f"{min(known):.4g} to {max(known):.4g}" if known else "nothing"

    words = [
        f"{name}: greedy {spread(models, 'greedy', 0)} before tuning and "
        f"{spread(models, 'greedy', 1)} after it, OA-EM {spread(models, 'oa-em', 0)} and "
        f"{spread(models, 'oa-em', 1)}"
        for name, models in (("The paper's perplexities", paper), ("ours", ours))
        if models
    ]
    return "; ".join(words) + "."


def _draw(drawing: go.Figure, one: Tuned, row: int, panel: int) -> None:
    style = theme.style(one.init)
    place = row + (OFFSET if one.init == "oa-em" else -OFFSET)
    drawing.add_scatter(
        x=[one.before, one.after],
        y=[place, place],
        mode="lines+markers",
        line={"color": style.colour, "width": 2.2},
        marker={
            "symbol": ["line-ns", style.symbol],
            "size": [12, 10],
            "color": style.colour,
            "line": {"width": 2.2, "color": style.colour},
        },
        showlegend=False,
        hovertemplate=f"{style.label}, {one.row}<br><b>%{{x:.2f}}</b><extra></extra>",
        row=panel,
        col=1,
    )


def _key(drawing: go.Figure, init: str) -> None:
    style = theme.style(init)
    drawing.add_scatter(
        x=[None],
        y=[None],
        mode="lines+markers",
        name=style.label,
        line={"color": style.colour, "width": 2.2},
        marker={"symbol": style.symbol, "size": 10, "color": style.colour},
        row=1,
        col=1,
    )
