"""A view of a study that anyone can run: status, Run, Cancel, and what is known so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import gradio as gr

from aqviz import permalink
from aqviz.core import Core
from aqviz.engine import Document
from aqviz.jobs import Job
from aqviz.parts import links
from aqviz.parts.cards import html
from aqviz.parts.events import AS_SENT, guarded
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
from aqviz.shown.study import find, status
from quantcore.errors import QuantcoreError


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
        cancel = draw_cancel(f"{name}-cancel")
    seen = gr.Textbox(visible="hidden")
    return Runner(run, cancel, told, alert, seen, draw_timer())


def values(core: Core, view: StudyView, state: Any) -> list[Any]:
    """The runner's values and the drawings of a state."""
    config = view.config(state)
    job, document = find(core, config)
    running = job is not None and not job.state.ended
    recorded = job is None and document is not None
    return [
        status(core, config, job, document),
        gr.update(visible=not running, value="Run" if document is None else "Run again"),
        cancellable(running),
        _seen(job, config),
        ticking(running),
        *(_of_recording(core.recorded, view, state) if recorded else view.show(state, document)),
    ]


@lru_cache(maxsize=links.KEPT)
def _of_recording(
    recorded: Callable[[Any], Document | None], view: StudyView, state: Any
) -> Sequence[Any]:
    """The drawings of a recording: it does not change, so neither do they."""
    return view.show(state, recorded(view.config(state)))


@dataclass(frozen=True)
class Study:
    """What the events of a study's view do."""

    core: Core
    view: StudyView
    drawn: int  # how many outputs are drawn

    def begin(self, *given: Any) -> list[Any]:
        """Run what the controls say."""

        def begun() -> list[Any]:
            state = self._state(given)
            self.core.store.submit(self.view.config(state), visitor())
            return ["", *values(self.core, self.view, state)]

        return guarded(begun, 1 + len(Runner.HELD) + self.drawn)

    def follow(self, seen: str, *given: Any) -> Any:
        """What a running job has new."""
        try:
            state = self._state(given)
        except QuantcoreError:
            return gr.skip()
        config = self.view.config(state)
        job = self.core.store.find(config)
        if _seen(job, config) == seen:
            return gr.skip()
        if job and seen.startswith(config.key()) and only_moved(seen, job):
            drawn = [gr.skip()] * self.drawn
            told = panels.status(job, self.core.store.place(job))
            return [told, gr.skip(), gr.skip(), _seen(job, config), gr.skip(), *drawn]
        return values(self.core, self.view, state)

    def stop(self, *given: Any) -> Any:
        """Ask the job to stop."""
        try:
            job = self.core.store.find(self.view.config(self._state(given)))
        except QuantcoreError:  # a control was emptied meanwhile
            return [gr.skip()] * 3
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

    links.wire(links.View(view.name, view.kind, show, grows=True), controls, outputs, link)
    runner.run.click(study.begin, inputs, outputs, **AS_SENT)
    stopped = [runner.alert, runner.cancel, runner.timer]
    runner.cancel.click(study.stop, inputs, stopped, **AS_SENT)
    runner.timer.tick(study.follow, [runner.seen, *inputs], outputs[1:], **AS_SENT)


def _seen(job: Job | None, config: Any) -> str:
    """Changes with every change of the job."""
    return f"{config.key()} {mark(job)}"
