"""Many starts of one layer: the error each begins with against the error it ends with.

If the start decided the end, the points would rise from left to right. The paper's title as a
statement that can come out false.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import theme

HEIGHT = 400


@dataclass(frozen=True)
class Cloud:
    """The starts of one initialiser at one strength of noise; errors in percent."""

    init: str
    noise: float
    first: tuple[float, ...]
    last: tuple[float, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class StartsView:
    """Every cloud, and what the rank correlations say."""

    clouds: tuple[Cloud, ...]
    text: str
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a start."""
        columns = ("initialiser", "noise", "seed", "error after the start, %", "at the end, %")
        return theme.Table(
            columns,
            tuple(
                (theme.style(c.init).label, c.noise, *point)
                for c in self.clouds
                for point in zip(c.seeds, c.first, c.last, strict=True)
            ),
        )


def view_starts(document: dict[str, Any] | None, text: str) -> StartsView:
    """The starts of a document so far, on "calibration" or "heldout" text."""
    entries = (document or {}).get("starts") or []
    name = "relative_error" if text == "calibration" else "heldout_relative_error"
    entries = [entry for entry in entries if entry[name] is not None]
    if not document or not entries:
        return StartsView((), text, "Many starts: no data yet.")
    clouds = []
    for init, noise in dict.fromkeys((e["init"], e["noise"]) for e in entries):
        mine = [e for e in entries if (e["init"], e["noise"]) == (init, noise)]
        first = tuple(100 * e[f"init_{name}"] for e in mine)
        last = tuple(100 * e[name] for e in mine)
        clouds.append(Cloud(init, noise, first, last, tuple(e["seed"] for e in mine)))
    return StartsView(tuple(clouds), text, _alt(document["correlation"][text]))


def draw_starts(view: StartsView) -> go.Figure:
    """Last error over first, both on log axes; the stronger the noise the smaller the marker."""
    if not view.clouds:
        return theme.message("Points appear as the starts are run.", HEIGHT)
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    noises = sorted({cloud.noise for cloud in view.clouds})
    for cloud in view.clouds:
        style = theme.style(cloud.init)
        noisy = cloud.noise > 0
        drawing.add_scatter(
            x=cloud.first,
            y=cloud.last,
            mode="markers",
            name=f"{style.label}{f', noise {cloud.noise:g}' if noisy else ''}",
            marker={
                "symbol": style.symbol + ("-open" if noisy else ""),
                "size": 12 - 3 * noises.index(cloud.noise) / max(1, len(noises) - 1),
                "color": style.colour,
                "line": {"width": 1.8, "color": style.colour},
            },
            customdata=cloud.seeds,
            hovertemplate=f"{style.label}, seed %{{customdata}}, noise {cloud.noise:g}<br>"
            "from %{x:.3g} % to <b>%{y:.4g} %</b><extra></extra>",
        )
    firsts = [value for cloud in view.clouds for value in cloud.first]
    lasts = [value for cloud in view.clouds for value in cloud.last]
    drawing.update_xaxes(theme.log_axis(firsts), title_text="error after initialisation, %")
    drawing.update_yaxes(theme.log_axis(lasts), title_text="error at the end, %")
    return drawing


def _alt(found: dict[str, Any]) -> str:
    told = [f"over all {found['overall']['runs']} starts {_rank(found['overall'])}"]
    for init, one in found["within"].items():
        told.append(f"within {theme.style(init).label} {_rank(one)}")
    return "Rank correlation of first and last error: " + "; ".join(told) + "."


def _rank(found: dict[str, Any]) -> str:
    if found["spearman"] is None:
        return f"none ({found['why']})"
    words = f"{found['spearman']:.2f} (95 % interval {found['low']:.2f} to {found['high']:.2f})"
    if found["low"] <= 0 <= found["high"]:
        words += ", so none is shown"
    return words.replace("-", "−")
