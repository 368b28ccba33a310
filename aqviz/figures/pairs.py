"""Every model beside one of them, window by window: differences with their intervals.

The same windows were read by all, so the difference within a window leaves out how hard the window
is. An interval is two standard errors to either side; a difference is shown where it leaves out 0.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import evaluations, theme
from aqviz.evaluations import Difference, Model, signed

ROW = 44


@dataclass(frozen=True)
class Pair:
    """One model's loss over the reference's."""

    model: Model
    difference: Difference


@dataclass(frozen=True)
class PairsView:
    """All models but the reference.

    Attributes:
        reference: The name of the model that all are compared with.
        pairs: From top to bottom; empty where there are none.
        alt: The figure in a sentence.
    """

    reference: str
    pairs: tuple[Pair, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a pair."""
        columns = ("model", f"nats a token over {self.reference}", "standard error", "is it shown?")
        return theme.Table(
            columns,
            tuple(
                (p.model.label, *p.difference, "shown" if p.difference.shown else "not shown")
                for p in self.pairs
            ),
        )


def view_pairs(document: dict[str, Any] | None, reference: str) -> PairsView:
    """The differences of all models from the one with that key."""
    found = evaluations.models(document)
    if reference not in found:
        return PairsView(reference, (), "This model is not in this recording; choose another.")
    given = found.pop(reference)
    differences = [(model, evaluations.difference(model, given)) for model in found.values()]
    pairs = tuple(Pair(model, found) for model, found in differences if found is not None)
    if len(pairs) < 2 and len(differences) > 1:  # with the original alone
        return PairsView(given.label, pairs, evaluations.NO_PAIRS)
    told = "; ".join(f"{pair.model.label} {words(pair.difference)}" for pair in pairs)
    return PairsView(given.label, pairs, f"Loss over that of {given.label}, nats a token: {told}.")


def words(found: Difference) -> str:
    """A difference with its interval and what it shows."""
    if found.interval is None:
        return f"{signed(found.mean)}, from a single window, so nothing is shown"
    low, high = map(signed, found.interval)
    judged = "shown" if found.shown else "not shown"
    return f"{signed(found.mean)} ({low} to {high}), {judged}"


def draw_pairs(view: PairsView) -> go.Figure:
    """A dot and an interval for each model; hollow where the interval holds 0."""
    if not view.pairs:
        return theme.message(view.alt)
    drawing = theme.figure(view.alt, 130 + ROW * len(view.pairs), view.table)
    drawing.add_vline(x=0, line={"color": theme.GREY, "width": 1.5})
    for row, pair in enumerate(view.pairs):
        _draw_pair(drawing, row, pair)
    drawing.add_annotation(
        x=0, y=1, yref="paper", yanchor="bottom", showarrow=False, text=view.reference
    )
    drawing.update_layout(margin={"t": 26})  # the reference's name is above the plot
    drawing.update_xaxes(title_text="added loss, nats a token", tickformat="~g", nticks=5)
    drawing.update_yaxes(
        tickvals=list(range(len(view.pairs))),
        ticktext=[pair.model.label for pair in view.pairs],
        range=[len(view.pairs) - 0.5, -0.5],
        showgrid=False,
        ticks="",
    )
    return drawing


def _draw_pair(drawing: go.Figure, row: int, pair: Pair) -> None:
    style, found = pair.model.style, pair.difference
    reach = None if found.interval is None else found.interval[1] - found.mean
    drawing.add_scatter(
        x=[found.mean],
        y=[row],
        mode="markers",
        marker={
            "color": style.colour,
            "symbol": style.symbol + ("" if found.shown else "-open"),
            "size": 11,
            "line": {"width": 2, "color": style.colour},
        },
        error_x={"array": [reach], "thickness": 2, "width": 5, "color": style.colour},
        showlegend=False,
        hovertemplate=f"{pair.model.label}<br><b>{words(found)}</b><extra></extra>",
    )
