"""The map's tab: a study over every layer; a click on a cell chooses its layer."""

from functools import partial
from typing import Any

import gradio as gr

from aqviz.atlas import MEASURES
from aqviz.core import Core
from aqviz.parts import study
from aqviz.parts.cards import figure_card, html, intro, repeat_card, sortable
from aqviz.parts.choice import draw_choice, offer_layers
from aqviz.parts.events import QUIET
from aqviz.parts.study import StudyView, draw_runner, wire_study
from aqviz.shown.map import VIEW, MapState, show


def draw_map(core: Core) -> None:
    """The whole tab."""
    state = MapState()
    view = StudyView(VIEW, MapState, lambda state: state.survey, partial(show, core))
    status, _, _, _, _, told, mapped, facts, layers, *again = study.values(core, view, state)
    intro("map")
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = _controls(core, state)
        with gr.Column(elem_classes="board", min_width=300):
            runner = draw_runner(VIEW, status=status)
            headline = html(told, "map-told")
            with gr.Row(elem_classes="map-pair", equal_height=False):
                grid = figure_card("layer_map", mapped)
                with gr.Column(elem_classes="card", min_width=280):
                    chosen = html(facts, "map-facts")
            with gr.Column(elem_classes="card"):
                html("<h2>Every layer</h2>")
                listed = sortable(layers, "map-layers")
            repeat = repeat_card(VIEW, *again)
    drawn = [headline, grid, chosen, listed, repeat.command, repeat.python, repeat.files]
    wire_study(core, view, controls, runner, drawn, repeat.link)
    model, layer, *_ = controls
    offer_layers(core, model, layer)
    grid.select(picked, layer, layer, **QUIET)


def picked(layer: str, event: gr.EventData) -> str:
    """The layer of the cell that was clicked; the chosen one where there is no layer."""
    return event._data.get("customdata") or layer


def _controls(core: Core, first: MapState) -> list[Any]:
    """One component for each field of the state, in its order."""
    model, layer = draw_choice(core, VIEW, first.model, first.layer)
    return [
        model,
        layer,
        gr.Dropdown(
            [(measure.label, key) for key, measure in MEASURES.items()],
            value=first.colour,
            label="Colour by",
            elem_id="map-colour",
        ),
        gr.Textbox(
            first.scheme,
            label="Scheme",
            info="codebooks x bits a code, g weights a group: 2x8g8",
            elem_id="map-scheme",
        ),
        gr.Checkbox(
            first.runs,
            label="Quantize every layer too",
            info="Without it Run only measures what layers are like.",
            elem_id="map-runs",
        ),
    ]
