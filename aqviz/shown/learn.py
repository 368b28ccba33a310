"""Learn: seven short lessons, which of them is open, and where its dials stand.

A dial says what it accepts once, for its slider or buttons and for links alike. All dials of all
lessons are fields of one flat state, so a link names those that were moved.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from aqviz import text, theme
from aqviz.figures.lesson_beam import OUT, WIDTHS, draw_beam, view_beam
from aqviz.figures.lesson_greedy import STAGES, draw_greedy, view_greedy
from aqviz.figures.lesson_metric import draw_metric, view_metric
from aqviz.figures.lesson_plane import enlarge
from aqviz.figures.lesson_rounding import MOST_BITS, SPACINGS, draw_rounding, view_rounding
from aqviz.figures.lesson_sums import draw_sums, view_sums
from aqviz.figures.lesson_tuning import STEPS, draw_tuning, view_tuning
from aqviz.figures.lesson_vectors import draw_vectors, view_vectors
from quantcore.errors import InputError, quoted


@dataclass(frozen=True)
class Dial:
    """A number between two others."""

    label: str
    low: int | float
    high: int | float
    step: int | float = 1

    def check(self, name: str, value: Any) -> None:
        """Refuse what the slider could not say.

        Raises:
            InputError: the value is outside.
        """
        if not self.low <= value <= self.high:
            raise InputError(f"{name} must be {self.low:g} to {self.high:g}, got {value:g}")


@dataclass(frozen=True)
class Choice:
    """One of a few values, each with its words."""

    label: str
    options: Mapping[Any, str]

    def check(self, name: str, value: Any) -> None:
        """Refuse what is not offered.

        Raises:
            InputError: the value is none of the options.
        """
        if value not in self.options:
            offered = ", ".join(map(str, self.options))
            raise InputError(f"{name} must be one of {offered}, got {quoted(value)}")


class Lesson(NamedTuple):
    """One lesson: the arguments of its view are its dials."""

    dials: dict[str, Dial | Choice]
    view: Callable[..., Any]
    draw: Callable[[Any], Any]


LESSONS = {
    1: Lesson(
        {
            "bits": Dial("Bits a number", 1, MOST_BITS),
            "spacing": Choice("Levels", SPACINGS),
            "outlier": Dial("One number moved to (0: none)", 0, 12, 0.5),
        },
        view_rounding,
        draw_rounding,
    ),
    2: Lesson(
        {
            "rate": Dial("Bits a number", 1, 3),
            "correlation": Dial("Correlation of the two numbers", 0, 0.95, 0.05),
        },
        view_vectors,
        draw_vectors,
    ),
    3: Lesson(
        {
            "books": Dial("Books M", 1, 3),
            "words": Choice("Words K in each book", {2: "2", 4: "4", 8: "8"}),
            "points": Dial("Points N", 16, 256, 16),
        },
        view_sums,
        draw_sums,
    ),
    4: Lesson(
        {
            "stage": Choice("Stage", STAGES),
            "size": Dial("Words in each book", 2, 8),
            "start": Dial("Random start", 0, 9),
        },
        view_greedy,
        draw_greedy,
    ),
    5: Lesson(
        {
            "angle": Dial("Direction in which errors cost most, degrees", 0, 175, 5),
            "ratio": Dial("How many times more than across it", 1, 30),
            "rounds": Dial("Rounds of EM in the metric", 0, 10),
        },
        view_metric,
        draw_metric,
    ),
    6: Lesson(
        {
            "width": Choice("Beam width", {width: str(width) for width in WIDTHS}),
            "coupling": Dial("Correlation of neighbouring inputs", 0, 0.95, 0.05),
            "row": Dial("Row", 1, OUT),
        },
        view_beam,
        draw_beam,
    ),
    7: Lesson(
        {
            "step": Dial("Step", 0, STEPS),
            "limit": Dial("Groups that may change in a step", 1, 8),
            "pace": Dial("Pace of the buffers, % of their norm a step", 1, 8),
        },
        view_tuning,
        draw_tuning,
    ),
}
WORDS = {number: text.read(f"lesson_{number}") for number in LESSONS}
DIALS = {name: dial for lesson in LESSONS.values() for name, dial in lesson.dials.items()}


@dataclass(frozen=True)
class Learn:
    """Which lesson is open, whether it fills the page, and every dial."""

    lesson: int = 1
    full: bool = False
    bits: int = 3
    spacing: str = "even"
    outlier: float = 0.0
    rate: int = 2
    correlation: float = 0.8
    books: int = 2
    words: int = 4
    points: int = 64
    stage: int = 3
    size: int = 4
    start: int = 0
    angle: float = 30.0
    ratio: float = 10.0
    rounds: int = 0
    width: int = 2
    coupling: float = 0.9
    row: int = 3
    step: int = 40
    limit: int = 1
    pace: float = 2.0

    def __post_init__(self) -> None:
        if self.lesson not in LESSONS:
            raise InputError(f"there is no lesson {self.lesson}; choose 1 to {len(LESSONS)}")
        for name, dial in DIALS.items():
            dial.check(name, getattr(self, name))

    def figure(self) -> Any:
        """The open lesson's figure, larger where it fills the page."""
        dials, view, draw = LESSONS[self.lesson]
        drawing = draw(view(**{name: getattr(self, name) for name in dials}))
        return enlarge(drawing) if self.full else drawing


def drawing(state: Learn) -> str:
    """The open lesson's figure for the page."""
    return theme.to_json(state.figure(), f"lesson {state.lesson}")
