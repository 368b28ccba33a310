r"""What lessons in the plane share: cells of words, segments, squares that are square.

The cell of word i in a metric D holds the points p nearest to it. Against word j that is a half
plane,

    n_ij . p <= b_ij,   n_ij = 2 D (c_j - c_i),   b_ij = c_j^T D c_j - c_i^T D c_i,

so the border between two words is the part of the line n_ij . p = b_ij that lies in the half planes
of word i against all other words: an interval on the line, found for all pairs at once.
"""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from aqviz import theme

Array = NDArray[Any]
KMEANS = theme.STYLES["greedy"].colour  # k-means is what greedy does
AWARE = theme.STYLES["oa-em"].colour  # the metric of the output is what OA-EM adds
BEST = "#AF5A94"  # the best there is; found by trying everything
FAR = 20.0  # borders that go on for ever end this far out, beyond what is drawn
SMALL = 1e-9  # shorter borders are points at which cells meet
REACH = 3.2  # half the width of what is drawn
HEIGHT = 520
WORDS = {"symbol": "x", "size": 9, "line": {"width": 0.5}}


def cell_borders(words: Array, metric: Array) -> Array:
    """The borders of the words' cells as segments [n, 2 ends, 2]; equal words have none."""
    first, second = np.triu_indices(len(words), 1)
    bent = words @ metric
    normals = 2 * (bent[None] - bent[:, None])  # [words, words, 2]: of word i against word j
    squares = (bent * words).sum(1)
    offsets = squares[None] - squares[:, None]
    apart = np.linalg.norm(normals[first, second], axis=1) > 0
    first, second = first[apart], second[apart]
    normal, offset = normals[first, second], offsets[first, second]
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    foot = normal * (offset[:, None] / length**2)
    along = np.stack([-normal[:, 1], normal[:, 0]], 1) / length
    slope = np.einsum("pkd,pd->pk", normals[first], along)
    room = offsets[first] - np.einsum("pkd,pd->pk", normals[first], foot)
    slope[np.arange(len(first)), second] = 0.0  # rounding apart it is: the line runs along it
    room[np.arange(len(first)), second] = 0.0
    low, high = _interval(slope, room)
    seen = high - low > SMALL
    ends = np.stack([low, high], 1)[seen, :, None] * along[seen, None]
    return np.asarray(foot[seen, None] + ends)


def _interval(slope: Array, room: Array) -> tuple[Array, Array]:
    """For each row the t within `FAR` with slope t <= room in every column; low > high if none."""
    flat = slope == 0
    ends = room / np.where(flat, 1.0, slope)
    low = np.where(slope < 0, ends, -FAR).max(1, initial=-FAR)
    high = np.where(slope > 0, ends, FAR).min(1, initial=FAR)
    outside = (flat & (room < -SMALL)).any(1)
    return low, np.where(outside, -np.inf, high)


def segments(ends: Array) -> dict[str, Array]:
    """Segments [n, 2 ends, 2] as the x and y of one line with gaps."""
    gaps = np.concatenate([ends, np.full((len(ends), 1, 2), np.nan)], 1).reshape(-1, 2)
    return {"x": theme.floats(gaps[:, 0]), "y": theme.floats(gaps[:, 1])}


def between(starts: Array, stops: Array) -> Array:
    """The segments from each start to its stop: [n, 2 ends, 2]."""
    return np.stack([starts, stops], 1)


def xy(places: Array) -> dict[str, Array]:
    """Places [n, 2] as x and y."""
    return {"x": theme.floats(places[:, 0]), "y": theme.floats(places[:, 1])}


def add_lines(drawing: go.Figure, ends: Array, name: str, line: dict[str, Any], **at: Any) -> None:
    """Segments as one trace that does not answer to the pointer."""
    style = {"width": 1, "color": theme.GREY} | line
    drawing.add_scatter(
        **segments(ends),
        mode="lines",
        name=name,
        showlegend=bool(name),
        line=style,
        hoverinfo="skip",
        **at,
    )


def add_places(
    drawing: go.Figure, places: Array, name: str, marker: dict[str, Any], **more: Any
) -> None:
    """Places as markers."""
    style = {"size": 6, "color": theme.GREY} | marker
    hover = more.pop("hovertemplate", f"{name}<br>%{{x:.2f}}, %{{y:.2f}}<extra></extra>")
    drawing.add_scatter(
        **xy(places), mode="markers", name=name, marker=style, hovertemplate=hover, **more
    )


def make_square(drawing: go.Figure, reach: float = REACH, **at: Any) -> None:
    """Equal units on both axes, about the origin."""
    ranged = {"range": [-reach, reach], "zeroline": True, "zerolinecolor": theme.GRID}
    drawing.update_xaxes(ranged | {"title_text": "first number"}, **at)
    drawing.update_yaxes(ranged | {"title_text": "second number"}, **at)
    y_axis = next(drawing.select_yaxes(**at))
    anchor = next(drawing.select_xaxes(**at)).plotly_name.replace("axis", "")
    y_axis.update(scaleanchor=anchor, scaleratio=1)


def percent(share: float) -> str:
    """A share in words: three digits, no more than are meant."""
    return f"{100 * share:.3g} %"


def enlarge(drawing: go.Figure) -> go.Figure:
    """The same figure in a size that can be read from the last row."""
    drawing.update_layout(font={"size": 18}, legend={"font": {"size": 17}})
    drawing.update_xaxes(title_font_size=18)
    drawing.update_yaxes(title_font_size=18)
    return drawing
