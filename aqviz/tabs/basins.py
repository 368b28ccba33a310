"""The basins' tab: two studies under one set of controls."""

from typing import Any

import gradio as gr

from aqviz.core import Core
from aqviz.engine import Document
from aqviz.figures.plane import CODES
from aqviz.parts import study
from aqviz.parts.cards import figure_card, html, intro, repeat_card
from aqviz.parts.choice import INITS, SEARCHES, draw_choice, offer_layers
from aqviz.parts.study import StudyView, draw_runner, wire_study
from aqviz.shown.basins import TEXTS, VIEW, Basins, files, show_landscape, show_starts


def draw_basins(core: Core) -> None:
    """The whole tab."""
    first = Basins()

    def two(state: Basins, document: Document | None) -> list[Any]:
        return [*show_landscape(state, document), files(core, state)]

    def all_of_them(state: Basins, document: Document | None) -> list[Any]:
        return [*show_starts(state, document), files(core, state)]

    pair = StudyView(VIEW, Basins, lambda state: state.landscape, two)
    crowd = StudyView(VIEW, Basins, lambda state: state.many, all_of_them)
    status, _, _, _, _, ground, between, *again = study.values(core, pair, first)
    told, _, _, _, _, ends, _ = study.values(core, crowd, first)
    intro(VIEW)
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, first)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW, status=status)
            plane, line = figure_card("plane", ground), figure_card("line", between)
            html("<h2>Many starts</h2>", "many")
            many = draw_runner("starts", status=told)
            starts = figure_card("starts", ends)
            repeat = repeat_card(VIEW, *again)
    inputs = list(controls.values())
    drawn = [plane, line, repeat.command, repeat.python, repeat.files]
    wire_study(core, pair, inputs, runner, drawn, repeat.link)
    wire_study(core, crowd, inputs, many, [starts, repeat.files], None)
    offer_layers(core, controls["model"], controls["layer"])


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
