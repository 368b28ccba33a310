"""Lesson 3: sums of words. M books of K words make K^M sums.

Books and codes are fitted together: greedy first, then in turn the best sum for every point and
least squares for all words.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch

from aqviz import theme, toy
from aqviz.figures.lesson_plane import (
    HEIGHT,
    KMEANS,
    Array,
    add_lines,
    add_places,
    between,
    make_square,
    percent,
)
from quantcore.objective import LayerProblem

ROUNDS = 3
CORRELATION = 0.5


@dataclass(frozen=True)
class SumsView:
    """The points, the words, and all their sums.

    Attributes:
        points: What is quantized.
        books: The words of each book, [books, words, 2].
        sums: All sums, [words^books, 2].
        taken: Which sum each point takes.
        codes: The same by book, [points, books].
        error: Squared error over energy.
        rho: Points for one sum.
    """

    points: Array
    books: Array
    sums: Array
    taken: Array
    codes: Array
    error: float
    rho: float

    @property
    def used(self) -> Array:
        """Which sums some point takes."""
        return np.isin(np.arange(len(self.sums)), self.taken)

    @property
    def alt(self) -> str:
        """The figure in one sentence."""
        books, words, _ = self.books.shape
        bits = books * np.log2(words)
        return (
            f"{books} {'book' if books == 1 else 'books'} of {words} words make {len(self.sums)} "
            f"sums for {len(self.points)} points, so ρ = {self.rho:.3g}; {self.used.sum()} sums "
            f"are used, a point costs {bits:.0f} bits, and {percent(self.error)} of the points' "
            "energy is lost."
        )

    @property
    def table(self) -> theme.Table:
        """Every point with its words."""
        names = [f"word of book {book + 1}" for book in range(self.codes.shape[1])]
        places = zip(
            self.points.tolist(), self.sums[self.taken].tolist(), self.codes.tolist(), strict=True
        )
        rows = [(*point, *total, *codes) for point, total, codes in places]
        return theme.Table(
            ("point: first", "point: second", "sum: first", "sum: second", *names), tuple(rows)
        )


@lru_cache
def view_sums(books: int, words: int, points: int) -> SumsView:
    """Fit so many books of so many words to so many points."""
    cloud = toy.points(points, CORRELATION, seed=3)
    problem = LayerProblem.weight_only(cloud)
    first = toy.jointly(problem, toy.greedy(problem, books, words))
    fitted = toy.together(problem, first, ROUNDS)
    codes = torch.cartesian_prod(*[torch.arange(words)] * books).view(-1, books)
    sums = sum(fitted.codebooks[book][codes[:, book]] for book in range(books))
    chosen = fitted.codes[:, 0].long()
    places = words ** torch.arange(books - 1, -1, -1)
    return SumsView(
        points=cloud.numpy(),
        books=fitted.codebooks.numpy(),
        sums=torch.as_tensor(sums).numpy(),
        taken=(chosen * places).sum(1).numpy(),
        codes=chosen.numpy(),
        error=problem.errors(fitted).relative,
        rho=fitted.scheme.rho(points, 2),
    )


def draw_sums(view: SumsView) -> go.Figure:
    """Words of the first book, the sums that hang on them, and each point on its sum."""
    drawing = theme.figure(view.alt, HEIGHT, view.table)
    many = len(view.books) > 1
    if many:
        roots = np.repeat(view.books[0], len(view.sums) // len(view.books[0]), axis=0)
        add_lines(drawing, between(roots, view.sums), "", {"color": theme.GRID})
    add_lines(drawing, between(view.points, view.sums[view.taken]), "", {"width": 0.8})
    add_places(drawing, view.points, "points", {"size": 5})
    marker = {"symbol": "x", "size": 8, "color": KMEANS}
    add_places(drawing, view.sums[view.used], "sums in use" if many else "words", marker)
    empty = view.sums[~view.used]
    add_places(drawing, empty, "sums nobody takes", marker | {"symbol": "circle-open"})
    if many:
        root = {"symbol": "diamond", "size": 11}
        add_places(drawing, view.books[0], "words of book 1", root)
    make_square(drawing)
    return drawing
