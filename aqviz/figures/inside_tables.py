r"""One output by look-up: tables of products made from the input, then a sum of entries.

For group j of the input x every codebook gives a table of K products,

    T_m[j, k] = x_j . C_m[k]        y_o = s_o sum over j and m of T_m[j, codes[o, j, m]]

made once for all rows. A row then looks up one entry a code and adds; its scale is its only
multiplication. The figure shows a group's tables with the entries its codes pick, and the sum so
far beside that of the dense row w.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from aqviz import theme
from aqviz.figures.inside_map import add_ring
from quantcore.weight import AdditiveWeight

HEIGHT = 480


@dataclass(frozen=True)
class TablesView:
    """A step of one row's product.

    Attributes:
        init: Whose codes.
        row: o.
        step: j, the group that is being added.
        tables: T of this group, [books, size] as float32.
        codes: What this group looks up, one code a book.
        entries: T_m[j, code] of every group and book.
        sums: s_o times the sum up to and with each group.
        dense: The same of the dense row.
        every: The codes of every group.
    """

    init: str
    row: int
    step: int
    tables: Any
    codes: tuple[int, ...]
    entries: tuple[tuple[float, ...], ...]
    sums: tuple[float, ...]
    dense: tuple[float, ...]
    every: tuple[tuple[int, ...], ...]

    @property
    def alt(self) -> str:
        """The step in a sentence."""
        found = [
            f"{entry:.4f} at {code} in table {m + 1}"
            for m, (code, entry) in enumerate(zip(self.codes, self.entries[self.step], strict=True))
        ]
        so_far, dense = self.sums[self.step], self.dense[self.step]
        words = (
            f"group {self.step} of {len(self.sums)}: finds {' and '.join(found)}; the sum so far, "
            f"scaled, is {so_far:.4f}, the dense row's {dense:.4f}, and at the end "
            f"{self.sums[-1]:.4f} and {self.dense[-1]:.4f}."
        )
        return f"Row {self.row} with {theme.style(self.init).label}, {words.replace('-', '−')}"

    @property
    def table(self) -> theme.Table:
        """One row a group."""
        books = range(1, 1 + len(self.codes))
        columns = ["group"]
        for m in books:
            columns += [f"code {m}", f"entry of table {m}"]
        rows = []
        for j, (codes, entries) in enumerate(zip(self.every, self.entries, strict=True)):
            pairs = [value for pair in zip(codes, entries, strict=True) for value in pair]
            rows.append((j, *pairs, self.sums[j], self.dense[j]))
        return theme.Table((*columns, "sum so far × scale", "dense sum so far"), tuple(rows))


def view_tables(
    original: Float[Tensor, " columns"],
    inputs: Float[Tensor, " columns"],
    weight: AdditiveWeight,
    init: str,
    row: int,
    step: int,
) -> TablesView:
    """The product of one row at a group.

    Args:
        original: The dense row.
        inputs: x.
        weight: The quantized rows.
        init: Whose they are.
        row: Which of them.
        step: The group that is being added.
    """
    groups = inputs.unflatten(0, (-1, weight.scheme.group))
    tables = torch.einsum("jg,mkg->jmk", groups, weight.codebooks)
    codes = weight.codes[row].long()
    entries = tables.gather(2, codes[:, :, None]).squeeze(2)  # [groups, books]
    sums = weight.scales[row] * entries.sum(1).cumsum(0)
    dense = (original * inputs).unflatten(0, groups.shape).sum(1).cumsum(0)
    every = tuple(tuple(one) for one in codes.tolist())
    return TablesView(
        init=init,
        row=row,
        step=step,
        tables=theme.floats(tables[step]),
        codes=every[step],
        entries=tuple(tuple(one) for one in entries.tolist()),
        sums=tuple(sums.tolist()),
        dense=tuple(dense.tolist()),
        every=every,
    )


def draw_tables(view: TablesView) -> go.Figure:
    """The tables of the step above, the sums below: full up to the step, pale after it."""
    drawing = make_subplots(rows=2, row_heights=[0.36, 0.64], vertical_spacing=0.2)
    drawing.update_layout(theme.figure(view.alt, HEIGHT, view.table).layout)
    books = len(view.codes)
    drawing.add_heatmap(
        z=view.tables,
        zmid=0,
        colorscale=theme.DIVERGING,
        colorbar={"thickness": 12, "len": 0.4, "y": 1, "yanchor": "top", "nticks": 4, "xpad": 4},
        hovertemplate="table %{y}, entry %{x}<br>x · word = <b>%{z:.4f}</b><extra></extra>",
        row=1,
        col=1,
    )
    for m, code in enumerate(view.codes):
        add_ring(drawing, code, m, row=1, col=1)
    _draw_sums(drawing, view)
    drawing.update_yaxes(
        tickvals=list(range(books)),
        ticktext=[f"table {m + 1}" for m in range(books)],
        autorange="reversed",
        showgrid=False,
        row=1,
    )
    drawing.update_xaxes(title_text="entry = code", showgrid=False, row=1)
    drawing.update_xaxes(title_text="group of inputs", row=2)
    drawing.update_yaxes(title_text="sum so far", zeroline=True, row=2)
    return drawing


def _draw_sums(drawing: go.Figure, view: TablesView) -> None:
    style = theme.style(view.init)
    groups, done = list(range(len(view.sums))), view.step + 1
    lines = (
        ("dense row", view.dense, {"color": theme.GREY, "width": 2, "dash": "dot"}),
        ("from tables", view.sums, {"color": style.colour, "width": 2.5}),
    )
    for name, sums, line in lines:
        for share, x, y in ((1.0, groups[:done], sums[:done]), (0.25, groups, sums)):
            drawing.add_scatter(
                x=x,
                y=theme.floats(y),
                mode="lines",
                name=name,
                opacity=share,
                showlegend=share == 1,
                line=line,
                hovertemplate=f"{name}, up to group %{{x}}: <b>%{{y:.4f}}</b><extra></extra>",
                row=2,
                col=1,
            )
    drawing.add_scatter(
        x=[view.step],
        y=[view.sums[view.step]],
        mode="markers",
        marker={"symbol": style.symbol, "color": style.colour, "size": 11},
        showlegend=False,
        hoverinfo="skip",
        row=2,
        col=1,
    )
