"""Codeword usage: whether a codebook's words share the work.

Words of each codebook are ranked by how many groups use them, most used first; with several seeds
the counts at each rank are averaged. A flat line at N / K would be perfectly even use; a word that
nothing uses is a wasted one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from quantcore.results import complete

HEIGHT = 330
POINTS = 160  # ranks drawn at most; codebooks of 65,536 words are thinned evenly on the log axis


@dataclass(frozen=True)
class Ranks:
    """One codebook of one initialiser.

    Attributes:
        init: The initialiser.
        book: Which codebook, from 0.
        ranks: 1 for the most used word.
        counts: Groups that use the word of that rank, all above zero.
        used: Words used at least once.
        effective: exp(entropy): as many words, used evenly, would carry as much.
    """

    init: str
    book: int
    ranks: tuple[int, ...]
    counts: tuple[float, ...]
    used: float
    effective: float


@dataclass(frozen=True)
class UsageView:
    """Every codebook of every initialiser, even use, and the figure in a sentence."""

    lines: tuple[Ranks, ...]
    books: int
    even: float
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a drawn rank of a codebook."""
        columns = ("initialiser", "codebook", "rank", "groups using it")
        return theme.Table(
            columns,
            tuple(
                (theme.style(line.init).label, line.book + 1, *point)
                for line in self.lines
                for point in zip(line.ranks, line.counts, strict=True)
            ),
        )


def view_usage(document: dict[str, Any] | None) -> UsageView:
    """Usage in the finished runs of a document."""
    runs = complete(document)
    if not document or not runs:
        return UsageView((), 0, 0.0, "Codeword usage: no data.")
    books = len(runs[0]["usage"])
    lines = []
    for init in dict.fromkeys(run["init"] for run in runs):
        mine = [run["usage"] for run in runs if run["init"] == init]
        lines += [_ranks(init, book, [usage[book] for usage in mine]) for book in range(books)]
    size = len(runs[0]["usage"][0])
    return UsageView(tuple(lines), books, document["groups"] / size, _alt(lines, size))


def draw_usage(view: UsageView) -> go.Figure:
    """One panel a codebook."""
    if not view.lines:
        return theme.message("Usage appears when the first initialiser has finished.", HEIGHT)
    titles = [f"codebook {book + 1}" for book in range(view.books)]
    drawing = make_subplots(cols=view.books, shared_yaxes=True, subplot_titles=titles)
    drawing.update_layout(theme.figure(view.alt, HEIGHT, view.table).layout, legend={"y": 1.12})
    for line in view.lines:
        _draw_ranks(drawing, line)
    drawing.add_hline(y=view.even, line={"color": theme.GREY, "width": 1.5, "dash": "dot"})
    drawing.update_xaxes(type="log", dtick=1)
    drawing.update_xaxes(title_text="rank of the word")
    drawing.update_yaxes(theme.log_axis([count for line in view.lines for count in line.counts]))
    drawing.update_yaxes(title_text="groups using it", col=1)
    drawing.update_annotations(font={"size": 13})
    return drawing


def effective_words(counts: Sequence[int | float]) -> float:
    """Words that, used evenly, would have the same entropy as these counts."""
    total = sum(counts)
    shares = [count / total for count in counts if count > 0]
    return math.exp(-sum(share * math.log(share) for share in shares))


def _ranks(init: str, book: int, seeds: list[list[int]]) -> Ranks:
    counts = [sum(same) / len(seeds) for same in zip(*seeds, strict=True)]
    seen = [count for count in counts if count > 0]
    kept = _thin(len(seen))
    return Ranks(
        init=init,
        book=book,
        ranks=tuple(rank + 1 for rank in kept),
        counts=tuple(seen[rank] for rank in kept),
        used=sum(sum(count > 0 for count in usage) for usage in seeds) / len(seeds),
        effective=effective_words(counts),
    )


def _thin(length: int) -> list[int]:
    if length <= POINTS:
        return list(range(length))
    steps = [round(math.exp(i / (POINTS - 1) * math.log(length))) - 1 for i in range(POINTS)]
    return sorted(set(steps))


def _alt(lines: list[Ranks], size: int) -> str:
    told = [
        f"{theme.style(line.init).label}, codebook {line.book + 1}: {line.used:.0f} of {size} used"
        for line in lines
    ]
    return "Codeword usage by rank. " + "; ".join(told) + "."


def _draw_ranks(drawing: go.Figure, line: Ranks) -> None:
    style = theme.style(line.init)
    drawing.add_scatter(
        x=line.ranks,
        y=line.counts,
        mode="lines+markers",
        name=style.label,
        legendgroup=line.init,
        showlegend=line.book == 0,
        line={"color": style.colour, "dash": style.dash, "width": 2.5},
        marker={"symbol": style.symbol, "size": 8, "maxdisplayed": 6},
        hovertemplate=f"{style.label}<br>rank %{{x}}: <b>%{{y:.0f}}</b> groups<extra></extra>",
        row=1,
        col=line.book + 1,
    )
