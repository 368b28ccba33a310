"""What the page shows of a job or a recording: every output's value, no component."""

from dataclasses import replace
from typing import Any, NamedTuple

from aqviz import permalink
from aqviz.engine import Document
from aqviz.figures.ends import draw_ends, view_ends
from aqviz.figures.perplexity import draw_perplexity, view_perplexity
from aqviz.figures.trace import draw_trace, view_trace
from aqviz.figures.usage import draw_usage, view_usage
from aqviz.jobs import Job
from aqviz.recordings import FIRST, experiment_of
from aqviz.tabs import panels
from quantcore.experiment import Experiment


class Shown(NamedTuple):
    """The value of every output, in the page's order; figures as JSON."""

    status: str
    headline: str
    trace: str
    results: str
    ends: str
    perplexity: str
    usage: str
    downloads: str
    command: str


def show_job(job: Job, ahead: int) -> Shown:
    """What is known of a job."""
    return _shown(
        panels.status(job, ahead),
        job.document,
        job.state,
        job.id if job.document and job.document["runs"] else None,
        _command(job.experiment, job.document),
    )


def show_recording(document: Document | None) -> Shown:
    """The recorded run, or the page before anything ran."""
    command = _command(experiment_of(document["config"]), document) if document else ""
    name = FIRST if document else None
    return _shown(panels.recorded(document), document, "done", name, command)


def _shown(
    status: str, document: Document | None, state: str, file: str | None, command: str
) -> Shown:
    return Shown(
        status=status,
        headline=panels.headline(document, state),
        trace=_json(draw_trace(view_trace(document)), document),
        results=panels.results(document),
        ends=_json(draw_ends(view_ends(document)), document),
        perplexity=_json(draw_perplexity(view_perplexity(document)), document),
        usage=_json(draw_usage(view_usage(document)), document),
        downloads=panels.downloads(file),
        command=command,
    )


def _command(experiment: Experiment, document: Document | None) -> str:
    """The command that repeats the run, naming the model that the default stood for."""
    used = (document or {}).get("model") or {}
    return permalink.command(replace(experiment, model=experiment.model or used.get("name")))


def _json(figure: Any, document: Document | None) -> str:
    """A figure as JSON; a zoom is kept as long as the experiment is the same."""
    key = document["key"] if document else None
    return str(figure.update_layout(uirevision=key).to_json())
