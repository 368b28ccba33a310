"""PV-tuning as it went: KL from the original on validation text, from which nothing is learned.

The state that is kept is the one of the lowest KL, which the large marker shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from aqviz import evaluations, theme
from aqviz.theme import Style

NOTHING = "No run of PV-tuning is recorded for these models."
SHORT = 90.0  # seconds; runs that are no longer are drawn against seconds


@dataclass(frozen=True)
class Course:
    """One run of tuning, where it was validated.

    Attributes:
        label: Which model was tuned.
        style: How it is drawn.
        times: Of work so far, in the view's unit.
        kl: Nats a token on the validation text.
        steps: Steps so far.
        best: The point of the lowest KL.
    """

    label: str
    style: Style
    times: tuple[float, ...]
    kl: tuple[float, ...]
    steps: tuple[int, ...]
    best: int


@dataclass(frozen=True)
class TuningView:
    """Every run.

    Attributes:
        courses: The runs that were validated at least once.
        unit: Of their times: minutes, or seconds where all are short.
        alt: The figure in one sentence.
    """

    courses: tuple[Course, ...]
    unit: str
    alt: str

    @property
    def table(self) -> theme.Table:
        """One row a validation."""
        rows = [
            (course.label, *each)
            for course in self.courses
            for each in zip(course.steps, course.times, course.kl, strict=True)
        ]
        return theme.Table(("model", "step", self.unit, "validation KL, nats"), tuple(rows))


def view_tuning(curves: Mapping[str, Sequence[Mapping[str, Any]]] | None) -> TuningView:
    """The curves of tuned models, by the models' names."""
    seen = {
        name: [point for point in curve if point["validation_kl"] is not None]
        for name, curve in (curves or {}).items()
    }
    longest = max((points[-1]["seconds"] for points in seen.values() if points), default=0.0)
    unit, size = ("seconds", 1) if longest <= SHORT else ("minutes", 60)
    courses = tuple(_course(name, points, size) for name, points in seen.items() if points)
    told = [
        f"{c.label} from {c.kl[0]:.3f} to {c.kl[c.best]:.3f} at step {c.steps[c.best]} "
        f"of {c.steps[-1]}"
        for c in courses
    ]
    return TuningView(courses, unit, f"KL on validation text, nats a token: {'; '.join(told)}.")


def draw_tuning(view: TuningView, nothing: str = NOTHING) -> go.Figure:
    """A line for each run, against time of work; `nothing` is said where there is none."""
    if not view.courses:
        return theme.message(nothing)
    drawing = theme.figure(view.alt, 360, view.table)
    for course in view.courses:
        _draw_course(drawing, course)
    drawing.update_xaxes(title_text=f"{view.unit} of tuning", tickformat="~g")
    drawing.update_yaxes(title_text="validation KL, nats a token", tickformat="~g", nticks=6)
    return drawing


def _course(name: str, seen: Sequence[Mapping[str, Any]], size: int) -> Course:
    """A run from the points where it was validated; `size` seconds are one of its times."""
    style = evaluations.style(name.removesuffix(evaluations.TUNED))
    kl = tuple(point["validation_kl"] for point in seen)
    return Course(
        label=style.label,
        style=style,
        times=tuple(point["seconds"] / size for point in seen),
        kl=kl,
        steps=tuple(point["step"] for point in seen),
        best=kl.index(min(kl)),
    )


def _draw_course(drawing: go.Figure, course: Course) -> None:
    style = course.style
    drawing.add_scatter(
        x=theme.floats(course.times),
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
