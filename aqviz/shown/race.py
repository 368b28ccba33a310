"""The race: what the page shows of jobs and recordings, and of what would be run."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import plotly.graph_objects as go

from aqviz import bundle, commands, inside, metrics, notebook, permalink, report, theme
from aqviz.bundle import Bundles
from aqviz.core import Core
from aqviz.engine import Document, check_layer
from aqviz.figures.ends import draw_ends, view_ends
from aqviz.figures.perplexity import draw_perplexity, view_perplexity
from aqviz.figures.pins import LETTERS, draw_pins, view_pins
from aqviz.figures.spread import draw_spread, view_spread
from aqviz.figures.trace import draw_trace, view_trace
from aqviz.figures.usage import draw_usage, view_usage
from aqviz.jobs import Job
from aqviz.permalink import Link
from aqviz.recordings import FIRST, experiment_of, named
from aqviz.shown import panels, race_panels
from aqviz.shown.form import Form
from aqviz.shown.inside import Inside
from aqviz.store import Place
from quantcore.errors import QuantcoreError
from quantcore.experiment import Experiment

LOOK = "Look inside these weights, group by group"
LOST = "this link's run is not kept here; press Run to make it again"


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
    shown = _shown(
        panels.status(job, place),
        job.document,
        job.state,
        named(job.config, job.document),
        _files(permalink.to_query(job.config, job.id), job.id, job.document),
    )
    if job.document is None or not inside.place(job.document["key"]).is_file():
        return shown
    return with_look(shown, "?" + permalink.encode("inside", Inside.first_of(job.document)))


def show_first(document: Document | None) -> Shown:
    """The recorded run of the first page, whose weights can be opened."""
    shown = show_recording(document)
    return (
        shown if document is None else with_look(shown, "?" + permalink.encode("inside", Inside()))
    )


def show_recording(document: Document | None) -> Shown:
    """A recorded run, or the page before anything ran."""
    if document is None:
        return _shown(panels.recorded(None), None, "done", None, "")
    experiment = experiment_of(document["config"])
    files = _files(permalink.to_query(experiment), FIRST, document)
    return _shown(panels.recorded(document), document, "done", named(experiment, document), files)


def with_look(shown: Shown, address: str) -> Shown:
    """What is shown, and under its table the way to its weights, opened."""
    link = f'<p class="files"><a class="file" href="{escape(address)}">{LOOK}</a></p>'
    return shown._replace(results=shown.results + link)


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
        headline=race_panels.headline(document, state),
        results=race_panels.results(document),
        files=files,
        **drawn,
        command=commands.of(experiment) if experiment else "",
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


def pinned(core: Core, so_far: str, job: str) -> tuple[str, ...]:
    """The ids of the pins with one more, as far as they are known here; the last ones stay."""
    known = [one for one in dict.fromkeys([*so_far.split(","), job]) if one and core.document(one)]
    return tuple(known[-len(LETTERS) :])


def show_pins(core: Core, ids: Sequence[str]) -> str:
    """The pinned runs side by side, as JSON."""
    documents = {one: core.document(one) for one in ids}
    races = {one: found for one, found in documents.items() if found and "runs" in found}
    return theme.to_json(draw_pins(view_pins(races)), ",".join(ids))


def first_facts(core: Core) -> str:
    """The facts of the recorded experiment, without an estimate: that takes a measurement."""
    if core.recording is None:
        return ""
    experiment, layers = core.first()
    layer = layers[experiment.layer]
    return race_panels.facts(experiment, (layer.out, layer.columns), None)


def check(core: Core, form: Form) -> tuple[str, str]:
    """The facts of what would be run, and what is wrong with it: one of them is empty."""
    try:
        layers = core.layers(form.checked().model, form.upload)
        experiment = form.experiment(layers)
        layer = layers[experiment.layer]
        seconds = core.engine.estimate(experiment, layer.out, layer.columns)
    except QuantcoreError as error:
        return "", panels.alert(str(error))
    return race_panels.facts(experiment, (layer.out, layer.columns), seconds), ""


def visit(core: Core, query: Mapping[str, str]) -> tuple[str, Form | None, Job | None]:
    """What a link asks for: what is wrong with it, the controls' values, the job."""
    if query.get("view", permalink.RACE) != permalink.RACE:
        return "", None, None
    job = None
    try:
        link = permalink.from_query(query)
        job = core.race(link.job) if link.job else None
        lost = panels.alert(LOST) if link.job and job is None else ""
        experiment = job.config if job else link.experiment
        if experiment is None:
            return lost, None, None
        job = job or core.store.find(experiment)
        layers = core.layers(experiment.model, experiment.problem)
        check_layer(experiment.layer, layers, experiment.problem)
        form = Form.of(experiment, layers)
    except QuantcoreError as error:  # what was found stays, though it cannot be run again
        return panels.alert(str(error)), None, job
    return lost, form, job


def bundles(core: Core, link: Link) -> Bundles:
    """What the view's zip holds.

    Raises:
        AbsentError: nothing is known of it yet.
    """
    document = _race_of(core, link)
    config = experiment_of(document["config"])
    told = report.sentence(document, "done")
    return {"": bundle.of_study(config, document, bundle.titled(figures(document)), told)}


def _race_of(core: Core, link: Link) -> Document:
    """The document of a link's job or experiment; of neither, the recording on the first page."""
    if link.job:
        job = core.race(link.job)
        if job is None:
            raise bundle.AbsentError(LOST)
        return bundle.there(job.document)
    recorded = core.recording
    if link.experiment is None:
        return bundle.there(recorded)
    job = core.store.find(link.experiment)
    if job is not None:
        return bundle.there(job.document)
    if recorded is None:
        raise bundle.AbsentError(bundle.NOTHING)
    same = experiment_of(recorded["config"]).key() == link.experiment.key()
    return bundle.there(recorded if same else None)
