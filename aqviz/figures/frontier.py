"""Error against time for every initialiser, search, beam and sweep, and the points none beats.

One panel a search. Full marks are held-out errors; those that another point beats in both time and
error are pale, and the grey line joins the others of all panels: the least error that so much time
can buy. Hollow marks are the same points' calibration errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from aqviz.effort import Point, cheapest, undominated

PANEL = 320  # pixels
FRAME = 110
PALE = 0.4


@dataclass(frozen=True)
class Marks:
    """Points of one initialiser in one panel, all kept or all beaten."""

    search: str
    init: str
    kept: bool
    points: tuple[Point, ...]


@dataclass(frozen=True)
class FrontierView:
    """All points, sorted for drawing.

    Attributes:
        searches: One panel each.
        marks: The points.
        line: The undominated ones, the fastest first.
        errors: All that are drawn, in percent.
        seconds: Of all points.
        alt: The figure in a sentence.
        table: Its numbers.
    """

    searches: tuple[str, ...]
    marks: tuple[Marks, ...]
    line: tuple[Point, ...]
    errors: tuple[float, ...]
    seconds: tuple[float, ...]
    alt: str
    table: theme.Table


def view_frontier(points: Sequence[Point]) -> FrontierView:
    """The points, told apart by whether another beats them."""
    line = tuple(undominated(points))
    kept = set(line)
    sorted_out: dict[tuple[str, str, bool], list[Point]] = {}
    for point in points:
        place = point.setting.search, point.setting.init, point in kept
        sorted_out.setdefault(place, []).append(point)
    return FrontierView(
        searches=tuple(dict.fromkeys(point.setting.search for point in points)),
        marks=tuple(Marks(*place, tuple(mine)) for place, mine in sorted_out.items()),
        line=line,
        errors=(
            *(100 * point.heldout for point in points),
            *(100 * point.calibration for point in line),
        ),
        seconds=tuple(point.seconds for point in points),
        alt=_alt(points),
        table=_table(points, kept),
    )


def draw_frontier(view: FrontierView) -> go.Figure:
    """The panels below each other over the same axes."""
    if not view.marks:
        return theme.message("not measured yet").update_layout(meta={"alt": view.alt})
    count = len(view.searches)
    height = FRAME + PANEL * count
    drawing = make_subplots(
        rows=count,
        shared_xaxes=True,
        vertical_spacing=44 / height,
        subplot_titles=[theme.SEARCHES.get(search, search) for search in view.searches],
    )
    drawing.update_layout(theme.figure(view.alt, height, view.table).layout)
    for row in range(1, count + 1):
        _draw_line(drawing, view.line, row)
    for marks in view.marks:
        row = 1 + view.searches.index(marks.search)
        _draw_marks(drawing, marks, row)
        if marks.kept:
            _draw_calibration(drawing, marks, row)
    for init in dict.fromkeys(marks.init for marks in view.marks):
        style = theme.style(init)
        _draw_key(drawing, style.label, {"color": style.colour, "symbol": style.symbol})
    hollow = {"color": theme.GREY, "symbol": "circle-open", "line": {"width": 1.4}}
    _draw_key(drawing, "calibration, of those on the line", hollow)
    drawing.update_annotations(font={"size": 13}, x=0, xanchor="left")
    drawing.update_layout(legend={"y": 1 + 26 / height}, margin={"t": 70})
    drawing.update_xaxes(theme.log_axis(view.seconds))
    drawing.update_xaxes(title_text="seconds of work", row=count, col=1)
    drawing.update_yaxes(theme.log_axis(view.errors), title_text="error, %")
    return drawing


def _draw_line(drawing: go.Figure, line: Sequence[Point], row: int) -> None:
    drawing.add_scatter(
        x=theme.floats([point.seconds for point in line]),
        y=theme.floats([100 * point.heldout for point in line]),
        mode="lines",
        line={"color": theme.GREY, "width": 1.6, "shape": "hv"},
        name="least error for the time",
        showlegend=row == 1,
        hoverinfo="skip",
        row=row,
        col=1,
    )


def _draw_key(drawing: go.Figure, name: str, marker: dict[str, Any]) -> None:
    """A mark in the legend; those of the points may be pale."""
    drawing.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, row=1, col=1)


def _draw_marks(drawing: go.Figure, marks: Marks, row: int) -> None:
    style = theme.style(marks.init)
    drawing.add_scatter(
        x=theme.floats([point.seconds for point in marks.points]),
        y=theme.floats([100 * point.heldout for point in marks.points]),
        error_y={
            "array": theme.floats([100 * point.spread for point in marks.points]),
            "thickness": 1,
            "width": 0,
        },
        mode="markers+text" if marks.kept else "markers",
        text=[f"{point.setting.beam}" for point in marks.points],
        textposition="top right",
        textfont={"size": 11},
        cliponaxis=False,
        showlegend=False,
        opacity=1 if marks.kept else PALE,
        marker={"color": style.colour, "symbol": style.symbol, "size": 9 if marks.kept else 7},
        customdata=[[point.when, point.seeds] for point in marks.points],
        hovertemplate=(
            f"{style.label}, beam %{{text}}, %{{customdata[0]}}<br>held-out <b>%{{y:.3f}} %</b> in "
            "%{x:.2f} s, %{customdata[1]} seeds<extra></extra>"
        ),
        row=row,
        col=1,
    )


def _draw_calibration(drawing: go.Figure, marks: Marks, row: int) -> None:
    style = theme.style(marks.init)
    drawing.add_scatter(
        x=theme.floats([point.seconds for point in marks.points]),
        y=theme.floats([100 * point.calibration for point in marks.points]),
        mode="markers",
        showlegend=False,
        marker={
            "color": style.colour,
            "symbol": f"{style.symbol}-open",
            "size": 7,
            "line": {"width": 1.4},
        },
        text=[f"beam {point.setting.beam}, {point.when}" for point in marks.points],
        hovertemplate=(
            f"{style.label}, %{{text}}<br>calibration <b>%{{y:.3f}} %</b> in %{{x:.2f}} s"
            "<extra></extra>"
        ),
        row=row,
        col=1,
    )


def named(point: Point) -> str:
    """A point in words."""
    init, search, beam = point.setting
    named = theme.SEARCHES.get(search, search)
    return f"{theme.style(init).label}, {named}, beam {beam}, {point.when}"


def _alt(points: Sequence[Point]) -> str:
    if not points:
        return "Nothing is measured for these settings; press Run."
    best, cheap = min(points, key=lambda point: point.heldout), cheapest(points)
    told = (
        f"The lowest held-out error of {len(points)} points is {100 * best.heldout:.3f} % "
        f"({named(best)}) in {best.seconds:.1f} s"
    )
    if cheap == best:
        return f"{told}; nothing faster comes within 1 % of it."
    return (
        f"{told}; the cheapest way to within 1 % of it is {named(cheap)}: "
        f"{100 * cheap.heldout:.3f} % in {cheap.seconds:.1f} s."
    )


def _table(points: Sequence[Point], kept: set[Point]) -> theme.Table:
    columns = (
        *("search", "initialiser", "beam", "when", "seeds", "seconds"),
        *("calibration", "held-out", "held-out ±", "beaten by another"),
    )
    rows = tuple(
        (
            *(point.setting.search, point.setting.init, point.setting.beam, point.when),
            *(point.seeds, point.seconds, point.calibration, point.heldout, point.spread),
            "no" if point in kept else "yes",
        )
        for point in points
    )
    return theme.Table(columns, rows)
