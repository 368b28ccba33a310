"""The side of the race that shows a job: its components, their values, and what its buttons do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from aqviz import permalink, text
from aqviz.core import Core
from aqviz.jobs import Job
from aqviz.parts.cards import Repeat, figure_card, html, prose, repeat_card
from aqviz.parts.controls import Controls
from aqviz.parts.events import AS_SENT, QUIET, guarded
from aqviz.parts.running import (
    cancellable,
    draw_cancel,
    draw_timer,
    mark,
    only_moved,
    stopping,
    ticking,
)
from aqviz.parts.visitors import visitor
from aqviz.shown import panels
from aqviz.shown.form import Form
from aqviz.shown.race import Shown, show_job

PREPARING = "the model is being prepared, once; the run begins by itself in about half a minute"
GOES_ON = {"cancelled", "failed", "interrupted"}  # states from which a job can be resumed


@dataclass(frozen=True)
class Board:
    """The components that show a job, and those that hold which one it is."""

    shown: list[Any]  # in the order of Shown
    job: gr.Textbox
    seen: gr.Textbox
    query: gr.Textbox
    cancel: gr.Button
    resume: gr.Button
    pin: gr.Button
    timer: gr.Timer
    repeat: Repeat

    def outputs(self) -> list[Any]:
        """The components of `board_values`, in its order."""
        held = [self.job, self.seen, self.query, self.cancel, self.resume, self.timer]
        return [*self.shown, *held]


def board_values(core: Core, job: Job | None) -> list[Any]:
    """The board's values for a job; without one what is shown stays."""
    kept: list[Any] = [gr.skip()] * len(Shown._fields)
    if job is None:
        return [*kept, "", "", gr.skip(), *[gr.update(visible=False)] * 2, ticking(False)]
    return [
        *show_job(job, core.store.place(job)),
        job.id,
        mark(job),
        permalink.to_query(job.config, job.id),
        cancellable(not job.state.ended),
        gr.update(visible=job.state in GOES_ON),
        ticking(not job.state.ended),
    ]


def followed(core: Core, job_id: str, seen: str) -> Any:
    """The board's values, as far as they changed since the job was shown with that mark."""
    job = core.race(job_id)
    if job and mark(job) == seen:
        return gr.skip()
    if job and only_moved(seen, job):
        status = panels.status(job, core.store.place(job))
        return [status, *[gr.skip()] * len(Shown._fields), mark(job), *[gr.skip()] * 4]
    return board_values(core, job)


def draw_board(first: Shown, query: str) -> Board:
    """Lay the board out with what is shown at first, and its link."""
    with gr.Row(elem_classes="card statusline"):
        status = html(first.status, "status")
        cancel = draw_cancel("cancel")
        pin = gr.Button("Pin", elem_id="pin", scale=0, min_width=90)
        resume = gr.Button("Resume", visible=False, elem_id="resume", scale=0, min_width=110)
    headline = html(first.headline, "headline")
    trace = figure_card("trace", first.trace)
    with gr.Column(elem_classes="card"):
        html("<h2>Results</h2>")
        results = html(first.results, "results")
    with gr.Row(elem_classes="figures", equal_height=True):
        ends = figure_card("ends", first.ends)
        perplexity = figure_card("perplexity", first.perplexity)
    usage = figure_card("usage", first.usage)
    spread = figure_card("spread", first.spread)
    repeat = repeat_card("race", first.command, first.python, first.files)
    words = text.read("glossary")
    with gr.Accordion(words.title, open=False, elem_classes="card glossary"):
        prose(words.body)
    return Board(
        shown=[
            *[status, headline, trace, results, ends, perplexity, usage, spread],
            *[repeat.files, repeat.command, repeat.python],
        ],
        job=gr.Textbox(visible="hidden", elem_id="job"),
        seen=gr.Textbox(visible="hidden"),
        query=gr.Textbox(query, visible="hidden"),
        cancel=cancel,
        resume=resume,
        pin=pin,
        timer=draw_timer(),
        repeat=repeat,
    )


def wire_board(core: Core, controls: Controls, board: Board) -> list[Any]:
    """Run, resume, cancel and follow a job.

    Returns:
        The events after which another job is shown.
    """
    outputs = [controls.alert, *board.outputs()]

    def shown(act: Callable[[], Job | None]) -> list[Any]:
        return guarded(lambda: ["", *board_values(core, act())], len(outputs))

    def begin(*values: Any) -> list[Any]:
        return shown(lambda: start(core, Form(*values)))

    def go_on(job_id: str) -> list[Any]:
        return shown(lambda: resume(core, job_id))

    def poll(job_id: str, seen: str) -> Any:
        return followed(core, job_id, seen)

    def stop(job_id: str) -> list[Any]:
        return stopping(core, job_id)

    def patience() -> str:
        return "" if core.ready.is_set() else panels.alert(PREPARING)

    asked = controls.run.click(patience, None, controls.alert, **QUIET)
    begun = asked.then(begin, controls.inputs(), outputs, **AS_SENT)
    resumed = board.resume.click(go_on, board.job, outputs, **QUIET)
    stopped = [controls.alert, board.cancel, board.timer]
    board.cancel.click(stop, board.job, stopped, **QUIET)
    board.timer.tick(poll, [board.job, board.seen], board.outputs(), **QUIET)
    return [begun, resumed]


def start(core: Core, form: Form) -> Job:
    """Hand the form's experiment to the store.

    Raises:
        QuantcoreError: it cannot be run.
    """
    return core.store.submit(
        form.experiment(core.layers(form.checked().model, form.upload)), visitor()
    )


def resume(core: Core, job_id: str) -> Job | None:
    """Let a job that ended early go on."""
    job = core.race(job_id)
    return core.store.submit(job.config, visitor()) if job else None
