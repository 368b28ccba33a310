"""Lesson 5: an error measured where it matters. The same words, two metrics.

A layer's output weighs the error d of two weights by their inputs' second moments: d^T H d. Words
nearest in that metric are not those nearest in the plane. EM then moves the words too: that is what
OA-EM adds to k-means, here in two dimensions.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch

from aqviz import theme, toy
from aqviz.figures.lesson_plane import (
    AWARE,
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
from quantcore import clustering
from quantcore.clustering import EMState

COUNT = 160
SIZE = 12
RADIUS = 0.3  # half the geometric mean width of the ellipses, in units of the plane
TURN = np.linspace(0, 2 * np.pi, 49)


@dataclass(frozen=True)
class MetricView:
    """Points, words, and who is nearest to whom in which metric.

    Attributes:
        angle: Degrees, the direction in which errors cost most.
        ratio: How much more than across it.
        rounds: Rounds of EM in the metric that were run.
        points: What is quantized.
        before: The words k-means made.
        words: The words after EM.
        plain: The word of each point that is nearest in the plane.
        aware: The one nearest in the metric.
        borders: Of the cells in the plane, and in the metric.
        ellipses: Around each word, the places of one output error, [words, places, 2].
        errors: Output error over energy: k-means with plain codes, with aware codes, after EM.
    """

    angle: float
    ratio: float
    rounds: int
    points: Array
    before: Array
    words: Array
    plain: Array
    aware: Array
    borders: tuple[Array, Array]
    ellipses: Array
    errors: tuple[float, float, float]

    @property
    def changed(self) -> Array:
        """Points whose nearest word is another one in the metric."""
        return np.asarray((self.plain != self.aware).any(1))

    @property
    def alt(self) -> str:
        """The figure in one sentence."""
        count = int(self.changed.sum())
        told = (
            f"An error along {self.angle:g}° costs {self.ratio:g} times one across it: "
            f"{count} of {len(self.points)} points ({percent(count / len(self.points))}) take "
            "another word than the nearest in the plane; choosing words of k-means in the "
            f"output's metric lowers the output error from {percent(self.errors[0])} to "
            f"{percent(self.errors[1])}"
        )
        if not self.rounds:
            return told + "."
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        return f"{told}, and {rounds} of EM to {percent(self.errors[2])}."

    @property
    def table(self) -> theme.Table:
        """The output error by what was done."""
        names = ("nearest in the plane", "nearest in the metric", "after EM in the metric")
        return theme.Table(
            ("words and codes", "output error"), tuple(zip(names, self.errors, strict=True))
        )


@lru_cache
def view_metric(angle: float, ratio: float, rounds: int) -> MetricView:
    """Twelve words for 160 points, in the metric of this direction and ratio."""
    points = toy.points(COUNT, seed=5)
    bent = toy.metric(angle, ratio)
    problem = toy.em_problem(points, bent)
    kmeans = toy.clusters(points, SIZE)
    start = clustering.state_of(problem, kmeans.codebook)
    fitted = clustering.run(problem, start, replace(toy.EM, rounds=rounds))
    words = fitted.codebook
    plain = clustering.state_of(toy.em_problem(points), words)
    energy = float(torch.einsum("ng,gh,nh->", points, bent, points))
    states = (clustering.rescored(problem, kmeans), start, fitted)
    first, second, third = (clustering.objective(problem, state) / energy for state in states)
    borders = [
        cell_borders(words.numpy(), metric.numpy()) for metric in (torch.eye(2).to(bent), bent)
    ]
    return MetricView(
        angle,
        ratio,
        rounds,
        points.numpy(),
        kmeans.codebook.numpy(),
        words.numpy(),
        _chosen(plain),
        _chosen(fitted),
        (borders[0], borders[1]),
        words.numpy()[:, None] + _ellipse(bent.numpy()),
        (first, second, third),
    )


def draw_metric(view: MetricView) -> go.Figure:
    """Both kinds of cells, the ellipses, and the points that change sides."""
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    plain, aware = view.borders
    add_lines(drawing, plain, "cells in the plane", {"color": KMEANS, "dash": "dot"})
    add_lines(drawing, aware, "cells in the metric", {"color": AWARE, "width": 1.6})
    rings = np.stack([view.ellipses[:, :-1], view.ellipses[:, 1:]], 2).reshape(-1, 2, 2)
    add_lines(drawing, rings, "equal output error", {"width": 0.8})
    changed, points = view.changed, view.points[view.changed]
    for words, line in (
        (view.plain, {"color": KMEANS, "dash": "dot"}),
        (view.aware, {"color": AWARE}),
    ):
        add_lines(drawing, between(points, words[changed]), "", line)
    add_lines(drawing, between(view.before, view.words), "", {"width": 2})
    add_places(drawing, view.points[~changed], "points", {"size": 4})
    star = {"size": 9, "symbol": "star", "color": AWARE}
    add_places(drawing, points, "points that change their word", star)
    add_places(drawing, view.words, "words", WORDS | {"size": 10})
    make_square(drawing)
    return drawing


def _chosen(state: EMState) -> Array:
    return np.asarray(state.codebook[state.codes[:, 0].long()].numpy())


def _ellipse(metric: Array) -> Array:
    """The places around the origin with one error, [places, 2], of the area of a circle."""
    values, vectors = np.linalg.eigh(metric)
    round_ = np.stack([np.cos(TURN), np.sin(TURN)], 1)
    widths = RADIUS * np.sqrt(np.sqrt(values.prod()) / values)
    return np.asarray((round_ * widths) @ vectors.T)
