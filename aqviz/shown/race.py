"""What the page shows of a job or a recording: every output's value, no component."""

from typing import NamedTuple

import plotly.graph_objects as go

from aqviz import metrics, notebook, permalink, theme
from aqviz.engine import Document
from aqviz.figures.ends import draw_ends, view_ends
from aqviz.figures.perplexity import draw_perplexity, view_perplexity
from aqviz.figures.spread import draw_spread, view_spread
from aqviz.figures.trace import draw_trace, view_trace
from aqviz.figures.usage import draw_usage, view_usage
from aqviz.jobs import Job
from aqviz.recordings import FIRST, experiment_of, named
from aqviz.shown import panels
from aqviz.store import Place
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
    files: str
    command: str
    python: str


def show_job(job: Job, place: Place) -> Shown:
    """What is known of a job."""
    return _shown(
        panels.status(job, place),
        job.document,
        job.state,
        named(job.config, job.document),
        _files(permalink.to_query(job.config, job.id), job.id, job.document),
    )


def show_recording(document: Document | None) -> Shown:
    """The recorded run, or the page before anything ran."""
    if document is None:
        return _shown(panels.recorded(None), None, "done", None, "")
    experiment = experiment_of(document["config"])
    files = _files(permalink.to_query(experiment), FIRST, document)
    return _shown(panels.recorded(document), document, "done", named(experiment, document), files)


def _shown(
    status: str,
    document: Document | None,
    state: str,
    experiment: Experiment | None,
    files: str,
) -> Shown:
    key = document["key"] if document else None
    drawn = {name: theme.to_json(drawing, key) for name, drawing in figures(document).items()}
    return Shown(
        status=status,
        headline=panels.headline(document, state),
        results=panels.results(document),
        files=files,
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


def _files(query: str, name: str, document: Document | None) -> str:
    """Links to a result of that name, where there is one."""
    return panels.downloads(query, name) if metrics.there(document) else ""
