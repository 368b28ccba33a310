"""Lesson 2: pairs rounded together. A product grid against a codebook with the same bits.

The grid rounds each of the two numbers to 2^b levels fitted to it by k-means, so it has 4^b words:
all pairs of levels. The codebook has 4^b words too, anywhere in the plane: k-means begins at the
grid's, so it never loses more.
"""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from aqviz import theme, toy
from aqviz.figures.lesson_plane import (
    KMEANS,
    WORDS,
    Array,
    add_lines,
    add_places,
    cell_borders,
    make_square,
    percent,
)
from quantcore import clustering
from quantcore.objective import LayerProblem

COUNT = 300
HEIGHT = 430


@dataclass(frozen=True)
class Words:
    """One codebook for the plane."""

    name: str
    places: Array  # [words, 2]
    borders: Array  # [n, 2 ends, 2]
    error: float  # squared error over energy
    used: int  # words that some point takes


@dataclass(frozen=True)
class VectorsView:
    """The points, and both codebooks."""

    points: Array
    grid: Words
    free: Words
    bits: int

    @property
    def alt(self) -> str:
        """The figure in one sentence."""
        return (
            f"With {self.bits} {'bit' if self.bits == 1 else 'bits'} a number the "
            f"{len(self.grid.places)} words of the product grid lose {percent(self.grid.error)} of "
            f"the points' energy ({self.grid.used} are used), as many words fitted to the pairs "
            f"lose {percent(self.free.error)}."
        )

    @property
    def table(self) -> theme.Table:
        """Both codebooks in numbers."""
        rows = [(w.name, len(w.places), w.used, w.error) for w in (self.grid, self.free)]
        return theme.Table(("codebook", "words", "words used", "energy lost"), tuple(rows))


def view_vectors(rate: int, correlation: float) -> VectorsView:
    """Both codebooks at `rate` bits a number, for points of this correlation."""
    points = toy.points(COUNT, correlation)
    levels = [toy.fitted(v[:, None], toy.grid(v, rate)[:, None])[:, 0] for v in points.unbind(1)]
    grid = torch.cartesian_prod(*levels)
    free = toy.fitted(points, grid)
    return VectorsView(
        points.numpy(),
        _words("product grid", points, grid),
        _words("codebook", points, free),
        rate,
    )


def draw_vectors(view: VectorsView) -> go.Figure:
    """The two planes side by side."""
    both = (view.grid, view.free)
    empty = theme.figure(view.alt, HEIGHT, view.table).update_layout(showlegend=False)
    drawing = make_subplots(
        cols=2, subplot_titles=[words.name for words in both], horizontal_spacing=0.05, figure=empty
    )
    drawing.update_layout(margin={"t": 30})
    for col, words in enumerate(both, 1):
        at = {"row": 1, "col": col}
        add_lines(drawing, words.borders, "", {}, **at)
        add_places(drawing, view.points, "point", {"size": 3, "opacity": 0.7}, **at)
        colour = theme.GREY if col == 1 else KMEANS
        add_places(drawing, words.places, "word", WORDS | {"color": colour}, **at)
        make_square(drawing, **at)
    drawing.update_yaxes(title_text="", showticklabels=False, row=1, col=2)
    drawing.update_annotations(font={"size": 13})
    return drawing


def _words(name: str, points: Tensor, words: Tensor) -> Words:
    state = clustering.state_of(toy.em_problem(points), words)
    error = LayerProblem.weight_only(points).errors(words[state.codes[:, 0].long()]).relative
    borders = cell_borders(words.numpy(), np.eye(2))
    return Words(name, words.numpy(), borders, error, len(state.codes.unique()))
