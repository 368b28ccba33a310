"""Lesson 6: searching. A beam over one row of a small layer, against trying everything.

Inputs correlate, so the best word of one group depends on the words of the others. The search goes
through the groups once; each hypothesis is a whole row, and a new word of one group leaves the
groups after it as they were. Six groups with four words each have 4,096 rows of codes: few enough
to try all of them and know the optimum.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from aqviz import theme, toy
from aqviz.figures.lesson_plane import BEST, KMEANS, Array, add_lines, percent
from quantcore import beam
from quantcore.beam import BeamConfig
from quantcore.objective import LayerProblem

OUT, GROUPS, WORDS = 8, 6, 4
WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16)
HEIGHT = 620


@dataclass(frozen=True)
class Nodes:
    """Hypotheses of the tree: after which group, their error, whether they went on.

    Attributes:
        groups: How many groups have been visited.
        errors: Of the whole row over its energy.
        labels: What was chosen in words.
        kept: Whether the beam kept them.
        parents: The node each comes from; the root's is itself.
        path: Which nodes lead to the row found in the end.
    """

    groups: Array
    errors: Array
    labels: tuple[str, ...]
    kept: Array
    parents: Array
    path: Array


@dataclass(frozen=True)
class BeamView:
    """The tree of one row, and what each width finds.

    Attributes:
        width: Of the beam.
        row: Counted from 1.
        nodes: The tree.
        optimum: The row's lowest error over its energy.
        excess: For each width, the mean over rows of the error found over the lowest, less 1.
        solved: For each width, the rows whose lowest error was found.
    """

    width: int
    row: int
    nodes: Nodes
    optimum: float
    excess: tuple[float, ...]
    solved: tuple[int, ...]

    @property
    def found(self) -> float:
        """The error of the row that the beam ends with, over its energy."""
        return float(self.nodes.errors[self.nodes.path][-1])

    @property
    def alt(self) -> str:
        """The figure in one sentence."""
        last = (
            "the optimum"
            if self.found <= self.optimum * (1 + 1e-9)
            else (f"{percent(self.found / self.optimum - 1)} above the optimum")
        )
        place = WIDTHS.index(self.width)
        return (
            f"Row {self.row} ends with {percent(self.found)} of its energy lost under a beam of "
            f"{self.width}, {last}; of all {OUT} rows it brings {self.solved[place]} to their "
            f"optimum, and on average rows end {percent(self.excess[place])} above it."
        )

    @property
    def table(self) -> theme.Table:
        """What each width finds."""
        rows = zip(WIDTHS, self.excess, self.solved, strict=True)
        return theme.Table(
            ("beam width", "mean excess over the optimum", "rows solved"), tuple(rows)
        )


def view_beam(width: int, coupling: float, row: int) -> BeamView:
    """A beam of `width` on row `row` of the layer whose neighbouring inputs correlate so much."""
    problem, weight = toy.layer(coupling, WORDS, OUT, GROUPS)
    lowest, found = _ends(coupling)
    ratio = found / lowest  # [widths, rows]
    here = slice(row - 1, row)
    one = LayerProblem(problem.weight[here], problem.hessian)
    return BeamView(
        width,
        row,
        _nodes(one, toy.beam_levels(one, weight[here], width)),
        float(lowest[row - 1] / one.energy),
        tuple((ratio.mean(1) - 1).clamp_min(0).tolist()),
        tuple((ratio <= 1 + 1e-9).sum(1).tolist()),
    )


def draw_beam(view: BeamView) -> go.Figure:
    """The tree above, error against width below."""
    empty = theme.figure(view.alt, HEIGHT, view.table)
    drawing = make_subplots(rows=2, row_heights=[0.68, 0.32], vertical_spacing=0.16, figure=empty)
    _draw_tree(drawing, view)
    at = {"row": 2, "col": 1}
    drawing.add_scatter(
        x=WIDTHS,
        y=[100 * excess for excess in view.excess],
        mode="lines+markers",
        showlegend=False,
        line={"color": KMEANS, "width": 2},
        marker={"size": [11 if width == view.width else 5 for width in WIDTHS]},
        customdata=view.solved,
        hovertemplate=f"beam %{{x}}: %{{y:.3g}} % above<br>%{{customdata}} of {OUT} rows solved"
        "<extra></extra>",
        **at,
    )
    drawing.update_xaxes(title_text="beam width", tickvals=WIDTHS, **at)
    drawing.update_yaxes(title_text="mean above optimum, %", rangemode="tozero", **at)
    return drawing


def _draw_tree(drawing: go.Figure, view: BeamView) -> None:
    at = {"row": 1, "col": 1}
    nodes = view.nodes
    places = np.stack([nodes.groups, 100 * nodes.errors], 1)
    edges = np.stack([places[nodes.parents], places], 1)
    line = {"color": theme.GRID, "width": 1}
    add_lines(drawing, edges[~nodes.kept], "", line, **at)
    add_lines(drawing, edges[nodes.kept], "", {"color": theme.GREY, "width": 1.2}, **at)
    add_lines(drawing, edges[nodes.path], "the row found", {"color": KMEANS, "width": 3}, **at)
    for name, some, marker in (
        ("dropped", ~nodes.kept, {"symbol": "x-thin-open", "size": 5, "color": theme.GREY}),
        ("kept", nodes.kept, {"symbol": "circle", "size": 7, "color": KMEANS}),
    ):
        drawing.add_scatter(
            x=theme.floats(places[some, 0]),
            y=theme.floats(places[some, 1]),
            mode="markers",
            name=name,
            marker=marker,
            customdata=np.array(nodes.labels)[some],
            hovertemplate=f"{name}: %{{customdata}}<br>%{{y:.3g}} %<extra></extra>",
            **at,
        )
    drawing.add_scatter(
        x=[0, GROUPS],
        y=[100 * view.optimum] * 2,
        mode="lines",
        name="optimum",
        line={"color": BEST, "dash": "dash", "width": 2},
        hovertemplate="optimum: %{y:.3g} %<extra></extra>",
        **at,
    )
    drawing.update_xaxes(title_text="groups visited", dtick=1, **at)
    shown = [100 * view.optimum, *places[:, 1].tolist()]
    drawing.update_yaxes(theme.log_axis(shown), title_text="error of the row, %", **at)


@lru_cache
def _ends(coupling: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The lowest error of each row, and for each width that of the row found, [widths, rows]."""
    problem, weight = toy.layer(coupling, WORDS, OUT, GROUPS)
    rng = torch.Generator()  # groups are visited in turn: nothing is drawn
    found = [beam.run(problem, weight, BeamConfig(width), rng) for width in WIDTHS]
    errors = torch.stack([problem.row_errors(one) for one in found])
    return toy.exhaustive(problem, weight.codebooks[0]), errors


def _nodes(problem: LayerProblem, levels: list[toy.Level]) -> Nodes:
    """The levels as one list of nodes, the present row first."""
    sizes = np.cumsum([len(level.errors) for level in levels])
    before = [0, 0, *sizes[:-2]]  # where the nodes that a level's parents are among begin
    parents = np.concatenate([b + level.parents for b, level in zip(before, levels, strict=True)])
    kept = [np.arange(len(level.errors)) < level.kept for level in levels]
    later = enumerate(levels[1:], 1)
    path = np.zeros(sizes[-1], bool)
    node = int(sizes[-2])  # the best of the last level
    while node:
        path[node], node = True, int(parents[node])
    return Nodes(
        np.concatenate([np.full(len(level.errors), j) for j, level in enumerate(levels)]),
        np.concatenate([level.errors / problem.energy for level in levels]),
        (
            "before the search",
            *(f"group {j} takes word {k}" for j, level in later for k in level.words),
        ),
        np.concatenate(kept),
        parents,
        path,
    )
