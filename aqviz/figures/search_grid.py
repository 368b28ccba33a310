"""Held-out error by beam and sweep, one panel an initialiser, all on one colour scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from aqviz.effort import Point

ROW = 46  # pixels a sweep
FRAME = 96
GAP = 54  # pixels between panels
TOP = 28  # of the first panel's name
END = "end"


@dataclass(frozen=True)
class Panel:
    """One initialiser: errors in percent [sweeps, beams], NaN where there is no point."""

    init: str
    errors: Any
    words: Any


@dataclass(frozen=True)
class SearchGridView:
    """The panels of one search.

    Attributes:
        panels: One an initialiser.
        beams: Of the columns.
        sweeps: Of the rows; the last is the end.
        limits: Of the colour scale, in percent.
        alt: The figure in a sentence.
        table: Its numbers.
    """

    panels: tuple[Panel, ...]
    beams: tuple[str, ...]
    sweeps: tuple[str, ...]
    limits: tuple[float, float]
    alt: str
    table: theme.Table


def view_search_grid(points: Sequence[Point], search: str) -> SearchGridView:
    """The points of one search as panels."""
    mine = [point for point in points if point.setting.search == search]
    beams = sorted({point.setting.beam for point in mine})
    sweeps = [*sorted({point.sweep for point in mine if point.sweep is not None}), None]
    panels = []
    for init in dict.fromkeys(point.setting.init for point in mine):
        errors = np.full((len(sweeps), len(beams)), np.nan, np.float32)
        for point in mine:
            if point.setting.init == init:
                at = sweeps.index(point.sweep), beams.index(point.setting.beam)
                errors[at] = 100 * point.heldout
        words = [["" if np.isnan(one) else f"{one:#.3g}" for one in row] for row in errors]
        panels.append(Panel(init, errors, words))
    every = [100 * point.heldout for point in mine]
    return SearchGridView(
        panels=tuple(panels),
        beams=tuple(map(str, beams)),
        sweeps=tuple(END if sweep is None else str(sweep) for sweep in sweeps),
        limits=(min(every, default=0.0), max(every, default=1.0)),
        alt=_alt(mine, search),
        table=_table(mine),
    )


def draw_search_grid(view: SearchGridView) -> go.Figure:
    """The panels below each other, beams across, sweeps down."""
    if not view.panels:
        return theme.message("not measured yet").update_layout(meta={"alt": view.alt})
    count = len(view.panels)
    height = FRAME + count * (ROW * len(view.sweeps) + GAP)
    drawing = make_subplots(
        rows=count,
        shared_xaxes=True,
        vertical_spacing=GAP / height,
        subplot_titles=[f"from {theme.style(panel.init).label}" for panel in view.panels],
    )
    drawing.update_layout(theme.figure(view.alt, height, view.table).layout)
    for row, panel in enumerate(view.panels, start=1):
        drawing.add_heatmap(
            x=view.beams,
            y=view.sweeps,
            z=panel.errors,
            text=panel.words,
            texttemplate="%{text}",
            xgap=2,
            ygap=2,
            coloraxis="coloraxis",
            hovertemplate=(
                f"{theme.style(panel.init).label}, beam %{{x}}, sweep %{{y}}"
                "<br>held-out error <b>%{z:.3f} %</b><extra></extra>"
            ),
            row=row,
            col=1,
        )
    drawing.update_layout(
        margin={"t": TOP},
        coloraxis={
            "colorscale": theme.SEQUENTIAL,
            "cmin": view.limits[0],
            "cmax": view.limits[1],
            "colorbar": {
                "title": {"text": "%", "side": "top"},
                "thickness": 12,
                "outlinewidth": 0,
            },
        },
    )
    drawing.update_annotations(font={"size": 13}, x=0, xanchor="left")
    drawing.update_xaxes(type="category", showgrid=False, ticks="", fixedrange=True)
    drawing.update_xaxes(title_text="beam", row=count, col=1)
    drawing.update_yaxes(
        type="category", autorange="reversed", title_text="sweep", showgrid=False, ticks=""
    )
    return drawing


def _alt(points: Sequence[Point], search: str) -> str:
    named = theme.SEARCHES.get(search, search)
    if not points:
        return f"Nothing is measured with {named} for these settings; press Run."
    told = []
    for init in dict.fromkeys(point.setting.init for point in points):
        mine = [point for point in points if point.setting.init == init]
        best = min(mine, key=lambda point: point.heldout)
        told.append(
            f"{theme.style(init).label} {100 * best.heldout:#.3g} % (beam {best.setting.beam}, "
            f"{best.when})"
        )
    return f"Lowest held-out error with {named}: {', '.join(told)}."


def _table(points: Sequence[Point]) -> theme.Table:
    columns = ("initialiser", "beam", "sweep", "seeds", "seconds", "calibration", "held-out", "±")
    rows = tuple(
        (
            *(point.setting.init, point.setting.beam),
            *(END if point.sweep is None else point.sweep, point.seeds, point.seconds),
            *(point.calibration, point.heldout, point.spread),
        )
        for point in points
    )
    return theme.Table(columns, rows)
