"""Lesson 4: why greedy is greedy. Book 1 by k-means, book 2 by k-means on what it leaves.

Every point then has a pair of words. Trying all pairs of the same words finds points with a better
pair: book 1 chose its word without knowing what book 2 would offer.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go

from aqviz import theme, toy
from aqviz.figures.lesson_plane import (
    BEST,
    HEIGHT,
    KMEANS,
    WORDS,
    Array,
    add_lines,
    add_places,
    between,
    cell_borders,
    make_square,
    percent,
)
from quantcore import init
from quantcore.objective import LayerProblem

COUNT = 96
CORRELATION = 0.5
ROUNDS = 3
STAGES = {1: "1: the first book", 2: "2: what it leaves", 3: "3: the pairs"}


@dataclass(frozen=True)
class Errors:
    """Squared error over energy after each way to choose."""

    greedy: float
    best: float  # the best pairs of the same words
    together: float  # words refitted to the best pairs, in turn


@dataclass(frozen=True)
class GreedyView:
    """What the chosen stage looks at.

    Attributes:
        stage: One of `STAGES`.
        points: The points, or in stage 2 what the first book leaves of them.
        words: The words of the stage: book 1, book 2, or all sums.
        greedy: The word that greedy gives each point.
        best: In stage 3 the best there is, else the same as `greedy`.
        borders: The cells of the words.
        errors: Of all three ways.
        missed: Points whose greedy pair is not their best.
    """

    stage: int
    points: Array
    words: Array
    greedy: Array
    best: Array
    borders: Array
    errors: Errors
    missed: Array

    @property
    def alt(self) -> str:
        """The figure in one sentence."""
        count, errors = int(self.missed.sum()), self.errors
        return (
            f"{count} of {len(self.points)} points ({percent(count / len(self.points))}) have a "
            f"better pair of the same words than greedy gives them: greedy's pairs lose "
            f"{percent(errors.greedy)} of the energy, the best pairs {percent(errors.best)}, and "
            f"words refitted to such pairs {percent(errors.together)}."
        )

    @property
    def table(self) -> theme.Table:
        """The error by how codes and words were chosen."""
        names = ("greedy", "best pairs, same words", f"refitted in turn, {ROUNDS} rounds")
        errors = (self.errors.greedy, self.errors.best, self.errors.together)
        return theme.Table(
            ("codes and words", "energy lost"), tuple(zip(names, errors, strict=True))
        )


@lru_cache
def view_greedy(stage: int, size: int, start: int) -> GreedyView:
    """Two books of `size` words each; k-means begins at random points drawn from seed `start`."""
    cloud = toy.points(COUNT, CORRELATION, seed=3)
    problem = LayerProblem.weight_only(cloud)
    greedy = toy.greedy(problem, 2, size, seed=start)
    best = toy.jointly(problem, greedy)
    final = toy.together(problem, best, ROUNDS)
    errors = Errors(*(problem.errors(weight).relative for weight in (greedy, best, final)))
    books, codes = greedy.codebooks, greedy.codes[:, 0].long()
    points, words, chosen = cloud, books[min(stage, 2) - 1], codes[:, min(stage, 2) - 1]
    taken = other = words[chosen]
    if stage == 2:
        points = init.residual(problem, toy.without_last(greedy))[:, 0]
    if stage == 3:
        words = (books[0][:, None] + books[1]).flatten(0, 1)
        taken, other = greedy.dense(), best.dense()
    missed = (greedy.codes != best.codes).any(2)[:, 0]
    return GreedyView(
        stage,
        points.numpy(),
        words.numpy(),
        taken.numpy(),
        other.numpy(),
        cell_borders(words.numpy(), np.eye(2)),
        errors,
        missed.numpy(),
    )


def draw_greedy(view: GreedyView) -> go.Figure:
    """Words, cells, and how the points go to them."""
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    add_lines(drawing, view.borders, "", {"color": theme.GRID, "width": 1.5})
    if view.stage < 3:
        add_lines(drawing, between(view.points, view.greedy), "", {"width": 0.8})
        add_places(drawing, view.points, STAGES[view.stage][3:], {"size": 5})
        add_places(drawing, view.words, "words", WORDS | {"color": KMEANS, "size": 11})
    else:
        _draw_pairs(drawing, view)
    make_square(drawing)
    return drawing


def _draw_pairs(drawing: go.Figure, view: GreedyView) -> None:
    missed = view.missed
    points = view.points[missed]
    dotted, solid = {"color": KMEANS, "dash": "dot", "width": 1.6}, {"color": BEST, "width": 2}
    add_lines(drawing, between(points, view.greedy[missed]), "to greedy's pair", dotted)
    add_lines(drawing, between(points, view.best[missed]), "to the best pair", solid)
    add_places(drawing, view.points[~missed], "greedy's pair is best", {"size": 5})
    add_places(drawing, points, "another is better", {"size": 9, "symbol": "star", "color": BEST})
    add_places(drawing, view.words, "sums", WORDS | {"color": KMEANS})
