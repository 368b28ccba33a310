"""Pinned runs side by side: where each initialiser ended in each, and the difference to the first.

Pins may differ in anything: layer, scheme, search, text. Left, errors on one shared axis; right,
each pin's mean error over that of the first pin with the same initialiser.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from aqviz.recordings import experiment_of
from quantcore.results import complete

ROW = 74
LETTERS = "ABCDEF"
SPREAD = 0.5  # how much of a pin's row its initialisers take


@dataclass(frozen=True)
class Dot:
    """One initialiser of one pin; errors in percent on held-out text, or calibration without it.

    Attributes:
        pin: Index of the pin.
        init: The initialiser.
        place: Position on the vertical axis.
        errors: One a seed.
        mean: Their mean.
        ratio: That over the first pin's with the same initialiser, less 1, in percent.
    """

    pin: int
    init: str
    place: float
    errors: tuple[float, ...]
    mean: float
    ratio: float | None


@dataclass(frozen=True)
class PinsView:
    """Every dot, the pins' names, and the figure in a sentence."""

    dots: tuple[Dot, ...]
    names: tuple[str, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a seed."""
        columns = ("pin", "initialiser", "seed's error, %", "mean, %", "against A, %")
        return theme.Table(
            columns,
            tuple(
                (self.names[d.pin], theme.style(d.init).label, error, d.mean, d.ratio)
                for d in self.dots
                for error in d.errors
            ),
        )


def view_pins(documents: Mapping[str, dict[str, Any]]) -> PinsView:
    """Pins in order: id -> document of an experiment."""
    names = tuple(f"{LETTERS[n]}: {_name(d)}" for n, d in enumerate(documents.values()))
    dots: list[Dot] = []
    first: dict[str, float] = {}
    for pin, document in enumerate(documents.values()):
        runs = complete(document)
        inits = list(dict.fromkeys(run["init"] for run in runs))
        for n, init in enumerate(inits):
            errors = tuple(_error(run) for run in runs if run["init"] == init)
            mean = sum(errors) / len(errors)
            base = first.setdefault(init, mean) if pin == 0 else first.get(init)
            place = pin + SPREAD * ((n + 0.5) / len(inits) - 0.5)
            ratio = None if base is None else 100 * (mean / base - 1)
            dots.append(Dot(pin, init, place, errors, mean, ratio))
    return PinsView(tuple(dots), names, _alt(dots, names))


def draw_pins(view: PinsView) -> go.Figure:
    """Errors left, differences to the first pin right."""
    if not view.dots:
        return theme.message("Pin a finished run to compare it with others.", 160)
    drawing = make_subplots(cols=2, shared_yaxes=True, horizontal_spacing=0.06)
    height = 110 + ROW * len(view.names)
    drawing.update_layout(theme.figure(view.alt, height, view.table).layout, legend={"y": 1.08})
    named: set[str] = set()
    for dot in view.dots:
        style = theme.style(dot.init)
        for column, x in ((1, dot.errors), (2, (dot.ratio,))):
            drawing.add_scatter(
                x=x,
                y=[dot.place] * len(x),
                mode="markers",
                name=style.label,
                legendgroup=dot.init,
                showlegend=column == 1 and dot.init not in named,
                marker={"color": style.colour, "symbol": style.symbol, "size": 10},
                hovertemplate=f"{view.names[dot.pin]}<br>{style.label}: <b>%{{x:.3g}} %</b>"
                "<extra></extra>",
                row=1,
                col=column,
            )
        named.add(dot.init)
    drawing.update_yaxes(
        tickvals=list(range(len(view.names))),
        ticktext=[name.replace(": ", "<br>", 1) for name in view.names],
        range=[len(view.names) - 0.5, -0.5],
        showgrid=False,
    )
    errors = [error for dot in view.dots for error in dot.errors]
    drawing.update_xaxes(theme.log_axis(errors), title_text="error at the end, %", col=1)
    drawing.update_xaxes(title_text="difference to A, %", col=2)
    drawing.add_vline(x=0, line={"color": theme.GREY, "width": 1.5}, row=1, col=2)
    return drawing


def _error(run: dict[str, Any]) -> float:
    heldout = run["heldout_relative_error"]
    return 100 * float(run["relative_error"] if heldout is None else heldout)


def _name(document: dict[str, Any]) -> str:
    config = experiment_of(document["config"])
    layer = document["layer"].removeprefix("model.layers.")
    return f"{layer}, {str(config.scheme).replace(' ', '')}, {config.search} {config.width}"


def _alt(dots: list[Dot], names: tuple[str, ...]) -> str:
    if not dots:
        return "No run is pinned."
    told = []
    for dot in dots:
        if dot.pin and dot.ratio is not None:
            way = "below" if dot.ratio < 0 else "above"
            told.append(
                f"{theme.style(dot.init).label} ends {abs(dot.ratio):.3g} % {way} A "
                f"in {LETTERS[dot.pin]}"
            )
    if not told:
        return f"{len(names)} pinned run{'s' if len(names) > 1 else ''}."
    return "; ".join(told) + "."
