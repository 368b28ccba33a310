"""Where in the layer the error is: by row, by group of inputs, by weight.

Seeds of an initialiser are averaged rank by rank, group by group and bin by bin. Documents from
before these were kept have nothing to show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from quantcore.results import complete

HEIGHT = 340
PANELS = ("rows, worst first", "groups of inputs, worst first", "weights")
NEEDED = ("row_errors", "group_errors", "residuals")


@dataclass(frozen=True)
class Spread:
    """One initialiser.

    Attributes:
        init: The initialiser.
        rows: Relative error of the rows in percent, the worst first.
        groups: Share of the layer's error in each group of inputs in percent, the worst first.
        centres: Middles of the histogram's bins, (Q - W) over the rms of the row.
        density: Share of the weights in each bin, in percent.
    """

    init: str
    rows: tuple[float, ...]
    groups: tuple[float, ...]
    centres: tuple[float, ...]
    density: tuple[float, ...]


@dataclass(frozen=True)
class SpreadView:
    """Every initialiser with a finished run, and the figure in a sentence."""

    spreads: tuple[Spread, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a rank of rows and groups; the histogram's bins behind."""
        lines: list[tuple[Any, ...]] = []
        for one in self.spreads:
            label = theme.style(one.init).label
            lines += [(label, "row", rank + 1, value) for rank, value in enumerate(one.rows)]
            lines += [(label, "group", rank + 1, value) for rank, value in enumerate(one.groups)]
            bins = zip(one.centres, one.density, strict=True)
            lines += [(label, "weight", centre, share) for centre, share in bins]
        return theme.Table(("initialiser", "of", "rank or residual", "percent"), tuple(lines))


def view_spread(document: dict[str, Any] | None) -> SpreadView:
    """The spread of the error in the finished runs of a document."""
    runs = complete(document)
    runs = [run for run in runs if all(run.get(name) for name in NEEDED)]
    inits = dict.fromkeys(run["init"] for run in runs)
    spreads = [_spread(init, [run for run in runs if run["init"] == init]) for init in inits]
    return SpreadView(tuple(spreads), _alt(spreads))


def draw_spread(view: SpreadView) -> go.Figure:
    """Three panels: rows, groups, weights."""
    if not view.spreads:
        return theme.message("This appears with finished runs; older recordings lack it.", HEIGHT)
    drawing = make_subplots(cols=3, subplot_titles=PANELS, horizontal_spacing=0.08)
    drawing.update_layout(theme.figure(view.alt, HEIGHT, view.table).layout, legend={"y": 1.14})
    for one in view.spreads:
        style = theme.style(one.init)
        panels = (
            (_ranks(one.rows), one.rows, "rank %{x}: <b>%{y:.3g} %</b> of its own output"),
            (_ranks(one.groups), one.groups, "rank %{x}: <b>%{y:.3g} %</b> of the layer's error"),
            (one.centres, one.density, "residual %{x:.2f}: <b>%{y:.3g} %</b> of the weights"),
        )
        for column, (x, y, words) in enumerate(panels, start=1):
            drawing.add_scatter(
                x=theme.floats(x),
                y=theme.floats(y),
                mode="lines",
                name=style.label,
                legendgroup=one.init,
                showlegend=column == 1,
                line={"color": style.colour, "dash": style.dash, "width": 2.2},
                hovertemplate=f"{style.label}<br>{words}<extra></extra>",
                row=1,
                col=column,
            )
    drawing.update_xaxes(type="log", dtick=1, title_text="rank", col=1)
    drawing.update_xaxes(type="log", dtick=1, title_text="rank", col=2)
    drawing.update_xaxes(title_text="(Q − W) / rms of the row", col=3)
    rows = [value for one in view.spreads for value in one.rows if value > 0]
    drawing.update_yaxes(theme.log_axis(rows), title_text="percent", col=1)
    drawing.update_yaxes(rangemode="tozero", col=2)
    drawing.update_yaxes(rangemode="tozero", col=3)
    drawing.update_annotations(font={"size": 13})
    return drawing


def _ranks(values: Sequence[float]) -> range:
    return range(1, len(values) + 1)


def _spread(init: str, runs: list[dict[str, Any]]) -> Spread:
    rows = [sorted((e for e in run["row_errors"] if e is not None), reverse=True) for run in runs]
    groups = [sorted(run["group_errors"], reverse=True) for run in runs]
    edges = runs[0]["residuals"]["edges"]
    counts = [run["residuals"]["counts"] for run in runs]
    return Spread(
        init=init,
        rows=_percent(rows, [1.0] * len(runs)),
        groups=_percent(groups, [1.0] * len(runs)),
        centres=tuple((low + high) / 2 for low, high in pairwise(edges)),
        density=_percent(counts, [sum(some) for some in counts]),
    )


def _percent(lists: Sequence[Sequence[Any]], wholes: Sequence[float | int]) -> tuple[float, ...]:
    """Place by place the mean over seeds, each list over its whole, in percent."""
    parts = [
        [100 * value / whole for value in one] for one, whole in zip(lists, wholes, strict=True)
    ]
    return tuple(sum(same) / len(same) for same in zip(*parts, strict=True))


def _alt(spreads: list[Spread]) -> str:
    if not spreads:
        return "Where the error is: no data."
    told = []
    for one in spreads:
        tenth = sum(one.groups[: max(1, len(one.groups) // 10)])
        told.append(
            f"{theme.style(one.init).label}: the worst row loses {one.rows[0]:.3g} % of its "
            f"output, the median row {one.rows[len(one.rows) // 2]:.3g} %, and the worst tenth of "
            f"the groups makes {tenth:.0f} % of the error"
        )
    return "; ".join(told) + "."
