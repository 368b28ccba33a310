"""Quality against time, wider and wider beams: the paper's Table 16, and our layer's frontier.

Further down and further left is better. The paper's points are whole models after PV-tuning; ours
are one layer's held-out error in seconds, under the same beam search. Each has its own axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aqviz import theme
from aqviz.evidence import BEAM, END, Case, cases
from aqviz.paper import RUNS, Run, small_two_bits
from quantcore.results import Document

HEIGHT = 330
EPOCHS = 100  # the paper's curve; its run of 5 epochs stands alone


class Point(NamedTuple):
    """One setting of one initialiser: its time, its loss (perplexity, or percent of output)."""

    init: str
    name: str
    time: float
    loss: float
    curve: bool


@dataclass(frozen=True)
class ParetoView:
    """The paper's points, ours, and the figure in a sentence.

    Attributes:
        paper: Hours and WikiText-2 perplexity.
        ours: Seconds and held-out error in percent, means over seeds.
        layer: Of ours.
        alt: The figure in a sentence.
        table: Its numbers.
    """

    paper: tuple[Point, ...]
    ours: tuple[Point, ...]
    layer: str
    alt: str
    table: theme.Table


def view_pareto(frontier: Document | None, runs: Sequence[Run] = RUNS) -> ParetoView:
    """The paper's models beside the first layer of a survey over beams."""
    paper = tuple(_paper_point(run) for run in runs if small_two_bits(run))
    found = {case: made for case, made in cases(frontier).items() if case.search == BEAM}
    layer = next((case.layer for case in found), "")
    scheme = next((case.scheme for case in found), None)
    ours = tuple(
        point
        for case, made in sorted(found.items(), key=lambda item: item[0].beam)
        if (case.layer, case.scheme) == (layer, scheme)
        for point in _points(case, made)
    )
    rows = [("paper", *point[:4]) for point in paper] + [(layer, *point[:4]) for point in ours]
    columns = ("where", "initialiser", "search", "hours (paper), seconds", "loss")
    return ParetoView(paper, ours, layer, _alt(paper, ours), theme.Table(columns, tuple(rows)))


def draw_pareto(view: ParetoView) -> go.Figure:
    """One panel above the other, so that a phone shows both."""
    panels = [panel for panel in (view.paper, view.ours) if panel]
    if not panels:
        return theme.message("Nothing has been recorded.")
    drawing = make_subplots(rows=len(panels), vertical_spacing=0.2 if len(panels) > 1 else 0)
    drawing.update_layout(theme.figure(view.alt, HEIGHT * len(panels), view.table).layout)
    for number, panel in enumerate(panels, start=1):
        for init in dict.fromkeys(point.init for point in panel):
            mine = [point for point in panel if point.init == init]
            _draw(drawing, init, mine, number)
        losses = [point.loss for point in panel]
        times = [point.time for point in panel]
        theirs = panel is view.paper
        drawing.update_xaxes(
            theme.log_axis(times),
            title_text="hours on one A100, the paper" if theirs else "seconds, our layer",
            row=number,
            col=1,
        )
        drawing.update_yaxes(
            theme.log_axis(losses),
            title_text="WikiText-2 perplexity" if theirs else "held-out error, %",
            row=number,
            col=1,
        )
    return drawing


def _paper_point(run: Run) -> Point:
    return Point(run.init, run.settings, run.hours or 0.0, run.after, run.epochs == EPOCHS)


def _points(case: Case, runs: Sequence[Document]) -> list[Point]:
    """One point an initialiser: means over its seeds."""
    made = []
    for init in dict.fromkeys(run["init"] for run in runs):
        mine = [run for run in runs if run["init"] == init]
        time = sum(run["seconds"]["total"] for run in mine) / len(mine)
        loss = 100 * sum(run[END] for run in mine) / len(mine)
        made.append(Point(init, f"beam {case.beam}", time, loss, curve=True))
    return made


def _alt(paper: Sequence[Point], ours: Sequence[Point]) -> str:
    if not paper:
        return "Nothing has been recorded."
    narrow = min((p for p in paper if p.init == "oa-em" and p.curve), key=lambda p: p.time)
    wide = max((p for p in paper if p.init == "greedy" and p.curve), key=lambda p: p.time)
    told = (
        f"In the paper OA-EM with {narrow.name} reaches {narrow.loss} in {narrow.time} hours and "
        f"greedy with {wide.name} {wide.loss} in {wide.time}"
    )
    if not ours:
        return f"{told}; we have no recorded frontier yet."
    best = {
        init: min((p for p in ours if p.init == init), key=lambda p: p.loss)
        for init in dict.fromkeys(p.init for p in ours)
    }
    each = ", ".join(
        f"{theme.style(init).label} {p.loss:.3g} % at {p.name} in {p.time:.3g} s"
        for init, p in best.items()
    )
    return f"{told}; the best on our layer: {each}."


def _draw(drawing: go.Figure, init: str, points: Sequence[Point], panel: int) -> None:
    style = theme.style(init)
    for curve in (True, False):
        mine = [point for point in points if point.curve == curve]
        drawing.add_scatter(
            x=[point.time for point in mine],
            y=[point.loss for point in mine],
            mode="lines+markers" if curve else "markers",
            name=style.label,
            legendgroup=init,
            showlegend=curve and panel == 1,
            text=[point.name for point in mine],
            line={"color": style.colour, "width": 2, "dash": style.dash},
            marker={
                "symbol": style.symbol if curve else f"{style.symbol}-open",
                "size": 10,
                "color": style.colour,
            },
            hovertemplate=(
                f"{style.label}, %{{text}}<br><b>%{{y:.4g}}</b> in %{{x:.3g}}<extra></extra>"
            ),
            row=panel,
            col=1,
        )
