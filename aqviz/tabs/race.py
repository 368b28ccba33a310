"""The race's tab: controls at the side, what happened beside them, and the wiring between.

A page holds only the id of its job. Run hands an experiment to the store and from then on a timer
asks for the job's state; closing the page stops the asking, not the job, and the link brings the id
back.
"""

import json
from typing import Any

import gradio as gr

from aqviz import permalink
from aqviz.core import Core
from aqviz.parts.board import Board, board_values, draw_board, wire_board
from aqviz.parts.cards import intro
from aqviz.parts.choice import offered
from aqviz.parts.controls import Controls, draw_controls
from aqviz.parts.events import AS_SENT, QUIET, opening
from aqviz.parts.links import ASKED, asked_of, keep_address
from aqviz.parts.own_layer import wire_upload
from aqviz.parts.pins import draw_pinned
from aqviz.shown.form import OWN, Form, blocks_of, projections_of
from aqviz.shown.race import check, first_facts, show_first, visit
from quantcore.search import SEARCHES, SearchConfig


def default_width(search: str) -> int:
    """The beam that a search has where nobody chooses another."""
    return SearchConfig(search).kept


# in the browser: an answer of the server's may come after another beam was typed
WIDTH = f"(search) => ({json.dumps({name: default_width(name) for name in SEARCHES})})[search]"


def draw_race(core: Core) -> None:
    """The whole tab."""
    experiment, layers = core.first()
    form = Form.of(experiment, layers)
    intro("lead")
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = draw_controls(core, form, layers)
        with gr.Column(elem_classes="board", min_width=300):
            board = draw_board(show_first(core.recording), permalink.to_query(experiment))
            draw_pinned(core, board)
    controls.facts.value = first_facts(core)
    _wire_controls(core, controls)
    wire_upload(core, controls.brought, controls.source())
    changed = wire_board(core, controls, board)
    visited = _wire_page(core, controls, board)
    keep_address(board.query, board.repeat.link, visited, *changed)


def _wire_controls(core: Core, controls: Controls) -> None:
    def facts(*values: Any) -> tuple[str, str]:
        return check(core, Form(*values))

    def offer(model: str | None, upload: str | None, block: Any, projection: Any) -> Any:
        return offered(core, model, upload, block, projection)

    source = controls.source()
    gr.on([controls.model.change, controls.block.change], offer, source, source[2:], **AS_SENT)
    controls.preset.change(
        lambda preset: gr.update(visible=preset == OWN), controls.preset, controls.own, **QUIET
    )
    # `input`: a link sets search and beam together, and `change` would take its beam away
    controls.search.input(None, controls.search, controls.beam, js=WIDTH, **QUIET)
    gr.on(
        [control.change for control in controls.inputs()],
        facts,
        controls.inputs(),
        [controls.facts, controls.alert],
        trigger_mode="always_last",
        **AS_SENT,
    )


def _wire_page(core: Core, controls: Controls, board: Board) -> Any:
    """The event that opens a link."""

    def opened(asked: str) -> list[Any]:
        alert, form, job = visit(core, asked_of(asked))
        return [alert, *_form_values(core, form), *board_values(core, job)]

    def prepared(*values: Any) -> list[Any]:
        form = Form(*values)
        layers = offered(core, form.model, form.upload, form.block, form.projection)
        facts, wrong = check(core, form)
        return [*layers, facts, wrong or gr.skip()]  # what is wrong with the link stays

    inputs = controls.inputs()
    known = [controls.block, controls.projection, controls.facts, controls.alert]
    every = [controls.alert, *inputs, *board.outputs()]
    visited = opening()(opened, gr.Textbox(visible="hidden"), every, js=ASKED, **QUIET)
    visited.then(prepared, inputs, known, **AS_SENT)
    return visited


def _form_values(core: Core, form: Form | None) -> list[Any]:
    """What a link sets the controls to."""
    if form is None:
        return [gr.skip()] * len(Form._fields)
    layers = core.layers(form.model, form.upload)
    block = gr.update(choices=blocks_of(layers), value=form.block)
    names = projections_of(layers, form.block)
    projection = gr.update(choices=names, value=form.projection)
    values: dict[str, Any] = form._asdict() | {"block": block, "projection": projection}
    return list(values.values())
