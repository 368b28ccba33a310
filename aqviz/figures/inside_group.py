r"""One group from each initialiser, on the same axes: its words, their sum, and what was to be met.

The group of row o and inputs j is written q = s_o (C_1[k_1] + ... + C_M[k_M]). Bars are the words
C_m[k_m] times the row's scale s_o, so that they add up to q; the open marker is the weight w they
stand for. The lower panel is the error d = w - q of each weight.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from aqviz import theme
from quantcore.weight import AdditiveWeight

HEIGHT = 520
BOOKS = ("#8E5BBF", "#9a7b1c", "#3a8f9c", "#C2478B")  # a codebook's colour, wherever it is shown
ASIDE = 0.16  # between the stems of two initialisers, of the distance between weights
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Coded:
    """A group as one initialiser has it.

    Attributes:
        init: The initialiser.
        codes: k_m, one a codebook.
        bits: Bits of one code.
        words: C_m[k_m], each of the group's size.
        scale: s_o.
        coded: q.
        error: d = w - q.
        pull: H_jj d.
        own: d H_jj d^T.
    """

    init: str
    codes: tuple[int, ...]
    bits: int
    words: tuple[Numbers, ...]
    scale: float
    coded: Numbers
    error: Numbers
    pull: Numbers
    own: float

    @property
    def miss(self) -> float:
        """The root mean square of d."""
        return math.sqrt(sum(d * d for d in self.error) / len(self.error))

    @property
    def sums(self) -> Numbers:
        """The words' sum, before the scale."""
        return tuple(sum(words) for words in zip(*self.words, strict=True))


@dataclass(frozen=True)
class GroupView:
    """A group before and after, from every initialiser.

    Attributes:
        row: o.
        group: j.
        original: w.
        block: H_jj, row by row.
        energy: w H_jj w^T, the error of putting zeros there.
        versions: What became of it.
    """

    row: int
    group: int
    original: Numbers
    block: tuple[Numbers, ...]
    energy: float
    versions: tuple[Coded, ...]

    @property
    def alt(self) -> str:
        """The figure in a sentence."""
        told = [
            f"{theme.style(one.init).label} uses words {' and '.join(map(str, one.codes))}, misses "
            f"a weight by {one.miss:.3g} (root mean square) and loses {self.share(one):.1%}"
            for one in self.versions
        ]
        words = (
            f"Row {self.row}, group {self.group}, alone {self.energy:.3g} of the output's mean "
            f"square: {'; '.join(told)}."
        )
        return words.replace("%", " %")

    @property
    def table(self) -> theme.Table:
        """Every number, one row a weight."""
        columns = ["input", "original"]
        for one in self.versions:
            label = theme.style(one.init).label
            words = [f"word {m + 1}" for m in range(len(one.words))]
            columns += [f"{label}: {name}" for name in (*words, "times scale", "error")]
        rows = []
        for i, original in enumerate(self.original):
            row = [self.group * len(self.original) + i, original]
            for one in self.versions:
                row += [*(word[i] for word in one.words), one.coded[i], one.error[i]]
            rows.append(tuple(row))
        return theme.Table(tuple(columns), tuple(rows))

    def share(self, one: Coded) -> float:
        """The group's error over its energy."""
        return one.own / self.energy if self.energy else 0.0


def view_group(
    weight: Float[Tensor, "rows columns"],
    block: Float[Tensor, "group group"],
    versions: Mapping[str, AdditiveWeight],
    row: int,
    group: int,
) -> GroupView:
    """The group `group` of row `row`; `block` is its diagonal block of the Hessian."""
    size = len(block)
    original = weight[row, group * size : (group + 1) * size]
    return GroupView(
        row=row,
        group=group,
        original=_numbers(original),
        block=tuple(map(_numbers, block)),
        energy=(original @ block @ original).item(),
        versions=tuple(
            _coded(init, one, original, block, row, group) for init, one in versions.items()
        ),
    )


def draw_group(view: GroupView) -> go.Figure:
    """Words, sum and original in a panel an initialiser; errors below, side by side."""
    if not view.versions:
        return theme.message("There is no quantized weight to open.", HEIGHT)
    titles = [theme.style(one.init).label for one in view.versions]
    drawing = make_subplots(
        rows=2,
        cols=len(titles),
        specs=[[{}] * len(titles), [{"colspan": len(titles)}, *[None] * (len(titles) - 1)]],
        row_heights=[0.66, 0.34],
        vertical_spacing=0.17,
        horizontal_spacing=0.04,
        subplot_titles=[*titles, "error of each weight"],
    )
    drawing.update_layout(
        theme.figure(view.alt, HEIGHT, view.table).layout,
        barmode="group",
        legend={"y": 1.08, "entrywidth": 76},
    )
    for column, one in enumerate(view.versions):
        _draw_words(drawing, view, one, column)
        _draw_errors(drawing, one, ASIDE * (column - (len(titles) - 1) / 2))
    drawing.update_yaxes(zeroline=True, zerolinecolor=theme.GREY)
    drawing.update_yaxes(matches="y", row=1)
    drawing.update_yaxes(showticklabels=False, row=1, col=2)
    drawing.update_yaxes(title_text="weight", row=1, col=1)
    drawing.update_yaxes(title_text="w − q", row=2, col=1)
    entries = list(range(len(view.original)))
    first = view.group * len(entries)
    drawing.update_xaxes(tickvals=entries, ticklen=0, range=[-0.6, len(entries) - 0.4])
    drawing.update_xaxes(title_text=f"entry of the group (0 is input {first})", row=2)
    drawing.update_annotations(font={"size": 13})
    return drawing


def _coded(
    init: str,
    weight: AdditiveWeight,
    original: Tensor,
    block: Tensor,
    row: int,
    group: int,
) -> Coded:
    codes = weight.codes[row, group].tolist()
    words = [book[code] for book, code in zip(weight.codebooks, codes, strict=True)]
    coded = sum(words) * weight.scales[row]
    error = original - coded
    return Coded(
        init=init,
        codes=tuple(codes),
        bits=weight.scheme.bits,
        words=tuple(map(_numbers, words)),
        scale=weight.scales[row].item(),
        coded=_numbers(coded),
        error=_numbers(error),
        pull=_numbers(block @ error),
        own=(error @ block @ error).item(),
    )


def _numbers(values: Tensor) -> Numbers:
    return tuple(values.tolist())


def _draw_words(drawing: go.Figure, view: GroupView, one: Coded, column: int) -> None:
    place, entries = {"row": 1, "col": column + 1}, list(range(len(view.original)))
    for m, word in enumerate(one.words):
        drawing.add_bar(
            x=entries,
            y=[one.scale * value for value in word],
            name=f"word {m + 1}",
            legendgroup=f"book {m}",
            showlegend=column == 0,
            marker={"color": BOOKS[m]},
            hovertemplate=f"word {one.codes[m]} of codebook {m + 1}, scaled<br>"
            "entry %{x}: <b>%{y:.4f}</b><extra></extra>",
            **place,
        )
    style = theme.style(one.init)
    drawing.add_scatter(
        x=entries,
        y=one.coded,
        mode="markers",
        name=style.label,
        marker={"symbol": style.symbol, "color": style.colour, "size": 9},
        hovertemplate="sum × scale<br>entry %{x}: <b>%{y:.4f}</b><extra></extra>",
        **place,
    )
    drawing.add_scatter(
        x=entries,
        y=view.original,
        mode="markers",
        name="original",
        legendgroup="original",
        showlegend=column == 0,
        marker={"symbol": "line-ew-open", "color": theme.GREY, "size": 16, "line": {"width": 3}},
        hovertemplate="original<br>entry %{x}: <b>%{y:.4f}</b><extra></extra>",
        **place,
    )


def _draw_errors(drawing: go.Figure, one: Coded, aside: float) -> None:
    entries = list(range(len(one.error)))
    style = theme.style(one.init)
    drawing.add_scatter(
        x=[place + aside for place in entries],
        y=one.error,
        mode="markers",
        showlegend=False,
        marker={"symbol": style.symbol, "size": 9, "color": style.colour},
        error_y={  # a stem from the marker to zero
            "symmetric": False,
            "array": [max(-error, 0) for error in one.error],
            "arrayminus": [max(error, 0) for error in one.error],
            "width": 0,
            "thickness": 2,
        },
        customdata=entries,
        hovertemplate=f"{style.label}: error<br>entry %{{customdata}}: <b>%{{y:.4f}}</b>"
        "<extra></extra>",
        row=2,
        col=1,
    )
