"""rho's tab: recorded gaps, the rho of any layer, and what has the same on a small one."""

from functools import lru_cache
from typing import Any

import gradio as gr

from aqviz import shapes
from aqviz.core import Core
from aqviz.evidence import gaps
from aqviz.parts.cards import figure_card, html, intro, repeat_card, sortable
from aqviz.parts.choice import SEARCHES
from aqviz.parts.events import QUIET
from aqviz.parts.links import KEPT, View, wire
from aqviz.shown.rho import RhoState, picked_case, recorded, show
from aqviz.shown.study import downloads

PICK = '<p class="note">Click a mark for the link that runs its layer and scheme.</p>'


def draw_rho(core: Core) -> None:
    """The whole tab."""
    document, first = recorded(), RhoState()
    found = gaps(document)

    @lru_cache(maxsize=KEPT)  # of a recording, which does not change
    def shown(state: RhoState) -> list[Any]:
        return [*show(state, found), downloads("rho", state, document)]

    scatter, worked, ruler, layers, mini, *again = shown(first)
    alert = html("")
    intro("rho_intro")
    with gr.Column(elem_classes="card"):
        search = gr.Dropdown(SEARCHES, value=first.search, label="Search", elem_id="rho-search")
    marks = figure_card("rho", scatter)
    picked = html(PICK, "rho-picked")
    with gr.Column(elem_classes="card"):
        html("<h2>ρ of a layer</h2>")
        dials = _dials(first)
        facts = html(worked, "rho-facts")
    drawn = figure_card("rho_regimes", ruler)
    with gr.Column(elem_classes="card"):
        html("<h2>The same regime in miniature</h2>")
        small = gr.Radio(
            list(shapes.LAYERS),
            value=first.small,
            label="Layer of SmolLM2 135M",
            elem_id="rho-small",
        )
        stand_ins = sortable(mini, "rho-mini")
    with gr.Column(elem_classes="card"):
        html("<h2>Layer by layer</h2>")
        listed = sortable(layers, "rho-layers")
    repeat = repeat_card("rho", *again)
    wire(
        View("rho", RhoState, shown),
        [search, *dials, small],
        [
            *(alert, marks, facts, drawn, listed, stand_ins),
            *(repeat.command, repeat.python, repeat.files),
        ],
        repeat.link,
    )

    def pick(chosen: str, event: gr.EventData) -> str:
        return picked_case(chosen, event._data)

    marks.select(pick, search, picked, **QUIET)


def _dials(first: RhoState) -> list[Any]:
    """Model, layer and scheme, in the order of the state's fields."""
    with gr.Row():
        return [
            gr.Dropdown(list(shapes.MODELS), value=first.model, label="Model", elem_id="rho-model"),
            gr.Radio(list(shapes.LAYERS), value=first.layer, label="Layer", elem_id="rho-layer"),
            gr.Slider(1, 4, value=first.codebooks, step=1, label="Codebooks M"),
            gr.Slider(1, 16, value=first.bits, step=1, label="Bits of a code"),
            gr.Radio(list(shapes.GROUPS), value=first.group, label="Group size g"),
        ]
