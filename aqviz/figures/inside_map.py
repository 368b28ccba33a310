"""Where a layer's error sits: one cell a group, rows down, groups across.

A cell is the group's own part d H_jj d^T of its row's error, d the difference of its weights before
and after, H_jj the block of the Hessian H that its inputs have to themselves. Parts differ by
factors of thousands, so the scale is logarithmic.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from aqviz import theme

HEIGHT = 430
LOWEST = 1e-12  # an error of exactly zero has no logarithm


@dataclass(frozen=True)
class MapView:
    """The logarithms of the errors, the chosen cell, and the figure in words and numbers."""

    logs: Any  # [rows, groups], float32
    row: int
    group: int
    ticks: tuple[int, ...]
    alt: str
    table: theme.Table


def view_map(
    errors: Float[Tensor, "rows groups"], init: str, total: float, row: int, group: int
) -> MapView:
    """The map of an initialiser's errors.

    Args:
        errors: Each group's own part.
        init: The initialiser.
        total: The row's whole error, what groups do together included.
        row: The chosen row.
        group: The chosen group.
    """
    logs = errors.clamp(min=LOWEST).log10()
    own = errors[row].sum().item()
    ranks = 1 + (errors > errors[row, group]).sum().item()
    label = theme.style(init).label
    alt = (
        f"Error of each of {errors.numel():,} groups with {label}: row {row}, group {group} has "
        f"{errors[row, group].item():.3g}, rank {ranks:,} from the highest; the parts of row {row} "
        f"add up to {own:.3g}, and with what its groups do together the row's error is {total:.3g}."
    )
    shares = (errors[row] / max(own, LOWEST)).tolist()
    rows = tuple(
        (j, error, share)
        for j, (error, share) in enumerate(zip(errors[row].tolist(), shares, strict=True))
    )
    columns = ("group", f"error in row {row}", "share of the row's parts")
    low, high = int(logs.min().ceil().item()), int(logs.max().floor().item())
    ticks = tuple(range(low, high + 1))
    return MapView(theme.floats(logs), row, group, ticks, alt, theme.Table(columns, rows))


def draw_map(view: MapView) -> go.Figure:
    """The heat map; a click on a cell chooses it."""
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    drawing.add_heatmap(
        z=view.logs,
        zsmooth=False,
        colorscale=theme.SEQUENTIAL,
        colorbar={
            "title": {"text": "error", "side": "top"},
            "tickvals": view.ticks,
            "ticktext": [f"{10.0**tick:g}" for tick in view.ticks],
            "thickness": 12,
            "outlinewidth": 0,
            "xpad": 4,
        },
        hovertemplate="row %{y}, group %{x}<br>log₁₀ of its error <b>%{z:.2f}</b><extra></extra>",
    )
    add_ring(drawing, view.group, view.row)
    drawing.update_xaxes(title_text="group of inputs", showgrid=False)
    drawing.update_yaxes(title_text="row (output)", autorange="reversed", showgrid=False)
    return drawing


def add_ring(drawing: go.Figure, x: int, y: int, **place: int) -> None:
    """A ring around a cell, black in white, to be seen on dark and on light ones."""
    for size, colour in ((15, "#000000"), (12, "#ffffff")):
        drawing.add_scatter(
            x=[x],
            y=[y],
            mode="markers",
            marker={"symbol": "square-open", "size": size, "color": colour, "line": {"width": 2}},
            hoverinfo="skip",
            showlegend=False,
            **place,
        )
