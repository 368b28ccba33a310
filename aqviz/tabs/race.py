"""The race: controls at the side, what happened beside them, and the wiring between.

A page holds only the id of its job. Run hands an experiment to the store and from then on a timer
asks for the job's state; closing the page stops the asking, not the job, and the link brings the id
back.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from aqviz import permalink
from aqviz.jobs import Job
from aqviz.tabs import panels
from aqviz.tabs.actions import PREPARING, Core, check, first_facts, resume, start, visit
from aqviz.tabs.board import Board, board_values, draw_board
from aqviz.tabs.cards import intro
from aqviz.tabs.controls import Controls, blocks_of, draw_controls, projections_of
from aqviz.tabs.form import OWN, Form
from aqviz.tabs.links import ASKED, QUIET, asked_of, keep_address, opening
from aqviz.tabs.pins import draw_pinned
from aqviz.tabs.show import show_recording
from aqviz.tabs.study import stopping
from quantcore.errors import QuantcoreError
from quantcore.search import SearchConfig

# While block and layer change together, one event may bring the old layer and find the new list:
# Gradio would refuse it with an error, the form does so in a sentence that the next event replaces.
AS_SENT: dict[str, Any] = QUIET | {"preprocess": False}


def draw_race(core: Core) -> None:
    """The whole tab."""
    experiment, layers = core.first()
    form = Form.of(experiment, layers)
    intro("lead")
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(elem_classes="controls card", min_width=300):
            controls = draw_controls(core, form, layers)
        with gr.Column(elem_classes="board", min_width=300):
            board = draw_board(show_recording(core.recording), permalink.to_query(experiment))
            draw_pinned(core, board)
    controls.facts.value = first_facts(core)
    _wire_controls(core, controls)
    _wire_upload(core, controls)
    changed = _wire_board(core, controls, board)
    visited = _wire_page(core, controls, board)
    keep_address(board.query, board.repeat.link, visited, *changed)


def _wire_controls(core: Core, controls: Controls) -> None:
    def facts(*values: Any) -> tuple[str, str]:
        return check(core, Form(*values))

    def offer(model: str | None, upload: str | None, block: Any, projection: Any) -> Any:
        return _offered(core, model, upload, block, projection)

    names = [controls.model, controls.upload, controls.block, controls.projection]
    gr.on([controls.model.change, controls.block.change], offer, names, names[2:], **AS_SENT)
    controls.preset.change(
        lambda preset: gr.update(visible=preset == OWN), controls.preset, controls.own, **QUIET
    )
    # `input`: a link sets search and beam together, and `change` would take its beam away
    controls.search.input(default_width, controls.search, controls.beam, **QUIET)
    gr.on(
        [control.change for control in controls.inputs()],
        facts,
        controls.inputs(),
        [controls.facts, controls.alert],
        trigger_mode="always_last",
        **AS_SENT,
    )


def _wire_upload(core: Core, controls: Controls) -> None:
    own = controls.brought
    source = [own.alert, controls.upload, controls.block, controls.projection]

    def taken(file: dict[str, Any]) -> list[Any]:
        try:
            name = core.uploads.keep(Path(file["path"])).name
        except QuantcoreError as error:
            return [panels.alert(str(error)), *[gr.skip()] * 3]
        return ["", name, *_offered(core, None, name, None, None)]

    def back(model: str | None) -> list[Any]:
        return ["", "", *_offered(core, model, None, None, None)]

    # the component's own preprocessing would leave an empty file behind, each time
    own.file.upload(taken, own.file, source, preprocess=False, **QUIET)
    own.back.click(back, controls.model, source, **QUIET)
    shown = [own.used, own.told, controls.model, controls.block]
    controls.upload.change(in_use, controls.upload, shown, **QUIET)


def _wire_board(core: Core, controls: Controls, board: Board) -> list[Any]:
    """The events after which another job is shown."""
    outputs = [controls.alert, *board.outputs()]

    def begin(*values: Any) -> list[Any]:
        return _guarded(core, lambda: start(core, Form(*values)))

    def go_on(job_id: str) -> list[Any]:
        return _guarded(core, lambda: resume(core, job_id))

    def poll(job_id: str, seen: int | float) -> Any:
        job = core.race(job_id)
        return gr.skip() if job and job.version == seen else board_values(core, job)

    def stop(job_id: str) -> list[Any]:
        return stopping(core, job_id)

    def patience() -> str:
        return "" if core.ready.is_set() else panels.alert(PREPARING)

    asked = controls.run.click(patience, None, controls.alert, **QUIET)
    begun = asked.then(begin, controls.inputs(), outputs, **QUIET)
    resumed = board.resume.click(go_on, board.job, outputs, **QUIET)
    board.cancel.click(stop, board.job, [controls.alert, board.cancel], **QUIET)
    board.timer.tick(poll, [board.job, board.seen], board.outputs(), **QUIET)
    return [begun, resumed]


def _wire_page(core: Core, controls: Controls, board: Board) -> Any:
    """The event that opens a link."""

    def opened(asked: str) -> list[Any]:
        alert, form, job = visit(core, asked_of(asked))
        return [alert, *_form_values(core, form), *board_values(core, job)]

    def prepared(*values: Any) -> list[Any]:
        form = Form(*values)
        offered = _offered(core, form.model, form.upload, form.block, form.projection)
        facts, wrong = check(core, form)
        return [*offered, facts, wrong or gr.skip()]  # what is wrong with the link stays

    inputs = controls.inputs()
    known = [controls.block, controls.projection, controls.facts, controls.alert]
    every = [controls.alert, *inputs, *board.outputs()]
    visited = opening()(opened, gr.Textbox(visible="hidden"), every, js=ASKED, **QUIET)
    visited.then(prepared, inputs, known, **AS_SENT)
    return visited


def default_width(search: str) -> int:
    """The beam that a search has where nobody chooses another."""
    return SearchConfig(search).kept


def in_use(upload: str) -> list[Any]:
    """Whether an upload is in use, which, and whether model and block are there to choose."""
    told = panels.brought(upload) if upload else ""
    return [gr.update(visible=bool(upload)), told, *[gr.update(visible=not upload)] * 2]


def _guarded(core: Core, act: Callable[[], Job | None]) -> list[Any]:
    """The alert and the board after an action that bad input may refuse."""
    try:
        return ["", *board_values(core, act())]
    except QuantcoreError as error:
        return [panels.alert(str(error)), *[gr.skip()] * len(board_values(core, None))]


def _offered(
    core: Core, model: str | None, upload: str | None, block: Any, projection: Any
) -> list[Any]:
    """Blocks and layers of a model or a file, the chosen ones where it has them."""
    try:
        layers = core.layers(model, upload)
    except QuantcoreError:
        return [gr.skip(), gr.skip()]  # `check` says what is wrong
    blocks = blocks_of(layers)
    block = block if block in blocks else blocks[0]
    offered = projections_of(layers, block)
    chosen = projection if projection in offered else offered[0]
    return [gr.update(choices=blocks, value=block), gr.update(choices=offered, value=chosen)]


def _form_values(core: Core, form: Form | None) -> list[Any]:
    """What a link sets the controls to."""
    if form is None:
        return [gr.skip()] * len(Form._fields)
    layers = core.layers(form.model, form.upload)
    block = gr.update(choices=blocks_of(layers), value=form.block)
    offered = projections_of(layers, form.block)
    projection = gr.update(choices=offered, value=form.projection)
    values: dict[str, Any] = form._asdict() | {"block": block, "projection": projection}
    return list(values.values())
