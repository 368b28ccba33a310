"""PV-tuning as it went: KL from the original on validation text, from which nothing is learned.

The state that is kept is the one of the lowest KL, which the large marker shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import evaluations, theme
from aqviz.theme import Style


@dataclass(frozen=True)
class Course:
    """One run of tuning, where it was validated.

    Attributes:
        label: Which model was tuned.
        style: How it is drawn.
        minutes: Of work so far.
        kl: Nats a token on the validation text.
        steps: Steps so far.
        best: The point of the lowest KL.
    """

    label: str
    style: Style
    minutes: tuple[float, ...]
    kl: tuple[float, ...]
    steps: tuple[int, ...]
    best: int


@dataclass(frozen=True)
class TuningView:
    """Every run."""

    courses: tuple[Course, ...]
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a validation."""
        rows = [
            (course.label, *each)
            for course in self.courses
            for each in zip(course.steps, course.minutes, course.kl, strict=True)
        ]
        return theme.Table(("model", "step", "minutes", "validation KL, nats"), tuple(rows))


def view_tuning(curves: Mapping[str, Sequence[Mapping[str, Any]]] | None) -> TuningView:
    """The curves of tuned models, by the models' names."""
    found = [_course(name, curve) for name, curve in (curves or {}).items()]
    courses = tuple(course for course in found if course is not None)
    told = [
        f"{c.label} from {c.kl[0]:.3f} to {c.kl[c.best]:.3f} at step {c.steps[c.best]} "
        f"of {c.steps[-1]}"
        for c in courses
    ]
    return TuningView(courses, f"KL on validation text, nats a token: {'; '.join(told)}.")


def draw_tuning(view: TuningView) -> go.Figure:
    """A line for each run, against minutes of work."""
    if not view.courses:
        return theme.message("No run of PV-tuning is recorded for these models.")
    drawing = theme.figure(view.alt, 360, view.table)
    for course in view.courses:
        _draw_course(drawing, course)
    drawing.update_xaxes(title_text="minutes of tuning", tickformat="~g")
    drawing.update_yaxes(title_text="validation KL, nats a token", tickformat="~g", nticks=6)
    return drawing


def _course(name: str, curve: Sequence[Mapping[str, Any]]) -> Course | None:
    seen = [point for point in curve if point["validation_kl"] is not None]
    if not seen:
        return None
    style = theme.style(evaluations.named_init(name))
    kl = tuple(point["validation_kl"] for point in seen)
    return Course(
        label=style.label,
        style=style,
        minutes=tuple(point["seconds"] / 60 for point in seen),
        kl=kl,
        steps=tuple(point["step"] for point in seen),
        best=kl.index(min(kl)),
    )


def _draw_course(drawing: go.Figure, course: Course) -> None:
    style = course.style
    drawing.add_scatter(
        x=theme.floats(course.minutes),
        y=theme.floats(course.kl),
        mode="lines+markers",
        name=course.label,
        line={"color": style.colour, "width": 2, "dash": style.dash},
        marker={
            "symbol": style.symbol,
            "size": [13 if n == course.best else 5 for n in range(len(course.kl))],
        },
        customdata=course.steps,
        hovertemplate=f"{course.label}, step %{{customdata}}<br><b>%{{y:.4g}}</b><extra></extra>",
    )
