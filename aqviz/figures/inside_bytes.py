"""What "2 bits" is: bits of a layer, of all coded layers, of the model, part by part.

Each bar divides its bytes by the weights it stands for, so all share one axis. Codes alone give the
number that papers quote; codebooks and scales belong to every layer; the file gives a code whole
bytes; and embeddings, norms and layers that the scheme does not fit stay 16 bits.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import plotly.graph_objects as go
from torch import nn

from aqviz import theme
from quantcore.blocks import LayerInfo
from quantcore.ledger import Ledger, PlannedLayer, ledger
from quantcore.weight import FLOAT_BITS, Scheme

HEIGHT = 330
PARTS = ("codes", "rest of their bytes", "codebooks", "scales", "stays dense")
COLOURS = ("#2b4a7f", "#6f7688", "#9d936f", "#e8d25a", "#b9bdc4")


@dataclass(frozen=True)
class Bar:
    """One bar: its name, the weights it stands for, and the bits of each part."""

    name: str
    weights: int
    bits: tuple[int, ...]

    @property
    def mean(self) -> float:
        """All its bits over its weights."""
        return sum(self.bits) / self.weights


@dataclass(frozen=True)
class BytesView:
    """The bars from the quoted number to the dense model, and layers that stay dense."""

    bars: tuple[Bar, ...]
    scheme: Scheme
    dense: int

    @property
    def alt(self) -> str:
        """The figure in a sentence."""
        quoted, layer, coded, model, before = (bar.mean for bar in self.bars)
        left = f"; {self.dense} of its layers stay dense" if self.dense else ""
        return (
            f"Scheme {self.scheme}: {quoted:.2f} bits a weight as papers count, {layer:.2f} in "
            f"this layer with codebooks and scales, {coded:.2f} over all coded layers as "
            f"stored, {model:.2f} bits a parameter over the whole model, against {before:.0f}"
            f"{left}."
        )

    @property
    def table(self) -> theme.Table:
        """Bytes and bits."""
        columns = ("counted", "weights", *(f"{part}, bytes" for part in PARTS), "bits each")
        rows = tuple(
            (bar.name, bar.weights, *(bits // 8 for bits in bar.bits), bar.mean)
            for bar in self.bars
        )
        return theme.Table(columns, rows)


def view_bytes(
    scheme: Scheme, layer: LayerInfo, model: nn.Module, planned: Iterable[PlannedLayer]
) -> BytesView:
    """The bits of a layer and of its model.

    Args:
        scheme: The layer's.
        layer: The layer.
        model: The model, weights or shapes only.
        planned: What becomes of its layers.

    Raises:
        SchemeError: the scheme does not fit the layer.
    """
    scheme.check(layer.out, layer.columns)
    planned = tuple(planned)
    alone = nn.Linear(layer.columns, layer.out, bias=False, device="meta")
    one, all_of_it = ledger(alone, (PlannedLayer(layer, scheme),)), ledger(model, planned)
    before = all_of_it.parameters * FLOAT_BITS
    bars = (
        Bar("codes alone", one.quantized, (one.codes, 0, 0, 0, 0)),
        Bar("this layer", one.quantized, _parts(one)),
        Bar("coded layers", all_of_it.quantized, (*_parts(all_of_it)[:-1], 0)),
        Bar("whole model", all_of_it.parameters, _parts(all_of_it)),
        Bar("model before", all_of_it.parameters, (0, 0, 0, 0, before)),
    )
    return BytesView(bars, scheme, sum(one.scheme is None for one in planned))


def draw_bytes(view: BytesView) -> go.Figure:
    """One stacked bar a way of counting."""
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    names = [bar.name for bar in view.bars]
    for i, (part, colour) in enumerate(zip(PARTS, COLOURS, strict=True)):
        if not any(bar.bits[i] for bar in view.bars):
            continue
        drawing.add_bar(
            y=names,
            x=[bar.bits[i] / bar.weights for bar in view.bars],
            name=part,
            orientation="h",
            marker={"color": colour, "line": {"color": theme.GREY, "width": 1}},
            customdata=[size(bar.bits[i]) for bar in view.bars],
            hovertemplate=f"%{{y}}, {part}<br><b>%{{x:.3f}}</b> bits each, %{{customdata}}"
            "<extra></extra>",
        )
    drawing.update_layout(barmode="stack", bargap=0.35, legend={"traceorder": "normal"})
    totals = [f"{bar.name} <b>{bar.mean:.2f}</b> " for bar in view.bars]
    drawing.update_yaxes(
        tickvals=names, ticktext=totals, autorange="reversed", showgrid=False, ticks=""
    )
    drawing.update_xaxes(title_text="bits a weight")
    return drawing


def size(bits: int) -> str:
    """Bits as bytes, in the unit people say.

    >>> size(8 * 82_944), size(16_000_000)
    ('82.9 kB', '2 MB')
    """
    count = bits / 8
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def _parts(found: Ledger) -> tuple[int, ...]:
    padding = found.stored - found.codes
    return found.codes, padding, found.codebooks, found.scales, found.dense
