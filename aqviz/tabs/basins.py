"""Basins: the ground between two solutions of a layer, and where many starts end.

Two studies of one layer. The landscape runs twice and looks at the error on the plane and the line
between the ends; the starts run many times and ask whether a better start ends better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from aqviz import notebook, permalink, theme
from aqviz.engine import Document
from aqviz.figures.line import draw_line, view_line
from aqviz.figures.plane import CODES, draw_plane, view_plane
from aqviz.figures.starts import draw_starts, view_starts
from aqviz.tabs import study
from aqviz.tabs.actions import Core
from aqviz.tabs.cards import figure_card, html, intro, repeat_card
from aqviz.tabs.choice import INITS, SEARCHES, draw_choice, offer_layers
from aqviz.tabs.study import StudyView, draw_runner, find, wire_study
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


def draw_basins(core: Core) -> None:
    """The whole tab."""
    first = Basins()

    def files(state: Basins) -> str:
        found = (find(core, config)[1] for config in (state.landscape, state.many))
        return study.downloads(VIEW, state, *found)

    intro(VIEW)
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, first)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW)
            plane = figure_card(
                "plane", _json(draw_plane, view_plane(None, "reassigned", "heldout"))
            )
            line = figure_card("line", _json(draw_line, view_line(None)))
            html("<h2>Many starts</h2>", "many")
            many = draw_runner("starts")
            starts = figure_card("starts", _json(draw_starts, view_starts(None, "heldout")))
            repeat = repeat_card(VIEW, "", "", files(first))
    inputs = list(controls.values())

    def ground(state: Basins, document: Document | None) -> list[Any]:
        return [*show_landscape(state, document), files(state)]

    def clouds(state: Basins, document: Document | None) -> list[Any]:
        return [*show_starts(state, document), files(state)]

    drawn = [plane, line, repeat.command, repeat.python, repeat.files]
    view = StudyView(VIEW, Basins, lambda state: state.landscape, ground)
    wire_study(core, view, inputs, runner, drawn, repeat.link)
    view = StudyView(VIEW, Basins, lambda state: state.many, clouds)
    wire_study(core, view, inputs, many, [starts, repeat.files], None)
    offer_layers(core, controls["model"], controls["layer"])


def show_landscape(state: Basins, document: Document | None) -> Sequence[Any]:
    """Plane, line, command and Python of a state."""
    key = document["key"] if document else None
    config = state.landscape
    return [
        theme.to_json(draw_plane(view_plane(document, state.codes, state.text)), key),
        theme.to_json(draw_line(view_line(document)), key),
        permalink.command(config),
        notebook.python(config),
    ]


def show_starts(state: Basins, document: Document | None) -> Sequence[Any]:
    """The clouds of a state."""
    key = document["key"] if document else None
    return [theme.to_json(draw_starts(view_starts(document, state.text)), key)]


def _json(draw: Any, view: Any) -> str:
    return theme.to_json(draw(view))


def _controls(core: Core, first: Basins) -> dict[str, Any]:
    """One component for each field of the state, in its order."""
    model, layer = draw_choice(core, VIEW, first.model, first.layer)
    scheme = gr.Textbox(first.scheme, label="Scheme", elem_id="basins-scheme")
    with gr.Row(elem_classes="pair wide"):
        a = gr.Dropdown(INITS, value=first.a, label="A begins with", min_width=120)
        seed_a = gr.Number(first.seed_a, label="A's seed", min_width=60, precision=0)
    with gr.Row(elem_classes="pair wide"):
        b = gr.Dropdown(INITS, value=first.b, label="B begins with", min_width=120)
        seed_b = gr.Number(first.seed_b, label="B's seed", min_width=60, precision=0)
    search = gr.Dropdown(SEARCHES, value=first.search, label="Search, the same for both")
    with gr.Row(elem_classes="pair three"):
        beam = gr.Number(first.beam, label="Beam (0: its own)", min_width=60, precision=0)
        sweeps = gr.Number(first.sweeps, label="Sweeps", min_width=60, precision=0)
        tokens = gr.Number(first.tokens, label="Tokens", min_width=60, precision=0)
    codes = gr.Radio(
        [(f"codes {words}", name) for name, words in CODES.items()],
        value=first.codes,
        label="At every point of the plane",
        elem_id="basins-codes",
    )
    text = gr.Radio(
        [(words, name) for name, words in TEXTS.items()], value=first.text, label="Error on"
    )
    with gr.Row(elem_classes="pair"):
        starts = gr.Number(first.starts, label="Many starts: seeds", min_width=120, precision=0)
        noise = gr.Number(first.noise, label="Noise, share of rms", min_width=120)
    made = {
        "layer": layer,
        "model": model,
        "scheme": scheme,
        "a": a,
        "b": b,
        "seed_a": seed_a,
        "seed_b": seed_b,
        "search": search,
        "beam": beam,
        "sweeps": sweeps,
        "tokens": tokens,
        "codes": codes,
        "text": text,
        "starts": starts,
        "noise": noise,
    }
    return {name: made[name] for name in Basins.__dataclass_fields__}
