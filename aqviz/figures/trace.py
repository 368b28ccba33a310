"""Error against time: how each initialiser starts and where the search takes it.

A point is the end of one phase: initialisation, then in turn the refit of codebooks and scales and
a search for codes. Error feedback encodes anew and may end higher than it began, so a curve need
not fall everywhere; a point that rose says so. Finished seeds of an initialiser are joined phase by
phase into a mean with a band from the lowest to the highest; a run still going on is its own curve.
"""

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme

HEIGHT = 470
HATCH = {"size": 6, "solidity": 0.2, "fillmode": "overlay", "fgopacity": 0.35}
SHAPES = {"init": "/", "feedback": "\\"}  # the phases that choose all codes anew


@dataclass(frozen=True)
class Band:
    """The mean of some seeds at each phase, its lowest and highest, and where it rose."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rose: tuple[bool, ...]


@dataclass(frozen=True)
class Span:
    """One phase on the time axis, in seconds."""

    phase: str
    words: str
    start: float
    length: float


@dataclass(frozen=True)
class Curve:
    """One initialiser: error as a percentage of the layer's output, against seconds.

    Attributes:
        init: The initialiser.
        seeds: How many runs are in the mean.
        complete: False for a run that has not ended.
        seconds: End of each phase.
        names: What each point is the end of.
        calibration: The error on the calibration text.
        heldout: The error on other text, where there is some.
        start: Index of the point where initialisation ends, if it has.
        spans: The phases in order.
    """

    init: str
    seeds: int
    complete: bool
    seconds: tuple[float, ...]
    names: tuple[str, ...]
    calibration: Band
    heldout: Band | None
    start: int | None
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class TraceView:
    """Every curve of a document, and the figure in one sentence."""

    curves: tuple[Curve, ...]
    rows: tuple[str, ...]
    values: tuple[float, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a phase; means over seeds."""
        columns = ("initialiser", "phase", "seconds", "calibration, %", "held-out, %")
        return theme.Table(columns, tuple(row for curve in self.curves for row in _rows(curve)))


def view_trace(document: dict[str, Any] | None) -> TraceView:
    """The curves of a document; there may be none yet."""
    runs = [run for run in (document or {}).get("runs", []) if run["trace"]]
    planned = document["config"]["inits"] if document and runs else []
    inits = tuple(dict.fromkeys([*planned, *(run["init"] for run in runs)]))
    curves = []
    for init in inits:
        mine = [run for run in runs if run["init"] == init]
        for complete in (True, False):
            batch = [run for run in mine if run["complete"] is complete]
            if batch:
                curves.append(_curve(init, complete, batch))
    bands = [band for curve in curves for band in (curve.calibration, curve.heldout) if band]
    values = tuple(value for band in bands for value in band.low + band.high)
    return TraceView(tuple(curves), inits, values, _alt(curves))


def draw_trace(view: TraceView) -> go.Figure:
    """Error above, the phases below, on one time axis."""
    if not view.curves:
        return theme.message("The first points appear when the first codebook is made.", HEIGHT)
    drawing = make_subplots(
        rows=2, shared_xaxes=True, row_heights=[0.82, 0.18], vertical_spacing=0.04
    )
    drawing.update_layout(theme.figure(view.alt, HEIGHT, view.table).layout)
    for curve in view.curves:
        _draw_curve(drawing, curve)
        _draw_phases(drawing, curve)
    _draw_key(drawing, heldout=any(curve.heldout for curve in view.curves))
    drawing.update_yaxes(theme.log_axis(view.values), title_text="error, % of output", row=1, col=1)
    drawing.update_yaxes(
        tickvals=view.rows,
        ticktext=[theme.style(init).label for init in view.rows],
        showgrid=False,
        ticks="",
        range=[len(view.rows) - 0.5, -0.5],
        row=2,
        col=1,
    )
    drawing.update_xaxes(rangemode="tozero", row=1, col=1)
    drawing.update_xaxes(title_text="seconds since its start", row=2, col=1)
    drawing.update_layout(barmode="overlay", uniformtext={"mode": "hide", "minsize": 11})
    return drawing


def _curve(init: str, complete: bool, runs: list[dict[str, Any]]) -> Curve:
    length = min(len(run["trace"]) for run in runs)  # one seed may have stopped early
    steps = list(zip(*(run["trace"][:length] for run in runs), strict=True))
    seconds = tuple(_mean([step["seconds"] for step in same]) for same in steps)
    phases = [(same[0]["phase"], same[0]["sweep"]) for same in steps]
    starts = [i for i, (phase, _) in enumerate(phases) if phase == "init"]
    known = all(step["heldout_relative_error"] is not None for same in steps for step in same)
    return Curve(
        init=init,
        seeds=len(runs),
        complete=complete,
        seconds=seconds,
        names=tuple(_words(*phase) for phase in phases),
        calibration=_band("relative_error", steps),
        heldout=_band("heldout_relative_error", steps) if known else None,
        start=starts[-1] if starts else None,
        spans=tuple(_spans(phases, seconds)),
    )


def _band(name: str, steps: list[tuple[dict[str, Any], ...]]) -> Band:
    percent = [[100 * step[name] for step in same] for same in steps]
    mean = tuple(_mean(values) for values in percent)
    return Band(
        mean,
        low=tuple(min(values) for values in percent),
        high=tuple(max(values) for values in percent),
        rose=(False, *(after > before for before, after in pairwise(mean))),
    )


def _spans(phases: list[tuple[str, int]], seconds: tuple[float, ...]) -> list[Span]:
    spans, begun = [], 0.0
    for (phase, sweep), same in groupby(
        zip(phases, seconds, strict=True), key=lambda pair: pair[0]
    ):
        end = [second for _, second in same][-1]
        spans.append(Span(phase, _words(phase, sweep), begun, end - begun))
        begun = end
    return spans


def _rows(curve: Curve) -> list[tuple[Any, ...]]:
    heldout = curve.heldout.mean if curve.heldout else [None] * len(curve.seconds)
    points = zip(curve.names, curve.seconds, curve.calibration.mean, heldout, strict=True)
    return [(theme.style(curve.init).label, *point) for point in points]


def _words(phase: str, sweep: int) -> str:
    return "initialise" if phase == "init" else f"{phase} {sweep}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _alt(curves: list[Curve]) -> str:
    ends = [
        f"{theme.style(c.init).label} {'ends' if c.complete else 'is'} at "
        f"{c.calibration.mean[-1]:.3g} % after {c.seconds[-1]:.3g} s"
        for c in curves
    ]
    return (
        "Error against time. " + "; ".join(ends) + "." if ends else "Error against time: no data."
    )


def _draw_curve(drawing: go.Figure, curve: Curve) -> None:
    style = theme.style(curve.init)
    for band, dash, text in (
        (curve.calibration, "solid", "calibration"),
        (curve.heldout, theme.HELDOUT_DASH, "held-out"),
    ):
        if band is None:
            continue
        if curve.seeds > 1:
            _draw_band(drawing, curve, band)
        drawing.add_scatter(
            x=curve.seconds,
            y=band.mean,
            mode="lines+markers",
            name=style.label,
            legendgroup=curve.init,
            showlegend=False,
            line={"color": style.colour, "dash": dash, "width": 2.5 if curve.complete else 1.5},
            marker=_markers(style, curve, hollow=dash != "solid"),
            customdata=_labels(curve, band),
            hovertemplate=f"{style.label}, {text}<br>end of %{{customdata}}<br>"
            "<b>%{y:.3g} %</b> after %{x:.3g} s<extra></extra>",
            row=1,
            col=1,
        )


def _labels(curve: Curve, band: Band) -> list[str]:
    points = zip(curve.names, band.rose, strict=True)
    return [f"{name}, higher than before" if rose else name for name, rose in points]


def _markers(style: theme.Style, curve: Curve, *, hollow: bool) -> dict[str, Any]:
    """Larger where initialisation ends: the point the two initialisers hand over."""
    return {
        "color": style.colour,
        "symbol": style.symbol + "-open" if hollow else style.symbol,
        "size": [13 if i == curve.start else 6 for i in range(len(curve.seconds))],
        "line": {"width": 1.5, "color": style.colour},
    }


def _draw_band(drawing: go.Figure, curve: Curve, band: Band) -> None:
    drawing.add_scatter(
        x=curve.seconds + curve.seconds[::-1],
        y=band.high + band.low[::-1],
        fill="toself",
        mode="none",
        fillcolor=theme.fade(theme.style(curve.init).colour),
        legendgroup=curve.init,
        showlegend=False,
        hoverinfo="skip",
        row=1,
        col=1,
    )


def _draw_phases(drawing: go.Figure, curve: Curve) -> None:
    style = theme.style(curve.init)
    for span in curve.spans:
        pale = span.phase == "refit"
        drawing.add_bar(
            orientation="h",
            base=span.start,
            x=[span.length],
            y=[curve.init],
            text="" if pale else span.words,
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"color": style.ink},
            width=0.62,
            marker={
                "color": theme.fade(style.colour) if pale else style.colour,
                "line": {"color": style.colour, "width": 1},
                "pattern": _pattern(span.phase, style),
            },
            showlegend=False,
            legendgroup=curve.init,
            hovertemplate=f"{style.label}: {span.words}<br>{span.length:.3g} s<extra></extra>",
            row=2,
            col=1,
        )


def _pattern(phase: str, style: theme.Style) -> dict[str, Any]:
    return HATCH | {"shape": SHAPES[phase], "fgcolor": style.ink} if phase in SHAPES else {}


def _draw_key(drawing: go.Figure, *, heldout: bool) -> None:
    """Legend entries without data: colour and marker for each initialiser, dash for each text."""
    inits = dict.fromkeys(trace.legendgroup for trace in drawing.data)
    for init in inits:
        style = theme.style(init)
        drawing.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=style.label,
            legendgroup=init,
            marker={"color": style.colour, "symbol": style.symbol, "size": 10},
        )
    for name, dash in (("calibration", "solid"), ("held-out", theme.HELDOUT_DASH)):
        if heldout or dash == "solid":
            drawing.add_scatter(
                x=[None],
                y=[None],
                mode="lines",
                name=name,
                line={"color": theme.GREY, "dash": dash, "width": 2.5},
            )
