"""The ruler: rho of every layer of known models under one scheme, and a small layer's stand-ins.

The line at 1 is where a layer has as many groups as the codebooks have sums. The hexagon marks the
layer that is looked at; the last row holds schemes that give a layer of the small model nearly the
same rho.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go

from aqviz import theme
from aqviz.shapes import LAYERS, MODELS, Choice, shape
from quantcore.weight import Scheme

ROW = 36
SYMBOLS = dict(zip(LAYERS, ("circle", "triangle-up", "square", "diamond"), strict=True))


class Dot(NamedTuple):
    """A layer of a model and its rho."""

    model: str
    layer: str
    rho: float


@dataclass(frozen=True)
class RegimesView:
    """Every model's layers under a scheme, one of them chosen.

    Attributes:
        scheme: The scheme.
        dots: The layers.
        chosen: The one looked at.
        choices: Stand-ins on the small model's layer.
        rows: From top to bottom: the models, then the small layer's name.
        alt: The figure in a sentence.
        table: Its numbers.
    """

    scheme: str
    dots: tuple[Dot, ...]
    chosen: Dot
    choices: tuple[Choice, ...]
    rows: tuple[str, ...]
    alt: str
    table: theme.Table


def view_regimes(
    scheme: Scheme, model: str, layer: str, small: str, choices: Sequence[Choice]
) -> RegimesView:
    """The ruler for a scheme.

    Args:
        scheme: Of all models.
        model: The chosen one, of `shapes.MODELS`.
        layer: Its chosen layer, of `shapes.LAYERS`.
        small: The small layer, in words.
        choices: Its schemes.
    """
    dots = tuple(
        Dot(name, kind, scheme.rho(*shape(name, kind))) for name in MODELS for kind in LAYERS
    )
    chosen = Dot(model, layer, scheme.rho(*shape(model, layer)))
    above = sum(dot.rho > 1 for dot in dots)
    near = f"; nearest on {small}: {choices[0].scheme}, ρ {choices[0].rho:.3g}" if choices else ""
    alt = (
        f"At {scheme} ρ is above 1 in {above} of {len(dots)} kinds of layers shown; "
        f"{model}, {layer}: ρ {chosen.rho:.3g}{near}."
    )
    table = tuple((dot.model, dot.layer, str(scheme), dot.rho) for dot in dots)
    table += tuple((small, "", str(choice.scheme), choice.rho) for choice in choices)
    return RegimesView(
        scheme=str(scheme),
        dots=dots,
        chosen=chosen,
        choices=tuple(choices),
        rows=(*MODELS, small),
        alt=alt,
        table=theme.Table(("model", "layer", "scheme", "rho"), table),
    )


def draw_regimes(view: RegimesView) -> go.Figure:
    """A row for each model, a marker for each kind of layer."""
    drawing = theme.figure(view.alt, 110 + ROW * len(view.rows), view.table)
    for kind, symbol in SYMBOLS.items():
        dots = [dot for dot in view.dots if dot.layer == kind]
        drawing.add_scatter(
            x=[dot.rho for dot in dots],
            y=[dot.model for dot in dots],
            mode="markers",
            name=kind,
            marker={
                "symbol": f"{symbol}-open",
                "size": 9,
                "color": theme.GREY,
                "line": {"width": 1.6},
            },
            hovertemplate=f"%{{y}}, {kind}<br>ρ <b>%{{x:.3g}}</b><extra>{view.scheme}</extra>",
        )
    _draw_choices(drawing, view)
    drawing.add_vline(x=1, line={"color": theme.GREY, "width": 1.2, "dash": "dot"})
    drawing.add_vline(x=view.chosen.rho, line={"color": theme.GREY, "width": 1})
    every = [dot.rho for dot in view.dots] + [choice.rho for choice in view.choices] + [1.0]
    drawing.update_xaxes(theme.log_axis(every), title_text="ρ = N / K^M")
    drawing.update_yaxes(
        categoryorder="array", categoryarray=list(reversed(view.rows)), ticks="", showgrid=True
    )
    return drawing


def _draw_choices(drawing: go.Figure, view: RegimesView) -> None:
    drawing.add_scatter(
        x=[view.chosen.rho],
        y=[view.chosen.model],
        mode="markers",
        name="chosen",
        marker={"symbol": "hexagon-open", "size": 20, "line": {"width": 2.4}, "color": theme.GREY},
        hovertemplate="%{y}<br>ρ <b>%{x:.3g}</b><extra>chosen</extra>",
    )
    drawing.add_scatter(
        x=[choice.rho for choice in view.choices],
        y=[view.rows[-1]] * len(view.choices),
        mode="markers",
        name="in miniature",
        text=[str(choice.scheme) for choice in view.choices],
        marker={"symbol": "circle", "size": 9, "color": theme.GREY},
        hovertemplate="%{text}<br>ρ <b>%{x:.3g}</b><extra>in miniature</extra>",
    )
