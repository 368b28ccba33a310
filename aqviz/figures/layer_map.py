"""The model as a grid: one cell a layer, blocks down, projections across, coloured by one number.

What spans factors is coloured by its logarithm; ratios have a scale of two colours, centred on 1.
A cell that is not drawn was not measured.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import plotly.graph_objects as go

from aqviz import theme
from aqviz.atlas import MEASURES, Place, known, written

ROW = 15  # pixels a block
FRAME = 130  # of axis and colour bar
LEAST = 300
TICKS = 5
PREPARING = (
    "The model is being prepared, once; change any control in half a minute to see its layers."
)


@dataclass(frozen=True)
class LayerMapView:
    """The grid of one measure.

    Attributes:
        colours: [blocks, projections], what the scale is of; NaN where nothing is known.
        names: [blocks, projections] of the layers; empty where there is none.
        words: [blocks, projections], the values as read.
        blocks: Numbers of the rows.
        projections: Short names of the columns.
        chosen: Column and row of the chosen layer; None where it is not here.
        label: What is shown.
        limits: Of the colour scale.
        ticks: Positions and words on the colour scale.
        diverging: Whether the scale has two sides.
        alt: The figure in a sentence.
        table: Its numbers.
    """

    colours: Any
    names: Any
    words: Any
    blocks: tuple[int, ...]
    projections: tuple[str, ...]
    chosen: tuple[int, int] | None
    label: str
    limits: tuple[float, float]
    ticks: tuple[tuple[float, ...], tuple[str, ...]]
    diverging: bool
    alt: str
    table: theme.Table


def view_layer_map(places: Sequence[Place], measure: str, chosen: str) -> LayerMapView:
    """The grid of a measure of `atlas.MEASURES`, with the layer of that name marked."""
    blocks = sorted({place.info.block for place in places})
    projections = list(dict.fromkeys(place.info.projection for place in places))
    shape = len(blocks), len(projections)
    colours = np.full(shape, np.nan, np.float32)
    names, words = np.full(shape, "", object), np.full(shape, "", object)
    marked = None
    for place in places:
        at = blocks.index(place.info.block), projections.index(place.info.projection)
        value = place.values[measure]
        colours[at] = math.nan if value is None else _position(measure, value)
        names[at], words[at] = place.info.name, written(measure, value)
        marked = at[::-1] if place.info.name == chosen else marked
    limits = _limits(colours, measure)
    return LayerMapView(
        colours=colours,
        names=names,
        words=words,
        blocks=tuple(blocks),
        projections=short_names(projections),
        chosen=marked,
        label=MEASURES[measure].label,
        limits=limits,
        ticks=_ticks(measure, limits),
        diverging=MEASURES[measure].scale == "ratio",
        alt=_alt(places, measure),
        table=_table(places, measure),
    )


def draw_layer_map(view: LayerMapView) -> go.Figure:
    """The heat map; a click on a cell tells its layer's name."""
    if not np.isfinite(view.colours).any():
        bare = theme.message("not measured yet", LEAST)
        return bare.update_layout(meta={"alt": view.alt})
    drawing = theme.figure(view.alt, max(LEAST, FRAME + ROW * len(view.blocks)), view.table)
    drawing.add_heatmap(
        z=view.colours,
        y=view.blocks,
        customdata=view.names,
        text=view.words,
        xgap=2,
        ygap=1,
        zmin=view.limits[0],
        zmax=view.limits[1],
        colorscale=theme.DIVERGING if view.diverging else theme.SEQUENTIAL,
        colorbar={
            "title": {"text": view.label, "side": "top"},
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "thickness": 10,
            "tickvals": view.ticks[0],
            "ticktext": view.ticks[1],
            "outlinewidth": 0,
        },
        hovertemplate="%{customdata}<br>" + view.label + ": <b>%{text}</b><extra></extra>",
    )
    if view.chosen is not None:
        _ring(drawing, *view.chosen, view.blocks)
    positions = list(range(len(view.projections)))
    drawing.update_xaxes(
        tickvals=positions, ticktext=view.projections, showgrid=False, ticks="", fixedrange=True
    )
    drawing.update_yaxes(title_text="block", autorange="reversed", showgrid=False, ticks="")
    return drawing


def short_names(projections: Sequence[str]) -> tuple[str, ...]:
    """Projections without what a reader can do without, where they stay different."""
    short = [name.rpartition(".")[2].removesuffix("_proj") for name in projections]
    counts = Counter(short)
    pairs = zip(projections, short, strict=True)
    return tuple(whole if counts[name] > 1 else name for whole, name in pairs)


def _ring(drawing: go.Figure, column: int, row: int, blocks: Sequence[int]) -> None:
    """A frame around a cell, black in white, to be seen on dark and on light ones."""
    y = blocks[row]
    for width, colour in ((5, "#ffffff"), (2, "#000000")):
        drawing.add_shape(
            type="rect",
            x0=column - 0.5,
            x1=column + 0.5,
            y0=y - 0.5,
            y1=y + 0.5,
            line={"color": colour, "width": width},
        )


def _position(measure: str, value: float) -> float:
    """Where a value stands on the measure's scale."""
    return value if MEASURES[measure].scale == "linear" else math.log10(value)


def _limits(colours: Any, measure: str) -> tuple[float, float]:
    finite = colours[np.isfinite(colours)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if MEASURES[measure].scale == "ratio":
        high = max(abs(low), abs(high))
        low = -high
    return (low, high) if low < high else (low - 0.01, high + 0.01)


def _ticks(measure: str, limits: tuple[float, float]) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Evenly placed on the scale, with the values they stand for."""
    places = tuple(float(place) for place in np.linspace(*limits, TICKS))
    linear = MEASURES[measure].scale == "linear"
    return places, tuple(written(measure, at if linear else 10**at) for at in places)


def _alt(places: Sequence[Place], measure: str) -> str:
    label, pairs = MEASURES[measure].label, known(places, measure)
    if not places:
        return PREPARING
    if not pairs:
        return (
            f"Not measured for these layers: {label}. Press Run, or colour by ρ, which needs none."
        )
    low, high = (pick(pairs, key=lambda pair: pair[1]) for pick in (min, max))
    middle = median(value for _, value in pairs)
    return (
        f"{label[0].upper()}{label[1:]}, {len(pairs)} of {len(places)} layers: from "
        f"{written(measure, low[1])} ({low[0].name}) to {written(measure, high[1])} "
        f"({high[0].name}), at the median {written(measure, middle)}."
    )


def _table(places: Sequence[Place], measure: str) -> theme.Table:
    rows = tuple(
        (place.info.name, place.info.block, place.info.projection, place.values[measure])
        for place in places
    )
    return theme.Table(("layer", "block", "projection", MEASURES[measure].label), rows)
