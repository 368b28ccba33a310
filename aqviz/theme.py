"""How data look: one colour, marker and dash for each initialiser, and one plotly template.

Colour is kept for data: everything around a figure is grey. The three colours are from the palette
of Okabe and Ito, which survives colour blindness, and keep a contrast of 3:1 or more on both pages.
Calibration is a solid line, held-out a dashed one, everywhere; so where both appear an initialiser
is told by colour and marker, and elsewhere by its dash too.

Text, background and hover colours follow the page and are set in the browser (see plot_host).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio

PAGE_LIGHT = "#ffffff"
PAGE_DARK = "#14171c"
GREY = "#7b818a"  # what belongs to no initialiser: the original model, reference lines, legend keys
GRID = "rgba(128, 134, 144, 0.22)"
FAINT = 0.16  # opacity of a band or a pale segment
HELDOUT_DASH = "dash"
SEQUENTIAL = "Cividis"
DIVERGING = [[0.0, "#0072B2"], [0.5, "#e9eaec"], [1.0, "#D55E00"]]  # centre it on zero


@dataclass(frozen=True)
class Style:
    """How one initialiser is drawn.

    Attributes:
        label: Its name in words.
        colour: Hexadecimal.
        symbol: Plotly's marker name.
        dash: Plotly's dash, used where lines do not tell calibration from held-out.
        ink: The colour of words on top of it.
    """

    label: str
    colour: str
    symbol: str
    dash: str
    ink: str = "#000000"


STYLES = {
    "greedy": Style("greedy", "#0072B2", "circle", "solid", "#ffffff"),
    "oa-em": Style("OA-EM", "#D55E00", "diamond", "6px,2px"),
    "oa-em-adam": Style("OA-EM (Adam)", "#009E73", "square", "2px,2px"),
}
SEARCHES = {  # in words; a search has no colour, every initialiser of a figure runs the same one
    "feedback-descent": "error feedback + descent",
    "feedback": "error feedback",
    "descent": "coordinate descent",
    "beam": "beam search (as released)",
}
ORIGINAL = Style("original", GREY, "cross", "solid")


def style(init: str) -> Style:
    """The style of an initialiser; an unknown one is grey under its own name."""
    return STYLES.get(init, Style(init, GREY, "x", "solid"))


def fade(colour: str) -> str:
    """The colour at the opacity of a band or a pale segment."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {FAINT})"


class Table(NamedTuple):
    """A figure's numbers: shown on demand under it, and its CSV."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()


def figure(alt: str = "", height: int = 320, table: Table | None = None) -> go.Figure:
    """An empty figure in the house template.

    Args:
        alt: The figure in one sentence: printed under it, and what a screen reader says for it.
        height: In pixels; the width is the page's.
        table: Its numbers.
    """
    meta: dict[str, Any] = {"alt": alt}
    if table is not None and table.rows:
        meta["table"] = {"columns": table.columns, "rows": table.rows}
    return go.Figure(layout={"template": TEMPLATE, "height": height, "meta": meta})


def to_json(drawing: go.Figure, key: str | None = None) -> str:
    """A figure for the page; a zoom is kept as long as the key is the same."""
    return str(drawing.update_layout(uirevision=key).to_json())


def floats(values: Any) -> Any:
    """Numbers as float32: half as many bytes on their way to the browser."""
    return np.asarray(values, np.float32)


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis for these positive values, with few round ticks and room at both ends."""
    low, high = min(values), max(values)
    margin = 0.12 * math.log10(high / low) + 0.03
    return {
        "type": "log",
        "tickformat": "~g",
        **_log_ticks(high / low),
        "range": [math.log10(low) - margin, math.log10(high) + margin],
    }


def _log_ticks(span: float) -> dict[str, Any]:
    """Labels that stay apart: left to itself plotly writes 9, 8, 7, 6 ... over a decade."""
    if span < 4:
        return {"nticks": 5}
    return {"dtick": "D2" if span < 200 else 1}  # 1, 2, 5, 10 ..., or powers of ten


def message(words: str, height: int = 320) -> go.Figure:
    """A figure that says in words why there is nothing to draw yet."""
    empty = figure(words, height)
    empty.update_xaxes(visible=False)
    empty.update_yaxes(visible=False)
    empty.add_annotation(
        text=words, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font={"size": 14}
    )
    return empty


_AXIS = {
    "gridcolor": GRID,
    "linecolor": GREY,
    "zeroline": False,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": GRID,
    "automargin": True,
    "title": {"standoff": 10, "font": {"size": 13}},
}

pio.templates.default = None  # plotly would add its own, for all its kinds of figures, to subplots
TEMPLATE = go.layout.Template(
    layout={
        "font": {"size": 13},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "itemsizing": "constant",
            "itemwidth": 34,
            "font": {"size": 12.5},
        },
        "hoverlabel": {"align": "left"},
        "modebar": {"orientation": "h", "bgcolor": "rgba(0,0,0,0)", "color": GREY},
    }
)
