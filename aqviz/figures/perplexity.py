"""Perplexity of the model with only this layer replaced, beside the original's.

The error bars are standard errors over windows of text, and are wide because texts differ. What the
replacement costs is therefore judged on paired differences: the same windows, with and without. One
row an initialiser; its seeds lie side by side in it.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme

ROW = 58
SPREAD = 0.5  # how much of a row's height its seeds take


@dataclass(frozen=True)
class Point:
    """One measured model.

    Attributes:
        init: The initialiser, or "original".
        label: What it is, in words.
        row: Position among the perplexities, 0 at the top.
        value: Perplexity.
        error: Its standard error, unknown for a single window.
        difference: Loss against the original in nats a token, for a replaced layer.
        difference_error: Its paired standard error.
    """

    init: str
    label: str
    row: float
    value: float
    error: float | None
    difference: float | None
    difference_error: float | None


@dataclass(frozen=True)
class PerplexityView:
    """The original first, then every finished run that was measured.

    Attributes:
        points: The measured models.
        rows: Names of the rows, the original's first.
        missing: Why there is no point, in a sentence.
        alt: The figure in a sentence.
    """

    points: tuple[Point, ...]
    rows: tuple[str, ...]
    missing: str
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a measured model."""
        columns = ("model", "perplexity", "standard error", "added loss, nats", "its error")
        return theme.Table(
            columns,
            tuple(
                (p.label, p.value, p.error, p.difference, p.difference_error) for p in self.points
            ),
        )


def view_perplexity(document: dict[str, Any] | None) -> PerplexityView:
    """The measured perplexities of a document."""
    document = document or {}
    missing = _missing(document.get("config", {}))
    measured = document.get("perplexity")
    if not measured:
        return PerplexityView((), (), missing, "Perplexity: not measured.")
    whole = measured["original"]
    points = [
        Point("original", "original", 0.0, whole["value"], whole["standard_error"], None, None)
    ]
    inits = list(dict.fromkeys(run["init"] for run in document["runs"]))
    for row, init in enumerate(inits, start=1):
        runs = [run for run in document["runs"] if run["init"] == init and run.get("perplexity")]
        places = _spread(row, len(runs))
        points += [_point(run, place) for run, place in zip(runs, places, strict=True)]
    names = ("original", *(theme.style(init).label for init in inits))
    return PerplexityView(tuple(points), names, missing, _alt(points))


def draw_perplexity(view: PerplexityView) -> go.Figure:
    """Perplexities above, paired differences below."""
    if not view.points:
        return theme.message(view.missing)
    rows = len(view.rows)
    drawing = make_subplots(rows=2, row_heights=[rows, max(1, rows - 1)], vertical_spacing=0.26)
    height = 130 + ROW * (2 * rows - 1)
    drawing.update_layout(theme.figure(view.alt, height, view.table).layout)
    for point in view.points:
        _draw_point(drawing, point)
    drawing.add_vline(x=0, line={"color": theme.GREY, "width": 1.5}, row=2, col=1)
    drawing.update_yaxes(
        tickvals=list(range(rows)), ticktext=list(view.rows), showgrid=False, ticks=""
    )
    drawing.update_yaxes(range=[rows - 0.5, -0.5], row=1, col=1)
    drawing.update_yaxes(range=[rows - 0.5, 0.5], row=2, col=1)  # no row for the original
    drawing.update_xaxes(title_text="perplexity ± standard error", row=1, col=1)
    drawing.update_xaxes(
        title_text="added loss, nats a token", tickformat="~g", nticks=5, row=2, col=1
    )
    return drawing


def _missing(config: dict[str, Any]) -> str:
    """Why an experiment has no perplexity, or not yet."""
    if config.get("problem"):
        return "Perplexity needs a whole model; this layer comes from a file of its own."
    if config.get("perplexity_windows", True):
        return "Perplexity is measured after every initialiser has finished."
    return "Perplexity is off: set its windows above 0 to measure it."


def _spread(row: int, count: int) -> list[float]:
    """Places for the seeds of one row, evenly around its middle."""
    return [row + SPREAD * ((place + 0.5) / count - 0.5) for place in range(count)]


def _point(run: dict[str, Any], row: float) -> Point:
    measured = run["perplexity"]
    return Point(
        run["init"],
        f"{theme.style(run['init']).label}, seed {run['seed']}",
        row,
        measured["value"],
        measured["standard_error"],
        measured["difference"],
        measured["difference_error"],
    )


def _alt(points: list[Point]) -> str:
    told = [f"{point.label} {point.value:.2f}" for point in points]
    return "Perplexity with this layer replaced. " + ", ".join(told) + "."


def _draw_point(drawing: go.Figure, point: Point) -> None:
    style = theme.ORIGINAL if point.init == "original" else theme.style(point.init)
    panels = [(point.value, point.error), (point.difference, point.difference_error)]
    for panel, (value, error) in enumerate(panels, start=1):
        if value is None:
            continue
        drawing.add_scatter(
            x=[value],
            y=[point.row],
            mode="markers",
            marker={"color": style.colour, "symbol": style.symbol, "size": 10},
            error_x={"array": [error], "thickness": 1.8, "width": 4, "color": style.colour},
            showlegend=False,
            hovertemplate=f"{point.label}<br><b>%{{x:.4g}}</b><extra></extra>",
            row=panel,
            col=1,
        )
