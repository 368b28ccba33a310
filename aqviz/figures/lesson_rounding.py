"""Lesson 1: numbers rounded to 2^b levels, and how the error falls with b.

The levels are evenly spaced from the smallest number to the largest, or fitted to the numbers by
k-means, which begins at the even ones and can only improve on them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from aqviz import theme, toy
from aqviz.figures.lesson_plane import KMEANS, Array, add_lines, between, percent
from quantcore import clustering

COUNT = 120
MOST_BITS = 5
SPACINGS = {"even": "evenly spaced", "fitted": "fitted by k-means"}
MARKERS = {
    "even": {"symbol": "square", "color": theme.GREY},
    "fitted": {"symbol": "circle", "color": KMEANS},
}
DASHES = {"even": "dash", "fitted": "solid"}
HEIGHT = 500


@dataclass(frozen=True)
class RoundingView:
    """The numbers, the levels they go to, and the error for every number of bits.

    Attributes:
        bits: b.
        spacing: One of `SPACINGS`.
        numbers: What is rounded.
        levels: The 2^b levels.
        rounded: The level of each number.
        errors: For each spacing, squared error over energy for 1, 2, ... bits.
    """

    bits: int
    spacing: str
    numbers: Array
    levels: Array
    rounded: Array
    errors: dict[str, tuple[float, ...]]

    @property
    def alt(self) -> str:
        """The figure in one sentence."""
        mine, other = (self.errors[name][self.bits - 1] for name in self._both)
        return (
            f"With {self.bits} {'bit' if self.bits == 1 else 'bits'} the {len(self.levels)} levels "
            f"{SPACINGS[self.spacing]} lose {percent(mine)} of the numbers' energy; "
            f"{SPACINGS[self._both[1]]} they would lose {percent(other)}."
        )

    @property
    def _both(self) -> tuple[str, str]:
        return ("even", "fitted") if self.spacing == "even" else ("fitted", "even")

    @property
    def table(self) -> theme.Table:
        """The error by bits."""
        rows = zip(range(1, MOST_BITS + 1), *self.errors.values(), strict=True)
        return theme.Table(
            ("bits", *(f"energy lost, levels {words}" for words in SPACINGS.values())), tuple(rows)
        )


def view_rounding(bits: int, spacing: str, outlier: float) -> RoundingView:
    """Round the lesson's numbers, one of them moved to `outlier` where that is not 0."""
    numbers, levels = _numbers(outlier), _levels(outlier, bits, spacing)
    errors = {
        name: tuple(_error(numbers, _levels(outlier, b, name)) for b in range(1, MOST_BITS + 1))
        for name in SPACINGS
    }
    codes = clustering.state_of(toy.em_problem(numbers), levels).codes[:, 0].long()
    rounded = levels[codes, 0].numpy()
    return RoundingView(bits, spacing, numbers[:, 0].numpy(), levels[:, 0].numpy(), rounded, errors)


def draw_rounding(view: RoundingView) -> go.Figure:
    """The line of numbers over the line of levels; error against bits below."""
    empty = theme.figure(view.alt, HEIGHT, view.table)
    drawing = make_subplots(rows=2, row_heights=[0.5, 0.5], vertical_spacing=0.14, figure=empty)
    _draw_line(drawing, view)
    for name, words in SPACINGS.items():
        _draw_errors(drawing, view, name, words)
    shown = [error for errors in view.errors.values() for error in errors]
    drawing.update_xaxes(title_text="bits a number", dtick=1, row=2, col=1)
    drawing.update_yaxes(
        theme.log_axis([100 * error for error in shown]), title_text="energy lost, %", row=2, col=1
    )
    return drawing


def _draw_line(drawing: go.Figure, view: RoundingView) -> None:
    at = {"row": 1, "col": 1}
    high, low = np.ones_like(view.numbers), np.zeros_like(view.numbers)
    starts, stops = np.stack([view.numbers, high], 1), np.stack([view.rounded, low], 1)
    add_lines(drawing, between(starts, stops), "", {"width": 0.6}, opacity=0.7, **at)
    for name, values, height, marker in (
        ("numbers", view.numbers, 1.0, {"symbol": "line-ns-open", "size": 14}),
        ("levels", view.levels, 0.0, MARKERS[view.spacing] | {"size": 9}),
    ):
        drawing.add_scatter(
            x=theme.floats(values),
            y=np.full(len(values), height, np.float32),
            mode="markers",
            showlegend=False,
            marker={"color": theme.GREY} | marker,
            hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>",
            **at,
        )
    drawing.update_yaxes(
        tickvals=[0, 1], ticktext=["levels", "numbers"], range=[-0.2, 1.2], showgrid=False, **at
    )
    drawing.update_xaxes(title_text="value", **at)


def _draw_errors(drawing: go.Figure, view: RoundingView, name: str, words: str) -> None:
    here = [11 if name == view.spacing and b + 1 == view.bits else 5 for b in range(MOST_BITS)]
    drawing.add_scatter(
        x=list(range(1, MOST_BITS + 1)),
        y=[100 * error for error in view.errors[name]],
        mode="lines+markers",
        name=f"levels {words}",
        line={"color": MARKERS[name]["color"], "dash": DASHES[name], "width": 2},
        marker=MARKERS[name] | {"size": here},
        hovertemplate=f"%{{x}} bits, {words}: %{{y:.3g}} %<extra></extra>",
        row=2,
        col=1,
    )


def _numbers(outlier: float) -> Tensor:
    numbers = toy.normal(COUNT, 1)
    if outlier:
        numbers[0] = outlier
    return numbers


@lru_cache
def _levels(outlier: float, bits: int, spacing: str) -> Tensor:
    numbers = _numbers(outlier)
    even = toy.grid(numbers[:, 0], bits)[:, None]
    return even if spacing == "even" else toy.fitted(numbers, even)


def _error(numbers: Tensor, levels: Tensor) -> float:
    """Squared error over energy."""
    costs = clustering.state_of(toy.em_problem(numbers), levels).costs
    return float(costs.sum() / torch.square(numbers).sum())
