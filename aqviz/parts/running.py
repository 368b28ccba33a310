"""A run as the page follows it: its button Cancel, and the timer that asks how far it is."""

from typing import Any

import gradio as gr

from aqviz.core import Core
from aqviz.jobs import Job
from aqviz.parts.events import guarded
from aqviz.parts.visitors import visitor

POLL = 0.5  # seconds between two looks at a running job
SOON = 0.1  # the same once it was asked to stop


def draw_cancel(elem_id: str) -> gr.Button:
    """The button, which is seen while a job runs."""
    return gr.Button("Cancel", visible=False, elem_id=elem_id, scale=0, min_width=110)


def draw_timer() -> gr.Timer:
    """The timer, which runs while a job does."""
    return gr.Timer(POLL, active=False)


def ticking(running: bool, beat: float = POLL) -> Any:
    """The timer while a job runs, or while none does."""
    return gr.update(value=beat, active=running)


def mark(job: Job | None) -> str:
    """What a page keeps of the job that it shows, to know later what is new."""
    return f"{job.version} {job.grown}" if job else "0 0"


def only_moved(seen: str, job: Job | None) -> bool:
    """Whether a job shown with that mark has no more than its progress changed since.

    >>> only_moved("3 2", None)
    False
    """
    return job is not None and seen.split()[-1:] == [str(job.grown)]


def cancellable(running: bool) -> Any:
    """The button while a job runs, or while none does."""
    return gr.update(visible=running, value="Cancel", interactive=True)


def stopping(core: Core, job_id: str) -> list[Any]:
    """Ask a job to stop: the alert, the button and the timer."""

    def stopped() -> list[Any]:
        job = core.store.cancel(job_id, visitor())
        stops = job is not None and not job.state.ended
        button = gr.update(value="Stopping", interactive=False)
        return ["", button, ticking(True, SOON) if stops else gr.skip()]

    return guarded(stopped, 3)
