"""The side of the page that shows a job: its components, and their values for a job."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from aqviz import permalink, text
from aqviz.jobs import Job
from aqviz.plot_host import plot
from aqviz.tabs.actions import Core
from aqviz.tabs.show import Shown, show_job

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
    timer: gr.Timer
    link: gr.Textbox

    def outputs(self) -> list[Any]:
        """The components of `board_values`, in its order."""
        held = [self.job, self.seen, self.query, self.cancel, self.resume, self.timer]
        return [*self.shown, *held]


def board_values(core: Core, job: Job | None) -> list[Any]:
    """The board's values for a job; without one what is shown stays."""
    kept: list[Any] = [gr.skip()] * len(Shown._fields)
    if job is None:
        return [*kept, "", -1, "", *[gr.update(visible=False)] * 2, gr.Timer(active=False)]
    return [
        *show_job(job, core.store.ahead(job)),
        job.id,
        job.version,
        permalink.to_query(job.experiment, job.id),
        gr.update(visible=not job.state.ended, value="Cancel", interactive=True),
        gr.update(visible=job.state in GOES_ON),
        gr.Timer(active=not job.state.ended),
    ]


def draw_board(first: Shown) -> Board:
    """Lay the board out with what is shown at first."""
    with gr.Row(elem_classes="card statusline"):
        status = _html(first.status, "status")
        cancel = gr.Button("Cancel", visible=False, elem_id="cancel", scale=0, min_width=110)
        resume = gr.Button("Resume", visible=False, elem_id="resume", scale=0, min_width=110)
    headline = _html(first.headline, "headline")
    trace = _figure("trace", first.trace)
    with gr.Column(elem_classes="card"):
        _html("<h2>Results</h2>")
        results = _html(first.results, "results")
    with gr.Row(elem_classes="figures", equal_height=True):
        ends = _figure("ends", first.ends)
        perplexity = _figure("perplexity", first.perplexity)
    usage = _figure("usage", first.usage)
    with gr.Column(elem_classes="card repeat"):
        _html("<h2>Repeat, keep, share</h2>")
        command = _copied("The same run on the command line", "command", first.command, lines=3)
        link = _copied("Link to this run", "link", "", lines=1)
        files = _html(first.downloads, "files")
    words = text.read("glossary")
    with gr.Accordion(words.title, open=False, elem_classes="card glossary"):
        gr.Markdown(words.body)
    return Board(
        shown=[status, headline, trace, results, ends, perplexity, usage, files, command],
        job=gr.Textbox(visible="hidden", elem_id="job"),
        seen=gr.Number(-1, visible="hidden"),
        query=gr.Textbox(visible="hidden"),
        cancel=cancel,
        resume=resume,
        timer=gr.Timer(POLL, active=False),
        link=link,
    )


def _figure(name: str, value: str) -> gr.HTML:
    words = text.read(name)
    with gr.Column(elem_classes="card figure", min_width=300):
        _html(f"<h2>{words.title}</h2>")
        view = plot(value, name)
        gr.Markdown(words.body, elem_classes="caption")
    return view


def _html(value: str, name: str | None = None) -> gr.HTML:
    return gr.HTML(value, elem_id=name, apply_default_css=False)


def _copied(label: str, name: str, value: str, lines: int) -> gr.Textbox:
    return gr.Textbox(
        value, label=label, lines=lines, interactive=False, buttons=["copy"], elem_id=name
    )
