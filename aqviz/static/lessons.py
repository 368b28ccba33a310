"""The seven lessons, each with a few positions of its dials."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aqviz.core import Core
from aqviz.shown.learn import LESSONS, Choice, Learn, drawing
from aqviz.static.parts import Content, Dial, Lesson, View

POSITIONS: Mapping[
    str, Sequence[Any]
] = {  # of sliders, those that the words name among them; choices have all of theirs
    "bits": (1, 2, 3, 4, 5),
    "outlier": (0.0, 6.0, 12.0),
    "rate": (1, 2, 3),
    "correlation": (0.0, 0.4, 0.8, 0.95),
    "books": (1, 2, 3),
    "points": (16, 64, 256),
    "size": (2, 4, 8),
    "start": (0, 1, 2),
    "angle": (0.0, 30.0, 90.0),
    "ratio": (1.0, 10.0, 20.0),
    "rounds": (0, 1, 2, 3, 10),
    "coupling": (0.0, 0.9, 0.95),
    "row": (1, 3),
    "step": (0, 10, 20, 30, 40),
    "limit": (1, 2, 8),
    "pace": (1.0, 2.0, 8.0),
}


def lessons() -> tuple[View, ...]:
    """A view for each lesson; the first one's page is that of Learn."""
    return tuple(
        View(
            "learn",
            Learn(lesson=number),
            partial(_dials, number),
            _lesson,
            words="lessons",
            stem="learn" if number == min(LESSONS) else f"learn-{number}",
        )
        for number in LESSONS
    )


def _dials(number: int) -> tuple[Dial, ...]:
    return tuple(
        Dial.of(dial.label, name, _offered(name, dial))
        for name, dial in LESSONS[number].dials.items()
    )


def _offered(name: str, dial: Any) -> Mapping[Any, str]:
    if isinstance(dial, Choice):
        return dial.options
    return {value: f"{value:g}" for value in POSITIONS[name]}


def _lesson(core: Core, state: Learn) -> Content:
    return Content((Lesson(state.lesson, drawing(state)),))
