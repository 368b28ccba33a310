"""Lesson 7: tuning the codes. A book that follows its gradient, and codes that change on the way.

Each group has a straight-through buffer: it begins at the group's word and follows the gradient as
if it were the weight. In each step the few groups furthest from their buffers get the word nearest
to it. The plane follows one buffer, that of the group whose code changes most often.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from aqviz import theme, toy
from aqviz.figures.lesson_plane import (
    BEST,
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
from quantcore.objective import LayerProblem
from quantcore.weight import AdditiveWeight

OUT, GROUPS, SIZE = 8, 4, 8
COUNT = OUT * GROUPS
CORRELATION = 0.9
STEPS = 40
HEIGHT = 700
REACH = 4.3


@dataclass(frozen=True)
class TuningView:
    """A tuning up to one step, and the whole of its loss.

    Attributes:
        step: How far it is shown.
        limit: Groups that may change in one step.
        losses: Output error over energy before and after every step.
        still: The same where no code changes.
        changes: Codes that changed up to each moment.
        book: The words at this step.
        borders: Of their cells.
        trail: Of the words from the start, [moments, words, 2].
        buffer: The buffer's path, [moments, 2].
        words: The word of its group at each moment, [moments, 2].
        target: The group's original weights.
    """

    step: int
    limit: int
    losses: tuple[float, ...]
    still: tuple[float, ...]
    changes: tuple[int, ...]
    book: Array
    borders: Array
    trail: Array
    buffer: Array
    words: Array
    target: Array

    @property
    def lowest(self) -> int:
        """The step with the lowest loss of all."""
        return self.losses.index(min(self.losses))

    @property
    def alt(self) -> str:
        """The figure in one sentence."""
        return (
            f"After {self.step} of {STEPS} steps {self.changes[self.step]} codes have changed, at "
            f"most {self.limit} of {COUNT} in a step, and {percent(self.losses[self.step])} of the "
            f"output's energy is lost; the lowest on the whole way is "
            f"{percent(self.losses[self.lowest])} after step {self.lowest}, and "
            f"{percent(min(self.still))} where no code changes."
        )

    @property
    def table(self) -> theme.Table:
        """Every step."""
        columns = ("step", "loss", "loss, codes fixed", "codes changed so far")
        rows = zip(range(STEPS + 1), self.losses, self.still, self.changes, strict=True)
        return theme.Table(columns, tuple(rows))


def view_tuning(step: int, limit: int, pace: float) -> TuningView:
    """A tuning with `limit` changes a step whose buffers move `pace` percent of their norm."""
    moments, still = _tuned(limit, pace), _tuned(0, 0.0)
    codes = torch.stack([moment.codes for moment in moments])
    moved = codes[1:] != codes[:-1]
    group = int(moved.sum(0).argmax())
    books = torch.stack([moment.book for moment in moments[: step + 1]])
    own = books[torch.arange(step + 1), codes[: step + 1, group].long()]
    buffers = [
        moment.buffers[group] for moment in moments[: step + 1] if moment.buffers is not None
    ]
    return TuningView(
        step,
        limit,
        tuple(moment.loss for moment in moments),
        tuple(moment.loss for moment in still),
        tuple(accumulate(moved.sum(1).tolist(), initial=0)),
        books[-1].numpy(),
        cell_borders(books[-1].numpy(), np.eye(2)),
        books.numpy(),
        torch.stack(buffers).numpy(),
        own.numpy(),
        _layer()[0].weight.view(-1, 2)[group].numpy(),
    )


def draw_tuning(view: TuningView) -> go.Figure:
    """The plane above, the loss below."""
    empty = theme.figure(view.alt, HEIGHT, view.table)
    drawing = make_subplots(rows=2, row_heights=[0.68, 0.32], vertical_spacing=0.14, figure=empty)
    _draw_plane(drawing, view)
    _draw_losses(drawing, view)
    return drawing


def _draw_plane(drawing: go.Figure, view: TuningView) -> None:
    at = {"row": 1, "col": 1}
    add_lines(drawing, view.borders, "", {"color": theme.GRID, "width": 1.5}, **at)
    trail = np.stack([view.trail[:-1], view.trail[1:]], 2).reshape(-1, 2, 2)
    add_lines(drawing, trail, "", {"color": KMEANS, "width": 1}, **at)
    add_places(drawing, view.book, "words", WORDS | {"color": KMEANS, "size": 10}, **at)
    path = between(view.buffer[:-1], view.buffer[1:])
    add_lines(drawing, path, "", {"color": BEST, "width": 1.5}, **at)
    dots = {"color": BEST, "size": 4, "symbol": "circle-open"}
    add_places(drawing, view.buffer, "buffer", dots, **at)
    now = np.stack([view.buffer[-1:], view.words[-1:]], 1)
    add_lines(drawing, now, "to its group's word", {"color": BEST, "dash": "dot", "width": 2}, **at)
    aim = {"symbol": "star", "size": 13}
    add_places(drawing, view.target[None], "original weights", aim, **at)
    make_square(drawing, REACH, **at)


def _draw_losses(drawing: go.Figure, view: TuningView) -> None:
    at = {"row": 2, "col": 1}
    here = [10 if step == view.step else 0 for step in range(STEPS + 1)]
    for name, losses, line, mode in (
        ("codes change", view.losses, {"color": BEST, "width": 2}, "lines+markers"),
        ("codes fixed", view.still, {"color": theme.GREY, "width": 2, "dash": "dash"}, "lines"),
    ):
        drawing.add_scatter(
            y=[100 * loss for loss in losses],
            mode=mode,
            name=name,
            line=line,
            marker={"size": here},
            hovertemplate=f"step %{{x}}, {name}: %{{y:.3g}} %<extra></extra>",
            **at,
        )
    shown = [100 * loss for loss in (*view.losses, *view.still)]
    drawing.update_xaxes(title_text="step", **at)
    drawing.update_yaxes(theme.log_axis(shown), title_text="output error, %", **at)


def _layer() -> tuple[LayerProblem, AdditiveWeight]:
    return toy.layer(CORRELATION, SIZE, OUT, GROUPS)


@lru_cache
def _tuned(limit: int, pace: float) -> tuple[toy.Moment, ...]:
    return toy.tuned(*_layer(), STEPS, limit / COUNT, pace / 100)
