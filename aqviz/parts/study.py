"""A view of a study that anyone can run: status, Run, Cancel, and what is known so far.

The view's state names the study, its key finds the result: recorded, kept from an earlier run, or
still growing. So a link needs no job in it, and what was computed once is never computed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gradio as gr

from aqviz import metrics, permalink
from aqviz.core import Core
from aqviz.engine import Document
from aqviz.jobs import Job
from aqviz.parts import links
from aqviz.parts.cards import html
from aqviz.parts.links import QUIET
from aqviz.parts.visitors import visitor
from aqviz.shown import panels
from quantcore.errors import QuantcoreError

POLL = 0.5  # seconds between two looks at a running job


@dataclass(frozen=True)
class StudyView:
    """A view and the study behind it.

    Attributes:
        name: In links.
        kind: The view's state; its fields are the controls' values, in order.
        config: A state -> the config of the study it shows.
        show: A state and the document, if there is one -> what is drawn.
    """

    name: str
    kind: type[Any]
    config: Callable[[Any], Any]
    show: Callable[[Any, Document | None], Sequence[Any]]


@dataclass(frozen=True)
class Runner:
    """The components around a job."""

    run: gr.Button
    cancel: gr.Button
    status: gr.HTML
    alert: gr.HTML
    seen: gr.Textbox
    timer: gr.Timer

    HELD: ClassVar = ("status", "run", "cancel", "seen", "timer")

    def outputs(self) -> list[Any]:
        """What `values` fills, before the drawings."""
        return [getattr(self, name) for name in self.HELD]


def draw_runner(name: str, words: str = "Run", status: str = "") -> Runner:
    """Run and Cancel with the status between; ids begin with the view's name."""
    alert = html("", f"{name}-alert")
    with gr.Row(elem_classes="card statusline"):
        told = html(status, f"{name}-status")
        run = gr.Button(words, variant="primary", elem_id=f"{name}-run", scale=0, min_width=110)
        cancel = gr.Button(
            "Cancel", visible=False, elem_id=f"{name}-cancel", scale=0, min_width=110
        )
    seen = gr.Textbox(visible="hidden")
    return Runner(run, cancel, told, alert, seen, gr.Timer(POLL, active=False))


def find(core: Core, config: Any) -> tuple[Job | None, Document | None]:
    """The job of a study, and what is known: what it has so far, or a recording."""
    job = core.store.find(config)
    document = job.document if job else None
    return job, document or core.recorded(config)


def downloads(view: str, state: Any, *documents: Document | None) -> str:
    """The link to everything of a view, where one of its studies has something."""
    there = any(map(metrics.there, documents))
    return panels.downloads(permalink.encode(view, state)) if there else ""


def values(core: Core, view: StudyView, state: Any) -> list[Any]:
    """The runner's values and the drawings of a state."""
    config = view.config(state)
    job, document = find(core, config)
    running = job is not None and not job.state.ended
    return [
        _status(core, config, job, document),
        gr.update(visible=not running, value="Run" if document is None else "Run again"),
        gr.update(visible=running, value="Cancel", interactive=True),
        _seen(job, config),
        gr.update(active=running),
        *view.show(state, document),
    ]


def stopping(core: Core, job_id: str) -> list[Any]:
    """Ask a job to stop: the alert and the button Cancel."""
    try:
        core.store.cancel(job_id, visitor())
    except QuantcoreError as error:
        return [panels.alert(str(error)), gr.skip()]
    return ["", gr.update(value="Stopping", interactive=False)]


@dataclass(frozen=True)
class Study:
    """What the events of a study's view do."""

    core: Core
    view: StudyView
    drawn: int  # how many outputs are drawn

    def begin(self, *given: Any) -> list[Any]:
        """Run what the controls say."""
        try:
            state = self._state(given)
            self.core.store.submit(self.view.config(state), visitor())
            return ["", *values(self.core, self.view, state)]
        except QuantcoreError as error:
            return [panels.alert(str(error)), *[gr.skip()] * (len(Runner.HELD) + self.drawn)]

    def follow(self, seen: str, *given: Any) -> Any:
        """What a running job has new."""
        try:
            state = self._state(given)
        except QuantcoreError:
            return gr.skip()
        config = self.view.config(state)
        if _seen(self.core.store.find(config), config) == seen:
            return gr.skip()
        return values(self.core, self.view, state)

    def stop(self, *given: Any) -> Any:
        """Ask the job to stop."""
        try:
            job = self.core.store.find(self.view.config(self._state(given)))
        except QuantcoreError:  # a control was emptied meanwhile
            return [gr.skip(), gr.skip()]
        return stopping(self.core, job.id if job else "")

    def _state(self, given: tuple[Any, ...]) -> Any:
        return permalink.from_values(self.view.kind, given)


def wire_study(
    core: Core,
    view: StudyView,
    controls: Sequence[Any],
    runner: Runner,
    drawn: Sequence[Any],
    link: gr.Textbox | None,
) -> None:
    """Redraw on every change, run on demand, follow the job, keep the link."""
    study = Study(core, view, len(drawn))
    outputs, inputs = [runner.alert, *runner.outputs(), *drawn], list(controls)

    def show(state: Any) -> list[Any]:
        return values(core, view, state)

    links.wire(view.name, view.kind, controls, show, outputs, link, grows=True)
    runner.run.click(study.begin, inputs, outputs, **QUIET)
    runner.cancel.click(study.stop, inputs, [runner.alert, runner.cancel], **QUIET)
    runner.timer.tick(study.follow, [runner.seen, *inputs], outputs[1:], **QUIET)


def _seen(job: Job | None, config: Any) -> str:
    """Changes with every change of the job."""
    return f"{config.key()} {job.version if job else 0}"


def _status(core: Core, config: Any, job: Job | None, document: Document | None) -> str:
    if job is not None:
        return panels.status(job, core.store.place(job))
    if document is not None:
        return panels.recorded(document)
    return panels.idle(_expected(core, config))


def _expected(core: Core, config: Any) -> str:
    """How long it will take, once this machine is measured."""
    if not core.ready.is_set():
        return ""
    try:
        return panels.duration(core.engine.seconds(config))
    except QuantcoreError:
        return ""
