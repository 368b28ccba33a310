"""Basins: the ground between two solutions of a layer, and where many starts end.

Two studies of one layer. The landscape runs twice and looks at the error on the plane and the line
between the ends; the starts run many times and ask whether a better start ends better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aqviz import bundle, commands, metrics, notebook, theme
from aqviz.bundle import Bundles
from aqviz.core import Core
from aqviz.engine import Document
from aqviz.figures.line import draw_line, view_line
from aqviz.figures.plane import CODES, draw_plane, view_plane
from aqviz.figures.starts import draw_starts, view_starts
from aqviz.shown.study import downloads, find
from quantcore.errors import InputError
from quantcore.experiment import Experiment
from quantcore.landscape import Landscape
from quantcore.starts import Starts
from quantcore.weight import Scheme

VIEW = "basins"
TEXTS = {"calibration": "calibration", "heldout": "held-out"}
MAX_STARTS = 8  # seeds


@dataclass(frozen=True)
class Basins:
    """The view's state; beam 0 is the search's own width."""

    layer: str = "model.layers.10.self_attn.q_proj"
    model: str = ""
    scheme: str = "2x8g8"
    a: str = "greedy"
    b: str = "oa-em"
    seed_a: int = 0
    seed_b: int = 0
    search: str = Experiment.search
    beam: int = 0
    sweeps: int = Experiment.sweeps
    tokens: int = Experiment.calibration_tokens
    codes: str = "reassigned"
    text: str = "calibration"
    starts: int = 4
    noise: float = 0.2

    def __post_init__(self) -> None:
        for name, known in (("codes", CODES), ("text", TEXTS)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"there is no {name} {getattr(self, name)!r}; choose one of {', '.join(known)}"
                )
        if not 1 <= self.starts <= MAX_STARTS:
            raise InputError(
                f"the seeds of many starts must be 1 to {MAX_STARTS}, got {self.starts}"
            )
        self.landscape, self.many  # noqa: B018 - they check their own settings

    @property
    def landscape(self) -> Landscape:
        """The study of the plane and the line."""
        if (self.a, self.seed_a) == (self.b, self.seed_b):
            raise InputError("A and B are the same run; give them other initialisers or seeds")
        inits = (self.a,) if self.a == self.b else (self.a, self.b)
        seeds = (self.seed_a,) if self.seed_a == self.seed_b else (self.seed_a, self.seed_b)
        return Landscape(self._experiment(inits, seeds))

    @property
    def many(self) -> Starts:
        """The study of many starts."""
        inits = tuple(dict.fromkeys((self.a, self.b)))
        noises = (0.0, self.noise) if self.noise else (0.0,)
        return Starts(self._experiment(inits, tuple(range(self.starts))), noises)

    def _experiment(self, inits: tuple[str, ...], seeds: tuple[int, ...]) -> Experiment:
        return Experiment(
            model=self.model or None,
            layer=self.layer,
            scheme=Scheme.parse(self.scheme),
            inits=inits,
            seeds=seeds,
            search=self.search,
            beam=self.beam or None,
            sweeps=self.sweeps,
            calibration_tokens=self.tokens,
            perplexity_windows=0,
        )


def show_landscape(state: Basins, document: Document | None) -> Sequence[Any]:
    """Plane, line, command and Python of a state."""
    key = document["key"] if document else None
    config = state.landscape
    return [
        theme.to_json(draw_plane(view_plane(document, state.codes, state.text)), key),
        theme.to_json(draw_line(view_line(document)), key),
        commands.of(config),
        notebook.python(config),
    ]


def show_starts(state: Basins, document: Document | None) -> Sequence[Any]:
    """The clouds of a state."""
    key = document["key"] if document else None
    return [theme.to_json(draw_starts(view_starts(document, state.text)), key)]


def files(core: Core, state: Basins) -> str:
    """The link to everything of the view, where one of its studies has something."""
    found = (find(core, config)[1] for config in (state.landscape, state.many))
    return downloads(VIEW, state, *found)


def bundles(core: Core, state: Basins) -> Bundles:
    """What the view's zip holds: a folder for each of the two studies, as far as they are there.

    Raises:
        AbsentError: neither is.
    """
    made: dict[str, bundle.Bundle] = {}
    document = find(core, state.landscape)[1]
    if metrics.there(document):
        plane, line, *_ = show_landscape(state, document)
        drawn = bundle.drawn({"plane": plane, "line": line})
        made["landscape"] = bundle.of_study(state.landscape, document, drawn, bundle.alts(drawn))
    document = find(core, state.many)[1]
    if metrics.there(document):
        drawn = bundle.drawn({"starts": show_starts(state, document)[0]})
        made["starts"] = bundle.of_study(state.many, document, drawn, bundle.alts(drawn))
    if not made:
        raise bundle.AbsentError(bundle.NOTHING)
    return made
