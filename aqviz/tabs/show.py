"""What the page shows of a job or a recording: every output's value, no component."""

from dataclasses import replace
from typing import NamedTuple

import plotly.graph_objects as go

from aqviz import notebook, permalink, report, text, theme
from aqviz.bundle import bundle
from aqviz.engine import Document
from aqviz.figures.ends import draw_ends, view_ends
from aqviz.figures.perplexity import draw_perplexity, view_perplexity
from aqviz.figures.spread import draw_spread, view_spread
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
    spread: str
    downloads: str
    command: str
    python: str


def show_job(job: Job, ahead: int) -> Shown:
    """What is known of a job."""
    return _shown(
        panels.status(job, ahead),
        job.document,
        job.state,
        job.id if job.document and job.document["runs"] else None,
        _named(job.config, job.document),
    )


def show_recording(document: Document | None) -> Shown:
    """The recorded run, or the page before anything ran."""
    experiment = _named(experiment_of(document["config"]), document) if document else None
    name = FIRST if document else None
    return _shown(panels.recorded(document), document, "done", name, experiment)


def _shown(
    status: str,
    document: Document | None,
    state: str,
    file: str | None,
    experiment: Experiment | None,
) -> Shown:
    key = document["key"] if document else None
    drawn = {name: theme.to_json(drawing, key) for name, drawing in figures(document).items()}
    return Shown(
        status=status,
        headline=panels.headline(document, state),
        results=panels.results(document),
        downloads=panels.downloads(file),
        **drawn,
        command=permalink.command(experiment) if experiment else "",
        python=notebook.python(experiment) if experiment else "",
    )


def figures(document: Document | None) -> dict[str, go.Figure]:
    """The race's figures by the names of their words."""
    return {
        "trace": draw_trace(view_trace(document)),
        "ends": draw_ends(view_ends(document)),
        "perplexity": draw_perplexity(view_perplexity(document)),
        "usage": draw_usage(view_usage(document)),
        "spread": draw_spread(view_spread(document)),
    }


def race_bundle(document: Document) -> bytes:
    """Everything of a race in one zip."""
    config = _named(experiment_of(document["config"]), document)
    told = report.sentence(document, "done"), permalink.command(config)
    drawn = {text.read(name).title: drawing for name, drawing in figures(document).items()}
    return bundle(config, document, drawn, report.table(document), told)


def _named(experiment: Experiment, document: Document | None) -> Experiment:
    """The experiment with the model that the default stood for."""
    used = (document or {}).get("model") or {}
    return replace(experiment, model=experiment.model or used.get("name"))
