"""Which searches a sweep is made of, by name.

    beam               the beam in the full Hessian, as AQLM and the released OA-EM have it
    descent            coordinate descent over the codebooks of a group together
    feedback           error feedback: every sweep encodes all rows anew
    feedback-descent   error feedback in the first sweeps, which need not improve on what it is
                       given, then descent, which always does

The initialiser and the search are independent choices: any pair runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from quantcore import beam, feedback
from quantcore.beam import BeamConfig
from quantcore.errors import InputError, quoted
from quantcore.feedback import FeedbackConfig
from quantcore.objective import LayerProblem
from quantcore.sweep import Metric, SweepInfo
from quantcore.weight import AdditiveWeight

SEARCHES = ("feedback-descent", "feedback", "descent", "beam")
DEFAULT_WIDTHS = {"feedback-descent": 1, "feedback": 1, "descent": 1, "beam": 8}


@dataclass(frozen=True)
class SearchConfig:
    """Which search, and how many hypotheses it keeps.

    Attributes:
        name: One of `SEARCHES`.
        width: Hypotheses kept for each row; None is the search's own in `DEFAULT_WIDTHS`.
        candidates: Partial choices kept between the codebooks of a group by all but the beam.
        feedback_sweeps: Sweeps of `feedback-descent` that begin with feedback.
    """

    name: str = "feedback-descent"
    width: int | None = None
    candidates: int = 16
    feedback_sweeps: int = 3

    def __post_init__(self) -> None:
        if self.name not in SEARCHES:
            known = ", ".join(SEARCHES)
            raise InputError(f"there is no search {quoted(self.name)}; choose one of {known}")
        self.descent()  # these check their own settings
        self.feedback()

    @property
    def kept(self) -> int:
        """Hypotheses kept for each row."""
        return DEFAULT_WIDTHS[self.name] if self.width is None else self.width

    def steps(self, sweep: int) -> tuple[str, ...]:
        """The searches of one sweep, the first being 1."""
        if self.name == "feedback-descent":
            return ("feedback", "descent") if sweep <= self.feedback_sweeps else ("descent",)
        return (self.name,)

    def descent(self) -> BeamConfig:
        """The beam or the descent."""
        return BeamConfig(self.kept, self.candidates if self.name != "beam" else 1)

    def feedback(self) -> FeedbackConfig:
        """The error feedback."""
        return FeedbackConfig(self.kept, self.candidates)


@dataclass(frozen=True)
class Searcher:
    """A search on one problem; what it needs of the Hessian is computed once."""

    problem: LayerProblem
    config: SearchConfig
    group: int

    @cached_property
    def factor(self) -> Metric:
        """The Hessian's block factors, for feedback."""
        return feedback.factor(self.problem, self.group)

    def run(
        self,
        step: str,
        weight: AdditiveWeight,
        rng: torch.Generator,
        observe: Callable[[SweepInfo], None] = lambda info: None,
    ) -> AdditiveWeight:
        """One search of `SearchConfig.steps` over all rows."""
        if step == "feedback":
            return feedback.run(self.problem, weight, self.factor, self.config.feedback(), observe)
        return beam.run(self.problem, weight, self.config.descent(), rng, observe)
