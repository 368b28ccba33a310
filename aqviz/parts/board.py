"""The side of the page that shows a job: its components, and their values for a job."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from aqviz import permalink, text
from aqviz.core import Core
from aqviz.jobs import Job
from aqviz.parts.cards import Repeat, figure_card, html, repeat_card
from aqviz.shown.race import Shown, show_job

POLL = 0.5  # seconds between two looks at a running job
GOES_ON = {"cancelled", "failed", "interrupted"}  # states from which a job can be resumed


@dataclass(frozen=True)
class Board:
    """The components that show a job, and those that hold which one it is."""

    shown: list[Any]  # in the order of Shown
    job: gr.Textbox
    seen: gr.Number
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
        return [*kept, "", -1, gr.skip(), *[gr.update(visible=False)] * 2, gr.Timer(active=False)]
    return [
        *show_job(job, core.store.place(job)),
        job.id,
        job.version,
        permalink.to_query(job.config, job.id),
        gr.update(visible=not job.state.ended, value="Cancel", interactive=True),
        gr.update(visible=job.state in GOES_ON),
        gr.Timer(active=not job.state.ended),
    ]


def draw_board(first: Shown, query: str) -> Board:
    """Lay the board out with what is shown at first, and its link."""
    with gr.Row(elem_classes="card statusline"):
        status = html(first.status, "status")
        cancel = gr.Button("Cancel", visible=False, elem_id="cancel", scale=0, min_width=110)
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
        gr.Markdown(words.body)
    return Board(
        shown=[
            *[status, headline, trace, results, ends, perplexity, usage, spread],
            *[repeat.files, repeat.command, repeat.python],
        ],
        job=gr.Textbox(visible="hidden", elem_id="job"),
        seen=gr.Number(-1, visible="hidden"),
        query=gr.Textbox(query, visible="hidden"),
        cancel=cancel,
        resume=resume,
        pin=pin,
        timer=gr.Timer(POLL, active=False),
        repeat=repeat,
    )
