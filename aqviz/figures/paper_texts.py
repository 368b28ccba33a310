"""WikiText-2 against C4: where the paper's models lose, text by text.

Both axes are perplexities. The dotted line has the unquantized model's ratio of the two: a model
that lost as much on both texts would lie on it. Hollow before PV-tuning, full after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go

from aqviz import theme
from aqviz.paper import LLAMA, RUNS, UNQUANTIZED, Run

HEIGHT = 420


class Place(NamedTuple):
    """One model at one time, with its perplexities on both texts and their ratio."""

    init: str
    name: str
    tuned: bool
    c4: float
    wiki: float
    ratio: float


@dataclass(frozen=True)
class TextsView:
    """The paper's models, the line of equal loss, the figure in a sentence, its numbers."""

    places: tuple[Place, ...]
    line: tuple[tuple[float, float], tuple[float, float]]
    alt: str
    table: theme.Table


def view_texts(runs: Sequence[Run] = RUNS) -> TextsView:
    """Every model with both perplexities printed."""
    places = [_place(run, run.before.c4, run.before.wiki, tuned=False) for run in runs]
    places += [
        _place(run, run.c4_after, run.after, tuned=True) for run in runs if run.c4_after is not None
    ]
    whole = UNQUANTIZED[LLAMA]
    equal = whole.wiki / whole.c4
    ends = min(place.c4 for place in places), max(place.c4 for place in places)
    table = theme.Table(
        ("initialiser", "model and search", "tuned", "C4", "WikiText-2", "WikiText-2 / C4"),
        tuple((p.init, p.name, "yes" if p.tuned else "no", *p[3:]) for p in places),
    )
    line = (ends, (equal * ends[0], equal * ends[1]))
    return TextsView(tuple(places), line, _alt(places, equal), table)


def draw_texts(view: TextsView) -> go.Figure:
    """C4 across, WikiText-2 upwards."""
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    drawing.add_scatter(
        x=view.line[0],
        y=view.line[1],
        mode="lines",
        name="the unquantized model's ratio",
        line={"color": theme.GREY, "width": 1.4, "dash": "dot"},
        hoverinfo="skip",
    )
    for init in dict.fromkeys(place.init for place in view.places):
        for tuned in (False, True):
            mine = [p for p in view.places if (p.init, p.tuned) == (init, tuned)]
            _draw(drawing, init, mine, tuned=tuned)
    drawing.update_xaxes(theme.log_axis([p.c4 for p in view.places]), title_text="C4 perplexity")
    wikis = [*view.line[1], *(p.wiki for p in view.places)]
    drawing.update_yaxes(theme.log_axis(wikis), title_text="WikiText-2 perplexity")
    return drawing


def _place(run: Run, c4: float, wiki: float, *, tuned: bool) -> Place:
    name = f"{run.model}, {run.bits} bits, {run.settings}"
    return Place(run.init, name, tuned, c4, wiki, round(wiki / c4, 2))


def _alt(places: Sequence[Place], equal: float) -> str:
    def worst(init: str) -> Place:
        return max((p for p in places if p.init == init), key=lambda p: p.ratio)

    greedy, oa_em = worst("greedy"), worst("oa-em")
    return (
        f"WikiText-2 perplexity is up to {greedy.ratio:.3g} times C4's with greedy "
        f"({greedy.name}) and up to {oa_em.ratio:.3g} times with OA-EM; the unquantized model has "
        f"{equal:.2f}."
    )


def _draw(drawing: go.Figure, init: str, places: Sequence[Place], *, tuned: bool) -> None:
    style = theme.style(init)
    drawing.add_scatter(
        x=[place.c4 for place in places],
        y=[place.wiki for place in places],
        mode="markers",
        name=f"{style.label}, {'after' if tuned else 'before'} tuning",
        text=[place.name for place in places],
        marker={
            "symbol": style.symbol if tuned else f"{style.symbol}-open",
            "size": 10,
            "color": style.colour,
            "line": {"width": 1.8},
        },
        hovertemplate=(
            f"{style.label}, %{{text}}<br>WikiText-2 <b>%{{y:.2f}}</b>, C4 <b>%{{x:.2f}}</b>"
            "<extra></extra>"
        ),
    )
