"""One plane through a layer's solutions: the error around both runs, and the ways they took.

Horizontally the way from A's end to B's, vertically what of A's start is off it; both in the same
unit, so distances may be compared. Colour is the error there, lighter is higher, on a log scale.
"""

import math
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import theme

HEIGHT = 560
CODES = {
    "reassigned": "found anew at every point",
    "fixed_a": "A's own at every point",
    "fixed_b": "B's own at every point",
}
HALO = "#ffffff"


@dataclass(frozen=True)
class Way:
    """One run on the plane.

    Attributes:
        end: "A" or "B".
        label: Its initialiser and seed.
        init: The initialiser.
        x: Coordinate of every phase along the line between the ends.
        y: The other one.
        names: What each point is the end of.
        errors: Percent of the whole layer's output after each phase, on the chosen text.
        off: Distance from the plane.
        changed: Share of the codes that the phase changed, where there were codes before.
        explained: Share of the squared steps that the plane shows.
    """

    end: str
    label: str
    init: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    names: tuple[str, ...]
    errors: tuple[float, ...]
    off: tuple[float, ...]
    changed: tuple[float | None, ...]
    explained: float


@dataclass(frozen=True)
class PlaneView:
    """The surface as rows of log10 percent, both ways, and the figure in a sentence."""

    a: tuple[float, ...]
    b: tuple[float, ...]
    surface: tuple[tuple[float, ...], ...]
    ways: tuple[Way, ...]
    codes: str
    text: str
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a phase of a run."""
        columns = ("run", "phase", "along, x", "across, y", "off the plane", "error, %", "changed")
        return theme.Table(
            columns,
            tuple(
                (f"{way.end}: {way.label}", *point)
                for way in self.ways
                for point in zip(
                    *(way.names, way.x, way.y, way.off, way.errors, way.changed), strict=True
                )
            ),
        )


def view_plane(document: dict[str, Any] | None, codes: str, text: str) -> PlaneView:
    """The plane of a landscape document, as far as it is measured.

    Args:
        document: Of the study, or None.
        codes: One of CODES.
        text: "calibration" or "heldout".
    """
    plane = (document or {}).get("plane")
    if not document or not plane or "errors" not in plane:
        return PlaneView((), (), (), (), codes, text, "The plane: no data yet.")
    rows = plane["errors"][codes][text] or []
    surface = tuple(tuple(math.log10(100 * error) for error in row) for row in rows)
    ways = tuple(_way(document, end, text) for end in ("A", "B"))
    a, b = tuple(plane["a"]), tuple(plane["b"][: len(surface)])
    return PlaneView(a, b, surface, ways, codes, text, _alt(document, ways))


def draw_plane(view: PlaneView) -> go.Figure:
    """The surface under both ways; a slider plays them phase by phase."""
    if not view.ways:
        return theme.message("The plane appears when both runs have ended.", HEIGHT)
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    if view.surface:
        drawing.add_heatmap(
            x=theme.floats(view.a),
            y=theme.floats(view.b),
            z=theme.floats(view.surface),
            colorscale=theme.SEQUENTIAL,
            colorbar=_scale(view.surface),
            customdata=theme.floats([[10**value for value in row] for row in view.surface]),
            hovertemplate="error here <b>%{customdata:.3g} %</b><extra></extra>",
        )
    for way in view.ways:
        _draw_way(drawing, way)
    _draw_frames(drawing, view.ways)
    drawing.update_xaxes(title_text="from A's end towards B's end", constrain="domain")
    drawing.update_yaxes(
        title_text="towards A's start", scaleanchor="x", scaleratio=1, constrain="domain"
    )
    drawing.update_xaxes(showgrid=False)
    drawing.update_yaxes(showgrid=False)
    drawing.update_layout(legend={"y": 1.02})
    return drawing


def name_of(init: str, seed: int) -> str:
    """A run in words."""
    return f"{theme.style(init).label}, seed {seed}"


def _way(document: dict[str, Any], end: str, text: str) -> Way:
    found = document["trajectories"][end]
    phases = found["phases"]
    name = "relative_error" if text == "calibration" else "heldout_relative_error"
    return Way(
        end=end,
        label=name_of(found["init"], found["seed"]),
        init=found["init"],
        x=tuple(phase["coordinates"][0] for phase in phases),
        y=tuple(phase["coordinates"][1] for phase in phases),
        names=tuple(_words(phase) for phase in phases),
        errors=tuple(100 * phase[name] for phase in phases),
        off=tuple(phase["off_plane"] for phase in phases),
        changed=tuple(phase["changed"] for phase in phases),
        explained=document["plane"]["explained"][end],
    )


def _words(phase: dict[str, Any]) -> str:
    return "initialise" if phase["phase"] == "init" else f"{phase['phase']} {phase['sweep']}"


def _alt(document: dict[str, Any], ways: tuple[Way, ...]) -> str:
    told = " and ".join(
        f"{way.end} ({way.label}) goes from {way.errors[0]:.3g} % to {way.errors[-1]:.3g} %, of "
        f"whose movement the plane shows {100 * way.explained:.0f} %"
        for way in ways
    )
    rows, shape = document["rows"], document["shape"]
    sampled = f"; the surface is measured on {rows} of {shape[0]} rows" if rows < shape[0] else ""
    return f"{told}{sampled}."


def _scale(surface: tuple[tuple[float, ...], ...]) -> dict[str, Any]:
    """A colour bar in percent, with as few round numbers as the surface spans."""
    low, high = min(map(min, surface)), max(map(max, surface))
    for mantissas in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100))):
        marks = [m * 10.0**e for e in range(-4, 5) for m in mantissas]
        shown = [mark for mark in marks if low <= math.log10(mark) <= high]
        if len(shown) > 2:
            break
    return {
        "title": {"text": "error, %", "side": "top"},
        "tickvals": [math.log10(mark) for mark in shown],
        "ticktext": [f"{mark:g}" for mark in shown],
        "thickness": 14,
        "outlinewidth": 0,
    }


def _draw_way(drawing: go.Figure, way: Way) -> None:
    """A white line under the coloured one keeps it visible on every colour of the surface."""
    style = theme.style(way.init)
    drawing.add_scatter(
        x=way.x,
        y=way.y,
        mode="lines",
        line={"color": HALO, "width": 6},
        hoverinfo="skip",
        showlegend=False,
    )
    drawing.add_scatter(
        x=way.x,
        y=way.y,
        mode="lines+markers",
        name=f"{way.end}: {way.label} ({100 * way.explained:.0f} % of its movement)",
        line={"color": style.colour, "width": 2.5, "dash": "solid" if way.end == "A" else "dash"},
        marker=_markers(way, len(way.x)),
        customdata=list(zip(way.names, way.errors, strict=True)),
        hovertemplate=f"{way.end}, end of %{{customdata[0]}}<br>"
        "<b>%{customdata[1]:.3g} %</b> of the whole layer<extra></extra>",
    )


def _markers(way: Way, shown: int) -> dict[str, Any]:
    """An open square where it starts, its initialiser's marker where it is."""
    style = theme.style(way.init)
    last = len(way.x[:shown]) - 1
    symbols = ["square-open" if i == 0 else style.symbol for i in range(shown)]
    sizes = [13 if i in {0, last} else 5 for i in range(shown)]
    return {
        "symbol": symbols[: last + 1],
        "size": sizes[: last + 1],
        "color": style.colour,
        "line": {"width": 1.5, "color": HALO},
    }


def _draw_frames(drawing: go.Figure, ways: tuple[Way, ...]) -> None:
    """Frame n shows both runs up to their n-th phase."""
    first = len(drawing.data) - 2 * len(ways)
    length = max(len(way.x) for way in ways)
    frames = []
    for shown in range(1, length + 1):
        data = []
        for way in ways:
            line = {"x": way.x[:shown], "y": way.y[:shown]}
            data += [go.Scatter(line), go.Scatter(**line, marker=_markers(way, shown))]
        traces = list(range(first, first + len(data)))
        frames.append(go.Frame(name=str(shown), data=data, traces=traces))
    drawing.frames = frames
    longest = max(ways, key=lambda way: len(way.x))
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}}
    drawing.update_layout(
        sliders=[
            {
                "active": length - 1,
                "currentvalue": {"prefix": "after: ", "font": {"size": 13}},
                "pad": {"t": 36, "b": 4},
                "x": 0.12,
                "len": 0.86,
                "steps": [
                    {"label": name, "method": "animate", "args": [[str(n + 1)], still]}
                    for n, name in enumerate(longest.names)
                ],
                "font": {"size": 10, "color": theme.GREY},
            }
        ],
        updatemenus=[_play()],
    )


def _play() -> dict[str, Any]:
    moving = {"fromcurrent": False, "frame": {"duration": 600, "redraw": False}}
    return {
        "type": "buttons",
        "showactive": False,
        "x": 0,
        "y": 0,
        "xanchor": "left",
        "yanchor": "top",
        "pad": {"t": 44},
        "bgcolor": "rgba(128, 134, 144, 0.25)",
        "buttons": [{"label": "Play", "method": "animate", "args": [None, moving]}],
    }
